r"""One tile of the loss: a block of rows against a block of columns, and what is kept of it.

Of a tile's logits z and likenesses A only sums remain, by row and, for the other direction, by column:

    log_i = log sum_j exp(z_ij),    mass_i = sum_j A_ij,    weighed_i = sum_j A_ij z_ij

In the backward pass, where these sums are known over all studies, the tile adds to the gradients of both blocks

    dL/dz_ij = dlog_i exp(z_ij - log_i) + dlog_j exp(z_ij - log_j) + A_ij (dweighed_i + dweighed_j)
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from clinicclip.losses import entailment, off_clip, soft_labels
from clinicclip.losses.inputs import LossSpec
from clinicclip.losses.rows import MASKED, dot, log_sum_exp
from clinicclip.losses.soft_labels import Stream

PerStudy = dict[str, Float[Array, " b"]]
Embeddings = dict[str, Float[Array, "b d"]]
Logits = dict[tuple[str, str], Float[Array, "b n"]]


class Contrast(NamedTuple):
    """A matrix of logits that is a softmax over its columns, and over its rows if ``both``.

    Where the target is shared, it is by those alike or, if ``entailed``, by every text that holds for an image.
    """

    left: str  # the embedding of the rows
    right: str  # the embedding of the columns
    among: str  # the mask of the columns
    soft: bool = False  # the target is shared
    both: bool = True
    entailed: bool = False
    down: str = ""  # the mask of the rows in the other direction; that of the columns where nothing is said


class Numbers(NamedTuple):
    """What all tiles have in common."""

    scale: Float[Array, ""]  # 1 / tau
    bias: Float[Array, ""]
    offsets: dict[str, Float[Array, ""]]  # mean cosine of each centred stream


class Side(NamedTuple):
    """The rows, or the columns, of a tile."""

    place: Int[Array, " b"]
    masks: dict[str, Bool[Array, " b"]]
    embeddings: Embeddings
    streams: dict[str, Stream]
    findings: Float[Array, "b f"] | None  # what texts are held to, their claims, and how many studies each holds for
    claims: dict[str, Float[Array, "b f"]]
    counts: dict[str, Float[Array, " b"]]


class Sums(NamedTuple):
    """Of each study, over all studies it has met."""

    log: PerStudy  # log-sum-exp of its logits, by contrast
    weighed: PerStudy  # logits weighed by likeness, by soft contrast
    mass: PerStudy  # of rows only, as that of columns is known: likeness by mask, shares by entailed contrast
    other: PerStudy  # of rows only: "surprise" sum A log A, "kept" pairs, "own" logit, "best" of another study, "off"


class Slopes(NamedTuple):
    """The derivative of the loss by each study's sums, and the log-sum-exps that it is made with."""

    known: PerStudy
    log: PerStudy
    weighed: PerStudy
    off: PerStudy  # "off" of rows, if in use


def contrasts(spec: LossSpec) -> dict[str, Contrast]:
    """All matrices of logits that a spec needs, by name."""
    soft, found = bool(spec.streams), {}
    if spec.clip:
        found["clip"] = Contrast("image", "text", "valid", soft)
    if spec.negation and spec.neg_scope == "all":
        found["negated"] = Contrast("image", "negated", "negated", both=False)
    if spec.entailment:
        found["entailed_text"] = Contrast("image", "text", "valid", soft=True, entailed=True)
        if spec.negation:
            found["entailed_negated"] = Contrast("image", "negated", "negated", soft=True, entailed=True, down="valid")
    if spec.graph:
        found["graph_image"] = Contrast("image", "graph", "graph", soft)
        found["graph_text"] = Contrast("text", "graph", "graph", soft)
    if spec.abnormal:
        found["abnormal"] = Contrast("image", "text", "abnormal")
    return found


def nothing(spec: LossSpec, like: Float[Array, " b"]) -> tuple[Sums, Sums]:
    """The sums of rows and of columns before any tile; ``like`` is a zero for each."""
    used = contrasts(spec)
    soft = {name: this.among for name, this in used.items() if this.soft}
    shared = [name for name, this in used.items() if this.entailed]
    alike = {among for name, among in soft.items() if name not in shared}
    low, zero = like + MASKED, like
    here = Sums(
        log=dict.fromkeys(used, low),
        weighed=dict.fromkeys(soft, zero),
        mass=dict.fromkeys(sorted({"valid", *alike, *shared}), zero),
        other={"surprise": zero, "kept": zero, "own": low, "best": low} | ({"off": zero} if spec.off else {}),
    )
    there = Sums({name: low for name, this in used.items() if this.both}, dict.fromkeys(soft, zero), {}, {})
    return here, there


def meet(rows: Side, columns: Side, here: Sums, there: Sums, *, spec: LossSpec, numbers: Numbers) -> tuple[Sums, Sums]:
    """Adds a tile to the sums of its rows, ``here``, and of its columns, ``there``."""
    same, affinity, logits = _compare(rows, columns, spec, numbers)
    log, weighed, back_log, back_weighed = dict(here.log), dict(here.weighed), dict(there.log), dict(there.weighed)
    mass = dict(here.mass)
    for name, this in contrasts(spec).items():
        z, down, across = logits[this.left, this.right], rows.masks[this.down or this.among], columns.masks[this.among]
        log[name] = jnp.logaddexp(log[name], log_sum_exp(z, across))
        if this.both:
            back_log[name] = jnp.logaddexp(back_log[name], log_sum_exp(z.T, down))
        if this.soft:
            share, back = _shares(rows, columns, this, same) if this.entailed else (affinity, affinity)
            weighed[name] += jnp.sum(jnp.where(across[None, :], share * z, 0.0), axis=1)
            back_weighed[name] += jnp.sum(jnp.where(down[:, None], back * z, 0.0), axis=0)
            if this.entailed:
                mass[name] += jnp.sum(jnp.where(across[None, :], share, 0.0), axis=1)
    for name in mass.keys() & columns.masks.keys():
        mass[name] += jnp.sum(jnp.where(columns.masks[name][None, :], affinity, 0.0), axis=1)
    other = _others(rows, columns, here.other, (same, affinity, logits["image", "text"]), spec, numbers)
    return Sums(log, weighed, mass, other), Sums(back_log, back_weighed, {}, {})


def pull(
    rows: tuple[Side, Slopes],
    columns: tuple[Side, Slopes],
    here: dict[str, Array],
    there: Embeddings,
    *,
    spec: LossSpec,
    numbers: Numbers,
) -> tuple[dict[str, Array], Embeddings]:
    """Adds a tile to the gradients of its rows, ``here`` (with that of the "bias"), and its columns, ``there``."""
    (left, row), (right, column) = rows, columns
    same, affinity, logits = _compare(left, right, spec, numbers)
    slopes = {pair: jnp.zeros_like(z) for pair, z in logits.items()}
    for name, this in contrasts(spec).items():
        pair, down, across = (this.left, this.right), left.masks[this.down or this.among], right.masks[this.among]
        z = logits[pair]
        # An empty log-sum-exp lies far below z; where() drops the infinity before it meets anything.
        softmax = jnp.where(across[None, :], jnp.exp(z - row.known[name][:, None]), 0.0)
        slopes[pair] += softmax * row.log[name][:, None]
        if this.both:
            softmax = jnp.where(down[:, None], jnp.exp(z - column.known[name][None, :]), 0.0)
            slopes[pair] += softmax * column.log[name][None, :]
        if this.soft:
            share, back = _shares(left, right, this, same) if this.entailed else (affinity, affinity)
            slopes[pair] += share * jnp.where(across[None, :], row.weighed[name][:, None], 0.0)
            slopes[pair] += back * jnp.where(down[:, None], column.weighed[name][None, :], 0.0)
    here, there = dict(here), dict(there)
    if spec.off:
        pair = ("image", "text")
        error = jax.nn.sigmoid(logits[pair] + numbers.bias) - _match(left, right, same)
        error = jnp.where(right.masks["valid"][None, :], error, 0.0) * row.off["off"][:, None]
        slopes[pair] += error
        here["bias"] += jnp.sum(error, axis=1)
    for (one, other), slope in slopes.items():
        here[one] += numbers.scale * dot(slope, right.embeddings[other].T)
        there[other] += numbers.scale * dot(slope.T, left.embeddings[one].T)
    return here, there


def _compare(
    rows: Side, columns: Side, spec: LossSpec, numbers: Numbers
) -> tuple[Bool[Array, "b n"], Float[Array, "b n"], Logits]:
    """Which pairs are a study with itself, how alike the pairs are, and all logits."""
    same = rows.place[:, None] == columns.place[None, :]
    affinity = soft_labels.affinity(
        rows.streams, columns.streams, numbers.offsets, spec.streams, spec.combine, spec.theta, same
    )
    pairs = {("image", "text"), *((this.left, this.right) for this in contrasts(spec).values())}
    logits = {
        (left, right): numbers.scale * dot(rows.embeddings[left], columns.embeddings[right])
        for left, right in sorted(pairs)
    }
    return same, affinity, logits


def _shares(
    rows: Side, columns: Side, this: Contrast, same: Bool[Array, "b n"]
) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """P and E of ``entailment``: what a text has of the targets of the rows, and of its own before they are divided."""
    assert rows.findings is not None
    held = entailment.holds(rows.findings, columns.claims[this.right])
    held = jnp.where(same, 1.0, held) if this.right == "text" else held
    return held / jnp.maximum(columns.counts[this.right], 1.0)[None, :], held


def _match(rows: Side, columns: Side, same: Bool[Array, "b n"]) -> Bool[Array, "b n"]:
    return same | (rows.masks["normal"][:, None] & columns.masks["normal"][None, :])


def _others(
    rows: Side,
    columns: Side,
    here: Mapping[str, Float[Array, " b"]],
    tile: tuple[Bool[Array, "b n"], Float[Array, "b n"], Float[Array, "b n"]],
    spec: LossSpec,
    numbers: Numbers,
) -> PerStudy:
    """The row sums behind the diagnostics and the off-diagonal loss."""
    same, affinity, z = tile
    across = columns.masks["valid"][None, :]
    others = rows.masks["valid"][:, None] & across & ~same
    surprise = jnp.where(across, jax.scipy.special.xlogy(affinity, affinity), 0.0)
    sums = {
        "surprise": here["surprise"] + jnp.sum(surprise, axis=1),
        "kept": here["kept"] + jnp.sum(others & (affinity > soft_labels.THETA_EPSILON), axis=1, dtype=jnp.float32),
        "own": jnp.maximum(here["own"], jnp.max(jnp.where(same & across, z, MASKED), axis=1)),
        "best": jnp.maximum(here["best"], jnp.max(jnp.where(others, z, MASKED), axis=1)),
    }
    if spec.off:
        off = off_clip.off_diagonal(z + numbers.bias, _match(rows, columns, same), columns.masks["valid"])
        sums["off"] = here["off"] + off
    return sums
