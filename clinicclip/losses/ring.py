r"""The whole loss from blocks of columns that travel round the devices; nothing with two batch-sized axes exists.

Each device keeps its own studies; a copy of them (embeddings, features, masks) travels. A block that is at home and a
block that visits meet in a tile (``tiles``), of which only sums by row and by column remain. The soft cross entropy
of a row is made of them:

    log_i - (1 - alpha) z_ii - alpha weighed_i / mass_i

Likeness is symmetric: when two devices' studies meet, each are the rows once and the columns once, with likenesses
computed once, so that the copy need go only half way round. The sums of those at home stay, the visitors' travel with
them and go home at the end. The backward pass goes round once more and computes the tiles again; the visitors'
gradient travels as their sums did.

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

from clinicclip.losses import dense, tiles
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec, check, devices_of, pad, require_block, studies
from clinicclip.losses.rows import MASKED, Mean, mean
from clinicclip.losses.tiles import Numbers, OneWay, Side, Slopes, Sums

# Rows of a device that meet a block of columns at once: no config value, as it bounds memory only where a device has
# more studies than this, and `block` scales the same tile.
ROW_BLOCK = 1024


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
    )
    here, there = _sums(Plan(spec, mesh, axis), side.embeddings, numbers, side._replace(embeddings={}))
    alpha = jnp.asarray(spec.alpha if alpha is None else alpha, jnp.float32)
    return dense.total(_means(side, here, there, numbers, spec, alpha), numbers.offsets, spec)


def _means(
    side: Side, here: Sums, there: Sums, numbers: Numbers, spec: LossSpec, alpha: Float[Array, ""]
) -> dict[str, Mean]:
    """Every term and diagnostic of ``dense.parts`` from the sums of each study as a row and as a column."""
    masks, used = side.masks, tiles.contrasts(spec)

    def own(left: str, right: str) -> Float[Array, " b"]:
        return numbers.scale * jnp.sum(side.embeddings[left] * side.embeddings[right], axis=1)

    def contrast(name: str, denied: Float[Array, " b"] | None = None) -> Float[Array, " b"]:
        left, right, among, soft, _ = used[name]
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
    sums = tiles.nothing(plan.spec, jnp.zeros_like(rest.place, jnp.float32))
    here, there = _go_round(tiles.meet, _side(plan.spec, embeddings, rest), sums, plan, numbers)
    return tiles.merge(here[0], there[0]), tiles.merge(here[1], there[1])


def _local_slopes(
    plan: Plan,
    kept: tuple[dict[str, Array], Numbers, Side, tuple[Sums, Sums]],
    slopes: tuple[Sums, Sums],
) -> tuple[dict[str, Array], Array, Array]:
    """A device's part of the backward pass: gradients of its embeddings, of scale and of bias."""
    embeddings, numbers, rest, sums = kept
    row, column = (
        Slopes(known.log, slope.log, slope.weighed, {k: v for k, v in slope.other.items() if k == "off"})
        for known, slope in zip(sums, slopes, strict=True)
    )
    side = _side(plan.spec, embeddings, rest)._replace(slopes=(row, column))
    nothing = jax.tree.map(jnp.zeros_like, side.embeddings) | {"bias": jnp.zeros_like(rest.place, jnp.float32)}
    gradient = jax.tree.map(jnp.add, *_go_round(tiles.pull, side, nothing, plan, numbers))
    bias = jnp.sum(gradient.pop("bias"))
    # Every logit is scale x (row . column), and so met twice in the gradients projected on the embeddings.
    met = sum((jnp.sum(side.embeddings[name] * slope) for name, slope in gradient.items()), jnp.zeros(()))
    scale = 0.5 * met / numbers.scale
    gradient = {name: gradient.get(name, jnp.zeros_like(value)) for name, value in embeddings.items()}
    return gradient, jax.lax.psum(scale, plan.axis), jax.lax.psum(bias, plan.axis)


def _side(spec: LossSpec, embeddings: dict[str, Array], rest: Side) -> Side:
    """The studies with the embeddings that other studies meet."""
    pairs = [("image", "text"), *((this.left, this.right) for this in tiles.contrasts(spec).values())]
    return rest._replace(
        embeddings={name: embeddings[name] for name in sorted({name for pair in pairs for name in pair})}
    )


def _go_round(one_way: OneWay, side: Side, nothing: PyTree, plan: Plan, numbers: Numbers) -> tuple[Any, Any]:
    """Every study meets all others: what its own device adds to ``nothing`` for it, and what the others add.

    After k hops a device is visited from k devices back. It makes both directions of that pair, except of its own
    studies and, half way round an even ring, where the device opposite makes the other one.
    """
    devices = jax.lax.axis_size(plan.axis)
    hops = devices // 2
    share = side.place.shape[0]

    def move(tree: PyTree, by: int) -> PyTree:
        return jax.lax.ppermute(tree, plan.axis, [(device, (device + by) % devices) for device in range(devices)])

    both = partial(tiles.both, partial(one_way, spec=plan.spec, numbers=numbers), spec=plan.spec, numbers=numbers)
    rows, here = _cut((side, nothing), min(ROW_BLOCK, share))
    columns, there = _cut((side, nothing), plan.spec.block)

    def hop(carry: Any, number: Array) -> tuple[Any, None]:
        columns, here, there = carry
        # What travels unchanged is sent before the work, so that the two can overlap.
        following = move(columns, 1)
        back = number > 0 if hops > 1 else None
        here, there = _meet_all(partial(both, back=back), rows, columns, here, there)
        return (following, here, move(there, 1)), None

    (columns, here, there), _ = jax.lax.scan(hop, (columns, here, there), jnp.arange(hops))
    last = jnp.array(True) if devices % 2 and hops else None
    here, there = _meet_all(partial(both, back=last), rows, columns, here, there)
    here, there = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:share], (here, there))
    return here, move(there, -hops)


def _meet_all(
    meet: Callable[..., Any], rows: PyTree, columns: PyTree, here: PyTree, there: PyTree
) -> tuple[PyTree, PyTree]:
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
