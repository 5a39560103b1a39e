r"""The whole loss of a block of rows against a block of columns; with all studies in both, the reference.

    L(x, y) = 1/2 [CE(Y, softmax(x y^T / tau)) + CE(Y', softmax(y x^T / tau))]
    total   = clip L(v, t) + graph 1/2 [L(v, g) + L(t, g)] + off L_off + abnormal L_abnormal

Negated reports are further columns of the image-to-text softmax with target 0 (NegCLIP). Every term is the
sum over its valid rows divided by their number, so removing an invalid row by hand gives the same value.

Source: BC2C (arXiv:2505.22079); NegCLIP (arXiv:2210.01936).
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clinicclip.losses import entailment, off_clip, soft_labels
from clinicclip.losses.inputs import Inputs, LossSpec, Studies, check, studies
from clinicclip.losses.rows import MASKED, Mean, contrast, dot, log_sum_exp, mean, reduce
from clinicclip.losses.soft_labels import Moments

Metrics = dict[str, Float[Array, ""]]


def loss(
    inputs: Inputs, spec: LossSpec, alpha: Float[Array, ""] | float | None = None
) -> tuple[Float[Array, ""], Metrics]:
    """Total loss in nats and its metrics over one batch; ``alpha`` stands in for ``spec.alpha`` (warm-up).

    Raises:
        UserError: the inputs lack an array that the spec needs.
    """
    check(inputs, spec)
    block = studies(inputs, spec)
    if spec.entailment:
        block = entailment.counted(block, block.findings, block.valid)
    offsets = centres(moments(block))
    means = parts(block, block, offsets, inputs, spec, spec.alpha if alpha is None else alpha)
    return total(means, offsets, spec)


def moments(block: Studies) -> dict[str, Moments]:
    """Sums of the centred streams over a block: to be known of all studies before any two are compared."""
    streams = block.streams
    return {name: soft_labels.moments(streams[name]) for name in soft_labels.CENTRED if name in streams}


def centres(sums: Mapping[str, Moments]) -> dict[str, Float[Array, ""]]:
    """Mean cosine o of each centred stream."""
    return {name: soft_labels.mean_cosine(stream) for name, stream in sums.items()}


def parts(
    rows: Studies,
    columns: Studies,
    offsets: Mapping[str, Float[Array, ""]],
    inputs: Inputs,
    spec: LossSpec,
    alpha: Float[Array, ""] | float,
) -> dict[str, Mean]:
    """Every term and diagnostic of the rows against all columns, as undivided means."""
    scale = jnp.exp(inputs.logit_scale.astype(jnp.float32))
    same = rows.place[:, None] == columns.place[None, :]
    logits = scale * dot(rows.image, columns.text), scale * dot(rows.text, columns.image)
    affinities = soft_labels.affinity(
        rows.streams, columns.streams, offsets, spec.streams, spec.combine, spec.theta, same
    )
    target = soft_labels.targets(affinities, same, columns.valid, alpha)
    means = diagnostics(rows, columns, logits[0], affinities, target, same)
    if spec.clip:
        denied = negatives(rows, columns, scale, spec) if spec.negation else None
        means["loss/clip"] = mean(contrast(*logits, target, columns.valid, denied), rows.valid)
    if spec.entailment:
        means["loss/entailment"] = entailment.mean_of(rows, columns, scale, same)
    if spec.graph:
        target = soft_labels.targets(affinities, same, columns.others["graph"].valid, alpha)
        means["loss/graph"] = graph_alignment(rows, columns, target, scale)
    return means | off_clip.parts(rows, columns, logits, inputs.logit_bias.astype(jnp.float32), same, spec)


def negatives(rows: Studies, columns: Studies, scale: Float[Array, ""], spec: LossSpec) -> Float[Array, " b"]:
    """Weighted log-sum-exp of each image with the negated reports in scope; about ``MASKED`` if none."""
    if spec.neg_scope == "all":
        negated = columns.others["negated"]
        log_sum = log_sum_exp(scale * dot(rows.image, negated.feature), negated.valid)
    else:
        negated = rows.others["negated"]
        own = scale * jnp.sum(rows.image * negated.feature, axis=1)
        log_sum = jnp.where(negated.valid, own, MASKED)
    return log_sum + math.log(spec.negation)


def graph_alignment(rows: Studies, columns: Studies, target: Float[Array, "b n"], scale: Float[Array, ""]) -> Mean:
    """1/2 [L(v, g) + L(t, g)] over the studies that have a graph."""
    here, there = rows.others["graph"], columns.others["graph"]

    def align(row: Array, column: Array) -> Array:
        forward, backward = scale * dot(row, there.feature), scale * dot(here.feature, column)
        return contrast(forward, backward, target, there.valid)

    return mean(0.5 * (align(rows.image, columns.image) + align(rows.text, columns.text)), here.valid)


def diagnostics(
    rows: Studies,
    columns: Studies,
    logits: Float[Array, "b n"],
    affinities: Float[Array, "b n"],
    target: Float[Array, "b n"],
    same: Bool[Array, "b n"],
) -> dict[str, Mean]:
    """What a run logs beside the loss: how soft the targets are and how often the own report comes first."""
    others = rows.valid[:, None] & columns.valid[None, :] & ~same
    kept = others & (affinities > soft_labels.THETA_EPSILON)
    target = jax.lax.stop_gradient(target)
    logits = jax.lax.stop_gradient(logits)

    def row_sum(values: Array) -> Array:
        return jnp.sum(values, axis=1, dtype=jnp.float32)

    own = row_sum(jnp.where(same, logits, 0.0))
    best_other = jnp.max(jnp.where(others, logits, MASKED), axis=1)

    means = {
        "soft_labels/diagonal_mass": mean(row_sum(jnp.where(same, target, 0.0)), rows.valid),
        "soft_labels/row_entropy": mean(-row_sum(jax.scipy.special.xlogy(target, target)), rows.valid),
        "soft_labels/kept": Mean(jnp.sum(row_sum(kept)), jnp.sum(row_sum(others))),
        "accuracy/i2t": mean((own > best_other).astype(jnp.float32), rows.valid),
    }
    for name, stream in rows.streams.items():
        means[f"soft_labels/{name}/valid"] = mean(stream.valid.astype(jnp.float32), rows.valid)
    return means


def total(
    means: Mapping[str, Mean], offsets: Mapping[str, Float[Array, ""]], spec: LossSpec
) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of the terms and all metrics, from means over the whole batch."""
    metrics = reduce(means)
    metrics |= {f"soft_labels/{name}/mean_cosine": offset for name, offset in offsets.items()}
    used = [name for name in ("clip", "entailment", "graph", "off", "abnormal") if f"loss/{name}" in metrics]
    terms = [getattr(spec, name) * metrics[f"loss/{name}"] for name in used]
    metrics["loss"] = sum(terms[1:], terms[0])
    return metrics["loss"], metrics
