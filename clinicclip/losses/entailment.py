r"""Each study against every text of the batch whose claims hold for it, its own and those of others.

A text j claims findings to be there or not to be. It holds for study i where the study shows every finding that the
text states and none that it denies; it may have been written of any study of the batch that it holds for:

    E_ij = 1[no claim of j is contradicted by the findings of i], E_jj = 1,      P_ij = E_ij / n_j,   n_j = sum_i E_ij
    L_i  = 1/2 [CE(P_i. / sum_j P_ij, softmax_j(v_i t_j / tau)) + CE(P_.i, softmax_j(v_j t_i / tau))]

so that of the texts that hold for a study those that hold for few weigh more. Negated reports are texts like others,
but nobody's own: a denial is false of the study it was made from and true of all that lack the finding.

Source: ours. MedCLIP (Wang et al., EMNLP 2022) likewise takes targets from the labels of images and of sentences.
"""

from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clinicclip.losses.inputs import Studies
from clinicclip.losses.rows import Mean, dot, log_sum_exp, mean
from clinicclip.losses.travel import cut

TINY = 1e-9
BLOCK = 1024  # studies that texts are held against at once where only their number is wanted
Sums = tuple[Float[Array, " b"], Float[Array, " b"], Float[Array, " b"]]


def holds(findings: Float[Array, "b f"], claims: Float[Array, "n f"]) -> Float[Array, "b n"]:
    """1 where a study contradicts no claim of a text (1 = states a finding, -1 = denies it), else 0."""
    stated = jnp.sum(claims > 0, axis=1, dtype=jnp.float32)
    return (stated[None, :] - dot(findings, claims) < 0.5).astype(jnp.float32)


def counted(
    rows: Studies, findings: Float[Array, "n f"] | None, valid: Bool[Array, " n"], most: int = BLOCK
) -> Studies:
    """The studies with n of each of their texts: how many of all valid studies it holds for, its own at any rate.

    Texts are held against at most ``most`` studies at once.
    """
    assert findings is not None and rows.findings is not None
    everyone = cut((findings, valid), most)

    def count(claims: Array) -> Array:
        def add(total: Array, some: tuple[Array, Array]) -> tuple[Array, None]:
            return total + jnp.sum(jnp.where(some[1][:, None], holds(some[0], claims), 0.0), axis=0), None

        return jax.lax.scan(add, jnp.zeros_like(claims[:, 0]), everyone)[0]

    counts = {name: count(claims) for name, claims in rows.claims.items()}
    own = jax.vmap(lambda findings, claims: holds(findings[None], claims[None])[0, 0])(
        rows.findings, rows.claims["text"]
    )
    return rows._replace(counts=counts | {"text": counts["text"] + jnp.where(rows.valid, 1.0 - own, 0.0)})


def mean_of(rows: Studies, columns: Studies, scale: Float[Array, ""], same: Bool[Array, "b n"]) -> Mean:
    """The term over the rows."""
    assert rows.findings is not None and columns.findings is not None
    forward, backward = [], []
    for name in rows.claims:
        (here, known), (there, among) = _texts(rows, name), _texts(columns, name)
        own = (same & (name == "text")).astype(jnp.float32)
        z, back = scale * dot(rows.image, there), scale * dot(here, columns.image)
        share = jnp.where(among[None, :], jnp.maximum(holds(rows.findings, columns.claims[name]), own), 0.0)
        share /= jnp.maximum(columns.counts[name], 1.0)[None, :]
        forward.append((log_sum_exp(z, among), jnp.sum(share * z, axis=1), jnp.sum(share, axis=1)))
        share = jnp.where(columns.valid[None, :], jnp.maximum(holds(columns.findings, rows.claims[name]).T, own), 0.0)
        backward.append((log_sum_exp(back, columns.valid), jnp.sum(share * back, axis=1), known * rows.counts[name]))
    return from_sums(forward, backward, rows.valid)


def from_sums(forward: Sequence[Sums], backward: Sequence[Sums], valid: Bool[Array, " b"]) -> Mean:
    """The term from what is known of each study by kind of text.

    ``forward``: log-sum-exp of its image over the texts, sum of P z, sum of P; ``backward``: log-sum-exp of its text
    over the images, sum of E z, and n, 0 where it has no such text. A text that holds for no study is left out.
    """
    logs, weighed, mass = zip(*forward, strict=True)
    there = reduce(jnp.logaddexp, logs) - sum(weighed) / jnp.maximum(sum(mass), TINY)
    values = [jnp.where(n > 0, log - total / jnp.maximum(n, 1.0), 0.0) for log, total, n in backward]
    texts = sum((n > 0).astype(jnp.float32) for _, _, n in backward)
    return mean(0.5 * (there + sum(values) / jnp.maximum(texts, 1.0)), valid)


def _texts(side: Studies, name: str) -> tuple[Array, Array]:
    return (side.text, side.valid) if name == "text" else side.others["negated"]
