"""From a device batch to the embeddings of one step, at once or in microbatches under rematerialisation."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from clinicclip.errors import UserError
from clinicclip.losses import LossSpec
from clinicclip.models.clip import ClinicCLIP, normalize_images
from clinicclip.training.sharding import AXIS, microbatches

Batch = Mapping[str, Array]
TEXT_PARTS = ("ids", "owner", "position")  # of the rows, which hold all kinds of text
GRAPH_PARTS = ("nodes", "senders", "receivers", "mask")
TOWER_KEYS = (
    "image",
    *(f"text_{part}" for part in TEXT_PARTS),
    "text_start",
    "negated_start",
    *(f"graph_{part}" for part in GRAPH_PARTS),
)


class Embedded(NamedTuple):
    """Unit float32 rows of every study of the batch; None where the loss asks for no such stream."""

    image: Float[Array, "b d"]
    text: Float[Array, "b d"]
    negated: Float[Array, "b d"] | None
    graph: Float[Array, "b d"] | None


def embed(
    model: ClinicCLIP,
    params: PyTree,
    batch: Batch,
    key: Array,
    spec: LossSpec,
    *,
    mesh: Mesh,
    microbatch: int = 0,
    groups: int = 0,
) -> Embedded:
    """Embeddings of a whole batch; ``microbatch`` studies a device go through the towers at once (0 = all).

    Microbatches are cut device by device, so that each spans all devices and nothing moves between devices.
    Their activations are computed again in the backward pass (GradCache, arXiv:2101.06983). Dropout is drawn for each
    image and row of packed text from ``key`` and its place in the batch, whatever the devices and microbatches.
    ``groups`` of texts were packed apart; 0 = one for each device and microbatch.

    Raises:
        UserError: the batch or the model lacks what the loss needs, or the batch does not divide.
    """
    check(model, batch, spec)
    devices = mesh.shape[AXIS]
    parts = microbatches(batch["image"].shape[0], microbatch, devices)
    groups = (groups or devices * parts) // parts
    batch = _numbered({name: batch[name] for name in TOWER_KEYS if name in batch})
    if parts == 1:
        return _towers(model, params, batch, key, spec, groups)

    sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
    cut = {
        name: jax.lax.with_sharding_constraint(_cut(array, devices, parts), sharding) for name, array in batch.items()
    }

    @jax.checkpoint
    def one(part: Batch) -> Embedded:
        return _towers(model, params, part, key, spec, groups)

    embedded = jax.lax.map(one, cut)
    return jax.tree.map(lambda array: _join(array, devices), embedded)


def check(model: ClinicCLIP, batch: Batch, spec: LossSpec) -> None:
    """Refuse a batch without an array, or a model without a tower, that the loss needs. Raises UserError."""
    asking = {"negated": ("negation",), "graph": ("graph", "graph_stream")}
    weights = {stream: [name for name in names if getattr(spec, name)] for stream, names in asking.items()}
    if weights["graph"] and model.spec.graph is None:
        raise UserError(f"loss.{weights['graph'][0]} is above 0 but the model has no graph tower: add it or set 0.0")
    for key in TOWER_KEYS:
        stream = key.partition("_")[0]
        if key in batch or not weights.get(stream, [""]):
            continue
        if stream not in asking:
            raise UserError(f"the batch has no {key}: supply it")
        raise UserError(f"loss.{weights[stream][0]} is above 0 but the batch has no {key}: supply it or set 0.0")


def _numbered(batch: Batch) -> dict[str, Array]:
    """The batch with a number for every image and row of text, which stays with it wherever it is computed."""
    images, rows = batch["image"].shape[0], batch["text_ids"].shape[0]
    return {**batch, "image_number": jnp.arange(images), "text_number": images + jnp.arange(rows)}


def _towers(model: ClinicCLIP, params: PyTree, batch: Batch, key: Array, spec: LossSpec, groups: int) -> Embedded:
    def run(method: Callable[..., Array], *inputs: Array | int) -> Any:
        return model.apply({"params": params}, *inputs, method=method, rngs={"dropout": key})

    names = ("text", "negated") if spec.negation else ("text",)
    rows = (batch[f"text_{part}"] for part in TEXT_PARTS)
    starts = jnp.stack([batch[f"{name}_start"].reshape(groups, -1) for name in names], axis=1)
    texts = run(model.embed_text, *rows, starts.reshape(-1), groups, batch["text_number"])
    texts = texts.reshape(groups, len(names), -1, model.spec.dim).swapaxes(0, 1).reshape(len(names), -1, model.spec.dim)
    graph = None
    if spec.graph or spec.graph_stream:
        graph = run(model.embed_graph, *(batch[f"graph_{part}"] for part in GRAPH_PARTS))
    return Embedded(
        image=run(model.embed_image, normalize_images(batch["image"]), batch["image_number"]),
        text=texts[0],
        negated=texts[1] if spec.negation else None,
        graph=graph,
    )


def _cut(array: Array, devices: int, parts: int) -> Array:
    """[devices * parts * k, ...] -> [parts, devices * k, ...], each device keeping its own."""
    array = array.reshape(devices, parts, -1, *array.shape[1:]).swapaxes(0, 1)
    return array.reshape(parts, -1, *array.shape[3:])


def _join(array: Array, devices: int) -> Array:
    """The inverse of ``_cut``."""
    parts = array.shape[0]
    array = array.reshape(parts, devices, -1, *array.shape[2:]).swapaxes(0, 1)
    return array.reshape(-1, *array.shape[3:])
