r"""Dynamic soft labels: how alike two studies are, and how much of a row's target that earns them.

Each stream k (report text, clinical labels, report graph) gives a similarity in [0, 1] of every two studies:

    S^k_ij = clip((cos(h_i, h_j) - o_k) / (1 - o_k), 0, 1),    o_k = mean cosine over valid pairs i != j

(o = 0 for the clinical stream, whose cosines already span [0, 1]). The streams valid for both studies are
combined to S, small values are dropped, and the target row mixes the study itself with its likes:

    A_ij = S_ij 1[S_ij >= theta],   A_ii = 1,        Y_ij = (1 - alpha) delta_ij + alpha A_ij / sum_j A_ij

S is symmetric, and a study is valid on both sides or on neither, so the row sums of the image-to-text
direction are also those of the other: one target matrix serves both, though Y itself is not symmetric.

Source: the three streams are those of BC2C (arXiv:2505.22079) as reproduced publicly; the forms are ours.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clinicclip.losses.rows import dot

COMBINATIONS = ("mean", "product", "max")
CENTRED = ("text", "graph")  # streams whose common direction is removed
# A likeness that ties with theta (label cosines hit 0.5 exactly) must not depend on the order of a sum.
THETA_EPSILON = 1e-6
# With less spread than this all features look alike and say nothing about any pair.
SPREAD_EPSILON = 1e-3


class Stream(NamedTuple):
    """One source of likeness: a unit vector a study (0 where it has none) and whether it has one."""

    feature: Float[Array, "b f"]
    valid: Bool[Array, " b"]


class Moments(NamedTuple):
    """Sums over studies that the mean pairwise cosine is made of; they add up across devices."""

    vector: Float[Array, " f"]
    square: Float[Array, ""]
    studies: Float[Array, ""]


def stream(feature: Float[Array, "b f"], valid: Bool[Array, " b"]) -> Stream:
    """Normalised features without gradient; a study with a non-finite feature is not valid in the stream.

    A zero vector stays zero, so its cosine with anything is 0.
    """
    feature = jax.lax.stop_gradient(feature).astype(jnp.float32)
    valid = valid & jnp.isfinite(feature).all(axis=1)
    feature = jnp.where(valid[:, None], feature, 0.0)
    norm = jnp.linalg.norm(feature, axis=1, keepdims=True)
    return Stream(feature / jnp.where(norm > 0, norm, 1.0), valid)


def moments(block: Stream) -> Moments:
    """The sums of a block of studies."""
    feature, valid = block
    return Moments(jnp.sum(feature, axis=0), jnp.sum(feature**2), jnp.sum(valid, dtype=jnp.float32))


def mean_cosine(sums: Moments) -> Float[Array, ""]:
    """Mean cosine over the valid i != j: (||sum_i h_i||^2 - sum_i ||h_i||^2) / (M (M - 1)); 0 when M < 2."""
    pairs = sums.studies * (sums.studies - 1.0)
    return (jnp.sum(sums.vector**2) - sums.square) / jnp.maximum(pairs, 1.0)


def similarity(rows: Stream, columns: Stream, offset: Float[Array, ""] | float) -> Float[Array, "b n"]:
    """S^k in [0, 1] of every pair; 0 throughout when the mean cosine ``offset`` leaves no spread."""
    spread = 1.0 - offset
    scaled = (dot(rows.feature, columns.feature) - offset) / jnp.maximum(spread, SPREAD_EPSILON)
    return jnp.where(spread < SPREAD_EPSILON, 0.0, jnp.clip(scaled, 0.0, 1.0))


def combine(similarities: list[tuple[float, Float[Array, "b n"], Bool[Array, "b n"]]], how: str) -> Float[Array, "b n"]:
    """One likeness a pair from (weight, S^k, pair valid in k) of the streams valid for both; 0 when none is.

    ``mean`` is weighted; ``product`` and ``max`` run over the streams in use whatever their weight.
    """
    valid = functools.reduce(jnp.logical_or, (pair for _, _, pair in similarities))
    if how == "mean":
        total = sum(jnp.where(pair, weight * value, 0.0) for weight, value, pair in similarities)
        return total / jnp.where(valid, sum(jnp.where(pair, weight, 0.0) for weight, _, pair in similarities), 1.0)
    if how == "max":
        return functools.reduce(jnp.maximum, (jnp.where(pair, value, 0.0) for _, value, pair in similarities))
    product = functools.reduce(jnp.multiply, (jnp.where(pair, value, 1.0) for _, value, pair in similarities))
    return jnp.where(valid, product, 0.0)


def affinity(
    rows: Mapping[str, Stream],
    columns: Mapping[str, Stream],
    offsets: Mapping[str, Float[Array, ""]],
    weights: Mapping[str, float],
    how: str,
    theta: float,
    same: Bool[Array, "b n"],
) -> Float[Array, "b n"]:
    """A: the thresholded likeness of every pair, 1 for a study with itself (``same``)."""
    if not rows:
        return same.astype(jnp.float32)
    parts = [
        (
            weights[name],
            similarity(row, columns[name], offsets.get(name, 0.0)),
            row.valid[:, None] & columns[name].valid[None, :],
        )
        for name, row in rows.items()
    ]
    likeness = combine(parts, how)
    return jnp.where(same, 1.0, jnp.where(likeness >= theta - THETA_EPSILON, likeness, 0.0))


def targets(
    affinities: Float[Array, "b n"],
    same: Bool[Array, "b n"],
    columns: Bool[Array, " n"],
    alpha: Float[Array, ""] | float,
) -> Float[Array, "b n"]:
    """Y: each row's distribution over the valid columns (0 elsewhere)."""
    kept = jnp.where(columns[None, :], affinities, 0.0)
    # A valid row sums to at least A_ii = 1, so the maximum only keeps other rows from dividing by 0.
    share = kept / jnp.maximum(jnp.sum(kept, axis=1, keepdims=True), 1.0)
    return (1.0 - alpha) * (same & columns[None, :]) + alpha * share
