r"""The whole loss from blocks of studies that travel half way round the devices, without a batch-by-batch matrix.

Of the tiles in which all blocks of studies meet (``travel``) only sums by row and by column remain (``tiles``). The
soft cross entropy of a row is made of them:

    log_i - (1 - alpha) z_ii - alpha weighed_i / mass_i

The backward pass goes round once more and computes the tiles again.

Source: streaming contrastive losses are for one-hot targets (Inf-CL, arXiv:2410.17243); soft targets are ours.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from clinicclip.losses import dense, entailment, tiles
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec, Studies, check, devices_of, pad, require_block, studies
from clinicclip.losses.rows import MASKED, Mean, mean
from clinicclip.losses.tiles import Numbers, Side, Slopes, Sums
from clinicclip.losses.travel import Tour


@dataclass(frozen=True)
class Setup:
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
        UserError: the mesh has no such axis, an input is missing, or ``spec.block`` exceeds a device's share where
            the spec asks for this form ("auto" takes what there is).
    """
    check(inputs, spec)
    devices = devices_of(mesh, axis)
    require_block(spec, inputs.image.shape[0], devices)
    inputs = pad(inputs, devices)
    block = studies(inputs, spec)
    if spec.entailment:
        split = PartitionSpec(axis)
        count = partial(_counted, axis=axis, most=spec.block)
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
    sums = _sums(Setup(spec, mesh, axis), side.embeddings, numbers, side._replace(embeddings={}))
    alpha = jnp.asarray(spec.alpha if alpha is None else alpha, jnp.float32)
    return dense.total(_means(side, sums["row"], sums["column"], numbers, spec, alpha), numbers.offsets, spec)


def _counted(rows: Studies, axis: str, most: int) -> Studies:
    findings, valid = jax.lax.all_gather((rows.findings, rows.valid), axis, tiled=True)
    return entailment.counted(rows, findings, valid, most)


def _means(
    side: Side, row: Sums, column: Sums, numbers: Numbers, spec: LossSpec, alpha: Float[Array, ""]
) -> dict[str, Mean]:
    """Every term and diagnostic of ``dense.parts`` from the sums of each study as a row and as a column."""
    masks, used = side.masks, tiles.contrasts(spec)

    def own(left: str, right: str) -> Float[Array, " b"]:
        return numbers.scale * jnp.sum(side.embeddings[left] * side.embeddings[right], axis=1)

    def contrast(name: str, denied: Float[Array, " b"] | None = None) -> Float[Array, " b"]:
        left, right, among, soft, *_ = used[name]
        forward = row.log[name] if denied is None else jnp.logaddexp(row.log[name], denied)
        expected = 2.0 * own(left, right)
        if soft:
            alike = (row.weighed[name] + column.weighed[name]) / jnp.maximum(row.mass[among], 1.0)
            expected = (1.0 - alpha) * expected + alpha * alike
        return 0.5 * (forward + column.log[name] - expected)

    means = _diagnostics(side, row, alpha)
    if spec.clip:
        denied = None
        if spec.negation:
            alone = spec.neg_scope == "own"
            denied = jnp.where(masks["negated"], own("image", "negated"), MASKED) if alone else row.log["negated"]
            denied = denied + math.log(spec.negation)
        means["loss/clip"] = mean(contrast("clip", denied), masks["valid"])
    if spec.entailment:
        texts = {name: this for name, this in used.items() if this.entailed}
        means["loss/entailment"] = entailment.from_sums(
            [(row.log[name], row.weighed[name], row.mass[name]) for name in texts],
            [
                (column.log[name], column.weighed[name], masks[this.among] * side.counts[this.right])
                for name, this in texts.items()
            ],
            masks["valid"],
        )
    if spec.graph:
        means["loss/graph"] = mean(0.5 * (contrast("graph_image") + contrast("graph_text")), masks["graph"])
    if spec.off:
        pairs = jnp.maximum(jnp.sum(masks["valid"]), 1) if spec.off_reduction == "pairs" else 1.0
        means["loss/off"] = mean(row.other["off"] / pairs, masks["valid"])
    if spec.abnormal:
        means["loss/abnormal"] = mean(contrast("abnormal"), masks["abnormal"])
    return means


def _diagnostics(side: Side, row: Sums, alpha: Float[Array, ""]) -> dict[str, Mean]:
    """Those of ``dense.diagnostics``: Y is 1 - alpha + alpha / mass on the diagonal and alpha A / mass off it."""
    row = jax.lax.stop_gradient(row)
    valid = side.masks["valid"]
    mass = jnp.maximum(row.mass["valid"], 1.0)
    share = alpha / mass
    diagonal = 1.0 - alpha + share
    entropy = -xlogy(diagonal, diagonal) - xlogy(share, share) * (mass - 1.0) - share * row.other["surprise"]
    known = jnp.sum(valid, dtype=jnp.float32)
    means = {
        "soft_labels/diagonal_mass": mean(diagonal, valid),
        "soft_labels/row_entropy": mean(entropy, valid),
        "soft_labels/kept": Mean(jnp.sum(row.other["kept"]), known * (known - 1.0)),
        "accuracy/i2t": mean((row.other["own"] > row.other["best"]).astype(jnp.float32), valid),
    }
    for name, stream in side.streams.items():
        means[f"soft_labels/{name}/valid"] = mean(stream.valid.astype(jnp.float32), valid)
    return means


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(setup: Setup, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> dict[str, Sums]:
    """The sums of every study as a "row" and as a "column"; ``rest`` is its side without embeddings."""
    split, whole = PartitionSpec(setup.axis), PartitionSpec()
    body = partial(_local_sums, setup)
    specs = split, whole, split
    return jax.shard_map(body, mesh=setup.mesh, in_specs=specs, out_specs=split)(embeddings, numbers, rest)


def _sums_forward(setup: Setup, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> Any:
    sums = _sums(setup, embeddings, numbers, rest)
    return sums, (embeddings, numbers, rest, sums)


def _sums_backward(setup: Setup, kept: Any, slopes: dict[str, Sums]) -> Any:
    split, whole = PartitionSpec(setup.axis), PartitionSpec()
    body = partial(_local_slopes, setup)
    specs = (split, whole, split, split), split
    outs = split, whole, whole
    gradient, scale, bias = jax.shard_map(body, mesh=setup.mesh, in_specs=specs, out_specs=outs)(kept, slopes)
    return gradient, Numbers(scale, bias, jax.tree.map(jnp.zeros_like, kept[1].offsets)), None


_sums.defvjp(_sums_forward, _sums_backward)


def _local_sums(setup: Setup, embeddings: dict[str, Array], numbers: Numbers, rest: Side) -> dict[str, Sums]:
    """A device's part of the forward pass."""
    nothing = tiles.nothing(setup.spec, jnp.zeros_like(rest.place, jnp.float32))
    meet = partial(tiles.of_pair, tiles.meet, setup.spec, numbers)
    return Tour(meet, tiles.merge, setup.axis).go(_side(setup.spec, embeddings, rest), nothing, setup.spec.block)


def _local_slopes(
    setup: Setup,
    kept: tuple[dict[str, Array], Numbers, Side, dict[str, Sums]],
    slopes: dict[str, Sums],
) -> tuple[dict[str, Array], Array, Array]:
    """A device's part of the backward pass: gradients of its embeddings, of scale and of bias."""
    embeddings, numbers, rest, sums = kept
    given = {
        role: Slopes(found.log, slope.log, slope.weighed, {k: v for k, v in slope.other.items() if k == "off"})
        for role, found, slope in ((role, sums[role], slopes[role]) for role in sums)
    }
    side = _side(setup.spec, embeddings, rest)._replace(slopes=given)
    nothing = jax.tree.map(jnp.zeros_like, side.embeddings) | {"bias": jnp.zeros_like(rest.place, jnp.float32)}
    pull = partial(tiles.of_pair, tiles.pull, setup.spec, numbers)
    gradient = Tour(pull, tiles.merge, setup.axis).go(side, nothing, setup.spec.block)
    bias = jnp.sum(gradient.pop("bias"))
    # Every logit is scale x (row . column), and so met twice in the gradients projected on the embeddings.
    met = sum((jnp.sum(side.embeddings[name] * slope) for name, slope in gradient.items()), jnp.zeros(()))
    scale = 0.5 * met / numbers.scale
    gradient = {name: gradient.get(name, jnp.zeros_like(value)) for name, value in embeddings.items()}
    return gradient, jax.lax.psum(scale, setup.axis), jax.lax.psum(bias, setup.axis)


def _side(spec: LossSpec, embeddings: dict[str, Array], rest: Side) -> Side:
    """The studies with the embeddings that other studies meet."""
    pairs = [("image", "text"), *((this.left, this.right) for this in tiles.contrasts(spec).values())]
    used = sorted({name for pair in pairs for name in pair})
    return rest._replace(embeddings={name: embeddings[name] for name in used})
