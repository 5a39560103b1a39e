r"""The whole loss from blocks of columns that travel round the devices; nothing with two batch-sized axes exists.

Each device keeps its own studies as rows. The columns (embeddings, features, masks) pass every device once, and
each block of rows meets each block of columns in a tile (``tiles``), of which only sums by row and by column
remain. The soft cross entropy of a row is made of them:

    log_i - (1 - alpha) z_ii - alpha weighed_i / mass_i

Likeness is symmetric, so that one tile serves both directions: the rows' sums stay, the columns' travel with them
and are complete when they are home. The backward pass goes round once more and computes the tiles again; the
gradient of the columns travels as their sums did.

Source: streaming contrastive losses are for one-hot targets (Inf-CL, arXiv:2410.17243); soft targets are ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from clinicclip.losses import dense, entailment, tiles
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec, Studies, check, devices_of, pad, require_block, studies
from clinicclip.losses.rows import MASKED, Mean, mean
from clinicclip.losses.tiles import Numbers, Side, Slopes, Sums

# Rows of a device that meet a block of columns at once: no config value, as it bounds memory only where a device has
# more studies than this, and `block` scales the same tile.
ROW_BLOCK = 1024
Meet = Callable[[Any, Any, Any, Any], tuple[Any, Any]]  # (rows, columns, here, there) -> (here, there)


@dataclass(frozen=True)
class Plan:
    """What is known before any array is."""

    spec: LossSpec
    mesh: Mesh
    axis: str


def loss(
    inputs: Inputs,
    spec: LossSpec,
    alpha: Float[Array, ""] | float | None = None,
    *,
    mesh: Mesh,
    axis: str = "data",
) -> tuple[Float[Array, ""], Metrics]:
    """Total loss in nats and its metrics, as ``dense.loss``, the studies split over ``axis`` of the mesh.

    A batch that does not divide by the devices, or a share by ``spec.block``, is filled up with masked studies.

    Raises:
        UserError: the mesh has no such axis, ``spec.block`` exceeds a device's share, or an input is missing.
    """
    check(inputs, spec)
    devices = devices_of(mesh, axis)
    require_block(spec, inputs.image.shape[0], devices)
    inputs = pad(inputs, devices)
    block = studies(inputs, spec)
    if spec.entailment:
        split = PartitionSpec(axis)
        count = partial(_counted, axis=axis)
        block = jax.shard_map(count, mesh=mesh, in_specs=split, out_specs=split)(block)
    numbers = Numbers(
        scale=jnp.exp(inputs.logit_scale.astype(jnp.float32)),
        bias=inputs.logit_bias.astype(jnp.float32),
        offsets=dense.centres(dense.moments(block)),
    )
    others = block.others
    side = Side(
        place=block.place,
        masks={"valid": block.valid} | {name: stream.valid for name, stream in others.items()} | block.kinds,
        embeddings={"image": block.image, "text": block.text}
        | {name: stream.feature for name, stream in others.items()},
        streams=block.streams,
        findings=block.findings,
        claims=block.claims,
        counts=block.counts,
    )
    here, there = _sums(Plan(spec, mesh, axis), side.embeddings, numbers, side._replace(embeddings={}))
    alpha = jnp.asarray(spec.alpha if alpha is None else alpha, jnp.float32)
    return dense.total(_means(side, here, there, numbers, spec, alpha), numbers.offsets, spec)


def _counted(rows: Studies, axis: str) -> Studies:
    return entailment.counted(rows, *jax.lax.all_gather((rows.findings, rows.valid), axis, tiled=True))


def _means(
    side: Side, here: Sums, there: Sums, numbers: Numbers, spec: LossSpec, alpha: Float[Array, ""]
) -> dict[str, Mean]:
    """Every term and diagnostic of ``dense.parts`` from the sums of each study as a row and as a column."""
    masks, used = side.masks, tiles.contrasts(spec)

    def own(left: str, right: str) -> Float[Array, " b"]:
        return numbers.scale * jnp.sum(side.embeddings[left] * side.embeddings[right], axis=1)

    def contrast(name: str, denied: Float[Array, " b"] | None = None) -> Float[Array, " b"]:
        left, right, among, soft, *_ = used[name]
        forward = here.log[name] if denied is None else jnp.logaddexp(here.log[name], denied)
        expected = 2.0 * own(left, right)
        if soft:
            alike = (here.weighed[name] + there.weighed[name]) / jnp.maximum(here.mass[among], 1.0)
            expected = (1.0 - alpha) * expected + alpha * alike
        return 0.5 * (forward + there.log[name] - expected)

    means = _diagnostics(side, here, alpha)
    if spec.clip:
        denied = None
        if spec.negation:
            alone = spec.neg_scope == "own"
            denied = jnp.where(masks["negated"], own("image", "negated"), MASKED) if alone else here.log["negated"]
            denied = denied + math.log(spec.negation)
        means["loss/clip"] = mean(contrast("clip", denied), masks["valid"])
    if spec.entailment:
        names = [name for name, this in used.items() if this.entailed]
        texts = [used[name].right for name in names]
        means["loss/entailment"] = entailment.from_sums(
            [(here.log[name], here.weighed[name], here.mass[name]) for name in names],
            [
                (there.log[name], there.weighed[name], masks[used[name].among] * side.counts[text])
                for name, text in zip(names, texts, strict=True)
            ],
            masks["valid"],
        )
    if spec.graph:
        means["loss/graph"] = mean(0.5 * (contrast("graph_image") + contrast("graph_text")), masks["graph"])
    if spec.off:
        pairs = jnp.maximum(jnp.sum(masks["valid"]), 1) if spec.off_reduction == "pairs" else 1.0
        means["loss/off"] = mean(here.other["off"] / pairs, masks["valid"])
    if spec.abnormal:
        means["loss/abnormal"] = mean(contrast("abnormal"), masks["abnormal"])
    return means


def _diagnostics(side: Side, here: Sums, alpha: Float[Array, ""]) -> dict[str, Mean]:
    """Those of ``dense.diagnostics``: Y is 1 - alpha + alpha / mass on the diagonal and alpha A / mass off it."""
    here = jax.lax.stop_gradient(here)
    valid = side.masks["valid"]
    mass = jnp.maximum(here.mass["valid"], 1.0)
    share = alpha / mass
    diagonal = 1.0 - alpha + share
    entropy = -xlogy(diagonal, diagonal) - xlogy(share, share) * (mass - 1.0) - share * here.other["surprise"]
    known = jnp.sum(valid, dtype=jnp.float32)
    means = {
        "soft_labels/diagonal_mass": mean(diagonal, valid),
        "soft_labels/row_entropy": mean(entropy, valid),
        "soft_labels/kept": Mean(jnp.sum(here.other["kept"]), known * (known - 1.0)),
        "accuracy/i2t": mean((here.other["own"] > here.other["best"]).astype(jnp.float32), valid),
    }
    for name, stream in side.streams.items():
        means[f"soft_labels/{name}/valid"] = mean(stream.valid.astype(jnp.float32), valid)
    return means


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(plan: Plan, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> tuple[Sums, Sums]:
    """The sums of every study as a row and as a column; ``rest`` is its side without embeddings."""
    split, whole = PartitionSpec(plan.axis), PartitionSpec()
    body = partial(_local_sums, plan)
    specs = split, whole, split
    return jax.shard_map(body, mesh=plan.mesh, in_specs=specs, out_specs=split)(embeddings, numbers, rest)


def _sums_forward(plan: Plan, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> Any:
    sums = _sums(plan, embeddings, numbers, rest)
    return sums, (embeddings, numbers, rest, sums)


def _sums_backward(plan: Plan, kept: Any, slopes: tuple[Sums, Sums]) -> Any:
    split, whole = PartitionSpec(plan.axis), PartitionSpec()
    body = partial(_local_slopes, plan)
    specs = (split, whole, split, split), split
    outs = split, whole, whole
    gradient, scale, bias = jax.shard_map(body, mesh=plan.mesh, in_specs=specs, out_specs=outs)(kept, slopes)
    return gradient, Numbers(scale, bias, jax.tree.map(jnp.zeros_like, kept[1].offsets)), None


_sums.defvjp(_sums_forward, _sums_backward)


def _local_sums(plan: Plan, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> tuple[Sums, Sums]:
    """A device's part of the forward pass."""
    rows, columns = _sides(plan.spec, embeddings, rest)
    here, there = tiles.nothing(plan.spec, jnp.zeros_like(rest.place, jnp.float32))
    meet = partial(tiles.meet, spec=plan.spec, numbers=numbers)
    return _go_round(meet, rows, columns, here, there, plan)


def _local_slopes(
    plan: Plan,
    kept: tuple[dict[str, Array], Numbers, Side, tuple[Sums, Sums]],
    slopes: tuple[Sums, Sums],
) -> tuple[dict[str, Array], Array, Array]:
    """A device's part of the backward pass: gradients of its embeddings, of scale and of bias."""
    embeddings, numbers, rest, sums = kept
    rows, columns = _sides(plan.spec, embeddings, rest)
    sent = [
        Slopes(known.log, slope.log, slope.weighed, {k: v for k, v in slope.other.items() if k == "off"})
        for known, slope in zip(sums, slopes, strict=True)
    ]
    here, there = jax.tree.map(jnp.zeros_like, (rows.embeddings, columns.embeddings))
    here |= {"bias": jnp.zeros_like(rest.place, jnp.float32)}
    pull = partial(tiles.pull, spec=plan.spec, numbers=numbers)
    here, there = _go_round(pull, (rows, sent[0]), (columns, sent[1]), here, there, plan)
    bias = jnp.sum(here.pop("bias"))
    # Every logit is scale x (row . column): the scale's gradient is that of the rows, projected on them.
    scale = sum((jnp.sum(rows.embeddings[name] * slope) for name, slope in here.items()), jnp.zeros(())) / numbers.scale
    gradient = {
        name: here.get(name, 0.0) + there.get(name, jnp.zeros_like(value)) for name, value in embeddings.items()
    }
    return gradient, jax.lax.psum(scale, plan.axis), jax.lax.psum(bias, plan.axis)


def _sides(spec: LossSpec, embeddings: dict[str, Array], rest: Side) -> tuple[Side, Side]:
    """The studies as rows and as columns, each with the embeddings that are used there."""
    used = [("image", "text"), *((this.left, this.right) for this in tiles.contrasts(spec).values())]
    lefts, rights = zip(*used, strict=True)

    def side(names: tuple[str, ...]) -> Side:
        return rest._replace(embeddings={name: embeddings[name] for name in sorted(set(names))})

    return side(lefts), side(rights)


def _go_round(meet: Meet, rows: PyTree, columns: PyTree, here: Any, there: Any, plan: Plan) -> tuple[Any, Any]:
    """Lets the rows of every device meet all columns; ``here`` stays with the rows, ``there`` goes with the columns."""
    devices = jax.lax.axis_size(plan.axis)
    share = jax.tree.leaves(rows)[0].shape[0]
    step = [(device, (device + 1) % devices) for device in range(devices)]
    rows, here = _cut((rows, here), min(ROW_BLOCK, share))
    columns, there = _cut((columns, there), plan.spec.block)

    def hop(carry: Any, _: None) -> tuple[Any, None]:
        columns, here, there = carry
        # What travels unchanged is sent before the work, so that the two can overlap.
        following = jax.lax.ppermute(columns, plan.axis, step)
        here, there = _meet_all(meet, rows, columns, here, there)
        return (following, here, jax.lax.ppermute(there, plan.axis, step)), None

    (_, here, there), _ = jax.lax.scan(hop, (columns, here, there), length=devices)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:share], (here, there))


def _meet_all(meet: Meet, rows: PyTree, columns: PyTree, here: PyTree, there: PyTree) -> tuple[PyTree, PyTree]:
    """Every block of rows with every block of columns, one tile after the other."""
    down, across = (jax.tree.leaves(side)[0].shape[0] for side in (rows, columns))

    def tile(carry: Any, number: Array) -> tuple[Any, None]:
        here, there = carry
        i, j = number % down, number // down
        new = meet(_at(rows, i), _at(columns, j), _at(here, i), _at(there, j))
        return (_put(here, new[0], i), _put(there, new[1], j)), None

    return jax.lax.scan(tile, (here, there), jnp.arange(down * across))[0]


def _cut(tree: PyTree, most: int) -> PyTree:
    """[b, ...] -> [blocks, block, ...] in the fewest blocks of at most ``most``; what fills the last is masked."""
    share = jax.tree.leaves(tree)[0].shape[0]
    blocks = math.ceil(share / most)
    block = math.ceil(share / blocks)

    def cut(array: Array) -> Array:
        padding = [(0, blocks * block - share)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(blocks, block, *array.shape[1:])

    return jax.tree.map(cut, tree)


def _at(tree: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), tree)


def _put(tree: PyTree, block: PyTree, index: Array) -> PyTree:
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, index, 0), tree, block)
