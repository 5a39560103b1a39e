"""From a device batch to the embeddings of one step, at once or in microbatches under rematerialisation."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

from clinicclip.losses import LossSpec
from clinicclip.models.clip import ClinicCLIP, normalize_images
from clinicclip.training.sharding import AXIS, microbatches

Batch = Mapping[str, Array]
TOWER_KEYS = (
    "image",
    *(f"{text}_{part}" for text in ("text", "negated") for part in ("ids", "owner", "position", "start")),
    *(f"graph_{part}" for part in ("nodes", "senders", "receivers", "mask")),
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
    Their activations are computed again in the backward pass with the same dropout (GradCache,
    arXiv:2101.06983). ``groups`` of texts were packed apart; 0 = one for each device and microbatch.
    """
    devices = mesh.shape[AXIS]
    parts = microbatches(batch["image"].shape[0], microbatch, devices)
    groups = (groups or devices * parts) // parts
    batch = {name: batch[name] for name in TOWER_KEYS if name in batch}
    if parts == 1:
        return _towers(model, params, batch, key, spec, groups)

    sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))
    cut = {
        name: jax.lax.with_sharding_constraint(_cut(array, devices, parts), sharding)
        for name, array in batch.items()
    }

    @jax.checkpoint
    def one(piece: tuple[Array, Batch]) -> Embedded:
        index, part = piece
        return _towers(model, params, part, jax.random.fold_in(key, index), spec, groups)

    embedded = jax.lax.map(one, (jnp.arange(parts), cut))
    return jax.tree.map(lambda array: _join(array, devices), embedded)


def _towers(
    model: ClinicCLIP, params: PyTree, batch: Batch, key: Array, spec: LossSpec, groups: int
) -> Embedded:
    def run(method: object, *inputs: Array | int, train: bool) -> Array:
        flag = {"train": True} if train else {}
        return model.apply({"params": params}, *inputs, method=method, rngs={"dropout": key}, **flag)

    names = ("text", "negated") if spec.negation else ("text",)
    joined = _texts(batch, names, groups)
    texts = run(model.embed_text, *joined, groups, train=True).reshape(groups, len(names), -1, model.spec.dim)
    texts = [texts[:, k].reshape(-1, model.spec.dim) for k in range(len(names))]
    graph = None
    if spec.graph or spec.graph_stream:
        parts = (batch[f"graph_{part}"] for part in ("nodes", "senders", "receivers", "mask"))
        graph = run(model.embed_graph, *parts, train=False)
    return Embedded(
        image=run(model.embed_image, normalize_images(batch["image"]), train=True),
        text=texts[0],
        negated=texts[1] if spec.negation else None,
        graph=graph,
    )


def _texts(batch: Batch, names: tuple[str, ...], groups: int) -> tuple[Array, Array, Array, Array]:
    """All kinds of text as one packed batch, so that the tower runs once; groups hold rows of every kind."""

    def grouped(name: str, part: str) -> Array:
        array = batch[f"{name}_{part}"]
        return array.reshape(groups, -1, *array.shape[1:])

    columns = {"ids": [], "owner": [], "position": [], "start": []}
    texts = tokens = 0  # of the kinds before, in a group
    for name in names:
        for part in ("ids", "position"):
            columns[part].append(grouped(name, part))
        owner, start = grouped(name, "owner"), grouped(name, "start")
        columns["owner"].append(jnp.where(owner > 0, owner + texts, 0))
        columns["start"].append(start + tokens)
        texts, tokens = texts + start.shape[1], tokens + owner.shape[1] * owner.shape[2]
    joined = {part: jnp.concatenate(arrays, axis=1) for part, arrays in columns.items()}
    return tuple(array.reshape(-1, *array.shape[2:]) for array in joined.values())


def _cut(array: Array, devices: int, parts: int) -> Array:
    """[devices * parts * k, ...] -> [parts, devices * k, ...], each device keeping its own."""
    array = array.reshape(devices, parts, -1, *array.shape[1:]).swapaxes(0, 1)
    return array.reshape(parts, -1, *array.shape[3:])


def _join(array: Array, devices: int) -> Array:
    """The inverse of ``_cut``."""
    parts = array.shape[0]
    array = array.reshape(parts, devices, -1, *array.shape[2:]).swapaxes(0, 1)
    return array.reshape(-1, *array.shape[3:])
