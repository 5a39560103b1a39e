r"""Each study against every text of the batch whose claims hold for it, its own and those of others.

A text j claims findings to be there or not to be; it is entailed by study i where the study shows every finding
that it states and none that it denies:

    E_ij = 1[no claim of j is contradicted by the findings of i],    E_ii = 1 for its own report
    L_i  = 1/2 [CE(E_i. / sum_j E_ij, softmax_j(v_i t_j / tau)) + CE(E_.i / sum_j E_ji, softmax_j(v_j t_i / tau))]

Negated reports are texts like others: a denial is false of its own study and a positive of all that lack the finding.
Source: ours. MedCLIP (Wang et al., EMNLP 2022) likewise takes its targets from labels of images and sentences.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clinicclip.losses.inputs import Studies
from clinicclip.losses.rows import Mean, dot, log_sum_exp, mean


def holds(findings: Float[Array, "b f"], claims: Float[Array, "n f"]) -> Bool[Array, "b n"]:
    """Whether a study contradicts no claim of a text: shows all that it states (1), nothing that it denies (-1)."""
    stated = jnp.sum(claims > 0, axis=1, dtype=jnp.float32)
    contradicted = stated[None, :] - dot(findings, claims)
    return contradicted < 0.5


def shares(findings: Float[Array, "b f"], claims: Float[Array, "n f"], own: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """E: 1 where a text holds for a study or is its ``own``."""
    return (holds(findings, claims) | own).astype(jnp.float32)


def mean_of(rows: Studies, columns: Studies, scale: Float[Array, ""], same: Bool[Array, "b n"]) -> Mean:
    """The term over the rows."""
    forward, backward = [], []
    for name in [name for name in ("text", "negated") if name in rows.claims]:
        (here, known), (there, among) = _texts(rows, name), _texts(columns, name)
        own = same & (name == "text")
        z = scale * dot(rows.image, there)
        share = shares(rows.claims["findings"], columns.claims[name], own) * among[None, :]
        forward.append((log_sum_exp(z, among), jnp.sum(share * z, axis=1), jnp.sum(share, axis=1)))
        z = scale * dot(here, columns.image)
        share = shares(columns.claims["findings"], rows.claims[name], own.T).T * columns.valid[None, :]
        backward.append((log_sum_exp(z, columns.valid), jnp.sum(share * z, axis=1), jnp.sum(share, axis=1), known))
    return reduced(forward, backward, rows.valid)


def reduced(
    forward: Sequence[tuple[Array, Array, Array]], backward: Sequence[tuple[Array, Array, Array, Array]], valid: Array
) -> Mean:
    """The mean over studies from what is known of each by kind of text: log-sum-exp, sum of E z, sum of E.

    ``forward`` of its image over all texts, ``backward`` of its text over all images and whether it has one. A text
    that holds for no study of the batch has no target and is left out.
    """
    log, weighed, mass = (
        functools.reduce(join, part)
        for join, part in zip((jnp.logaddexp, jnp.add, jnp.add), zip(*forward, strict=True), strict=True)
    )
    values = [(known & (mass > 0), log - weighed / jnp.maximum(mass, 1.0)) for log, weighed, mass, known in backward]
    texts = sum(used.astype(jnp.float32) for used, _ in values)
    back = sum(jnp.where(used, value, 0.0) for used, value in values) / jnp.maximum(texts, 1.0)
    return mean(0.5 * (log - weighed / jnp.maximum(mass, 1.0) + back), valid)


def _texts(side: Studies, name: str) -> tuple[Array, Array]:
    return (side.text, side.valid) if name == "text" else side.others["negated"]
