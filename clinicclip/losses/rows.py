"""Per-row values of a softmax over masked columns, and the one way they are reduced."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Stands for minus infinity in a log-sum-exp: a masked row stays finite, so its gradient is 0 and never NaN.
MASKED = -1e30


class Mean(NamedTuple):
    """A mean that has not been divided yet, so that parts from several devices add up exactly."""

    total: Float[Array, ""]
    rows: Float[Array, ""]


def mean(values: Float[Array, " b"], valid: Bool[Array, " b"]) -> Mean:
    """Sum over valid rows and their number; rows that are not valid may hold anything finite."""
    return Mean(jnp.sum(jnp.where(valid, values, 0.0)), jnp.sum(valid, dtype=jnp.float32))


def reduce(means: Mapping[str, Mean]) -> dict[str, Float[Array, ""]]:
    """Each total divided by its rows; a mean over nothing is 0."""
    return {name: part.total / jnp.maximum(part.rows, 1.0) for name, part in means.items()}


def dot(rows: Float[Array, "b d"], columns: Float[Array, "n d"]) -> Float[Array, "b n"]:
    """Inner products in full float32, also where the hardware by default rounds operands to bfloat16."""
    return jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)


def log_sum_exp(logits: Float[Array, "b n"], columns: Bool[Array, " n"]) -> Float[Array, " b"]:
    """Log-sum-exp of every row over the valid columns; about ``MASKED`` where no column is valid."""
    return jax.nn.logsumexp(jnp.where(columns[None, :], logits, MASKED), axis=1)


def cross_entropy(
    logits: Float[Array, "b n"],
    target: Float[Array, "b n"],
    columns: Bool[Array, " n"],
    negatives: Float[Array, " b"] | None = None,
) -> Float[Array, " b"]:
    """Cross entropy of each row's target with the softmax over its valid columns, in nats.

    ``target`` sums to 1 over the valid columns and is 0 elsewhere, so the cross entropy is the row's
    log-sum-exp minus its expected logit. ``negatives`` is the log-sum-exp of further columns with target 0.
    """
    normaliser = log_sum_exp(logits, columns)
    if negatives is not None:
        normaliser = jnp.logaddexp(normaliser, negatives)
    return normaliser - jnp.sum(target * logits, axis=1)


def contrast(
    forward: Float[Array, "b n"],
    backward: Float[Array, "b n"],
    target: Float[Array, "b n"],
    columns: Bool[Array, " n"],
    negatives: Float[Array, " b"] | None = None,
) -> Float[Array, " b"]:
    """L(x, y) a row: the mean of the cross entropies of x against y (``forward``) and of y against x.

    ``negatives`` join the forward direction only.
    """
    there = cross_entropy(forward, target, columns, negatives)
    return 0.5 * (there + cross_entropy(backward, target, columns))
