r"""One tile of the loss: a block of rows against a block of columns, and what is kept of it.

Of a tile's logits z and likenesses A only sums remain, by row and, for the other direction, by column:

    log_i = log sum_j exp(z_ij),    mass_i = sum_j A_ij,    weighed_i = sum_j A_ij z_ij

In the backward pass, where these sums are known over all studies, the tile adds to the gradients of both blocks

    dL/dz_ij = dlog_i exp(z_ij - log_i) + dlog_j exp(z_ij - log_j) + A_ij (dweighed_i + dweighed_j)

(and the derivative of the off-diagonal loss, where it is in use).

Which block is the rows matters to the logits and not to the likenesses: two blocks may meet both ways with one A.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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

    A ``soft`` target is shared by those alike or, if ``entailed``, by every text that holds for an image.
    """

    left: str  # the embedding of the rows
    right: str  # the embedding of the columns
    among: str  # the mask of the columns
    soft: bool = False
    both: bool = True
    entailed: bool = False
    down: str = ""  # the mask of the rows in the other direction; that of the columns where nothing is said


class Numbers(NamedTuple):
    """What all tiles have in common."""

    scale: Float[Array, ""]  # 1 / tau
    bias: Float[Array, ""]
    offsets: dict[str, Float[Array, ""]]  # mean cosine of each centred stream


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


class Side(NamedTuple):
    """A block of studies: the rows, or the columns, of a tile."""

    place: Int[Array, " b"]
    masks: dict[str, Bool[Array, " b"]]
    embeddings: Embeddings
    streams: dict[str, Stream]
    findings: Float[Array, "b f"] | None  # what texts are held to, their claims, and how many studies each holds for
    claims: dict[str, Float[Array, "b f"]]
    counts: dict[str, Float[Array, " b"]]
    slopes: dict[str, Slopes] | None = None  # as a "row" and as a "column", in the backward pass


class Alike(NamedTuple):
    """What a tile's pairs are to each other, whichever block is the rows."""

    same: Bool[Array, "b n"]  # a study with itself
    affinity: Float[Array, "b n"]  # A


OneWay = Callable[[Side, Side, Alike, LossSpec, Numbers], tuple[dict[str, Any], dict[str, Any]]]


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


def nothing(spec: LossSpec, like: Float[Array, " b"]) -> dict[str, Sums]:
    """The sums of studies as a "row" and as a "column" before any tile; ``like`` is a zero for each."""
    used = contrasts(spec)
    weighed = {name: like for name, this in used.items() if this.soft}
    low, mass = like + MASKED, dict.fromkeys([*_masses(spec), *_entailed(spec)], like)
    other = {"surprise": like, "kept": like, "own": low, "best": low} | ({"off": like} if spec.off else {})
    back = {name: low for name, this in used.items() if this.both}
    return {"row": Sums(dict.fromkeys(used, low), weighed, mass, other), "column": Sums(back, weighed, {}, {})}


def merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The sums, or the gradients, of the same studies over two lots of others, by name."""
    return one | {name: _join(one[name], part) if name in one else part for name, part in other.items()}


def _join(one: Any, other: Any) -> Any:
    if not isinstance(one, Sums):
        return one + other
    of_others = {
        name: (jnp.maximum if name in ("own", "best") else jnp.add)(value, other.other[name])
        for name, value in one.other.items()
    }
    log = jax.tree.map(jnp.logaddexp, one.log, other.log)
    weighed, mass = jax.tree.map(jnp.add, (one.weighed, one.mass), (other.weighed, other.mass))
    return Sums(log, weighed, mass, of_others)


def _masses(spec: LossSpec) -> list[str]:
    return sorted({"valid", *(this.among for this in contrasts(spec).values() if this.soft and not this.entailed)})


def _entailed(spec: LossSpec) -> list[str]:
    return [name for name, this in contrasts(spec).items() if this.entailed]


def of_pair(
    one_way: OneWay, spec: LossSpec, numbers: Numbers, one: Side, other: Side, both: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a tile says of ``one``, its rows, and ``other``, its columns; if ``both``, with these exchanged as well."""
    same = one.place[:, None] == other.place[None, :]
    streams = one.streams, other.streams, numbers.offsets, spec.streams
    alike = Alike(same, soft_labels.affinity(*streams, spec.combine, spec.theta, same))
    of_one, of_other = one_way(one, other, alike, spec, numbers)
    if both:
        more_of_other, more_of_one = one_way(other, one, Alike(same.T, alike.affinity.T), spec, numbers)
        of_one, of_other = merge(of_one, more_of_one), merge(of_other, more_of_other)
    return of_one, of_other


def meet(
    rows: Side, columns: Side, alike: Alike, spec: LossSpec, numbers: Numbers
) -> tuple[dict[str, Sums], dict[str, Sums]]:
    """The sums of a tile: of its rows and of its columns."""
    affinity, logits = alike.affinity, _logits(rows, columns, spec, numbers)
    log, weighed, back_log, back_weighed, mass = {}, {}, {}, {}, {}
    for name, this in contrasts(spec).items():
        z, down, across = logits[this.left, this.right], rows.masks[this.down or this.among], columns.masks[this.among]
        log[name] = log_sum_exp(z, across)
        if this.both:
            back_log[name] = log_sum_exp(z.T, down)
        if this.soft:
            share, back = _shares(rows, columns, this, alike)
            weighed[name] = jnp.sum(jnp.where(across[None, :], share * z, 0.0), axis=1)
            back_weighed[name] = jnp.sum(jnp.where(down[:, None], back * z, 0.0), axis=0)
            if this.entailed:
                mass[name] = jnp.sum(jnp.where(across[None, :], share, 0.0), axis=1)
    masses = {name: columns.masks[name] for name in _masses(spec)}
    mass |= {name: jnp.sum(jnp.where(mask[None, :], affinity, 0.0), axis=1) for name, mask in masses.items()}
    other = _others(rows, columns, alike, logits["image", "text"], spec, numbers)
    return {"row": Sums(log, weighed, mass, other)}, {"column": Sums(back_log, back_weighed, {}, {})}


def pull(
    rows: Side, columns: Side, alike: Alike, spec: LossSpec, numbers: Numbers
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The gradients that a tile gives to its rows' embeddings (and, by row, to the "bias") and to its columns'."""
    if rows.slopes is None or columns.slopes is None:
        raise TypeError("the backward pass needs the slopes of both sides")
    row, column = rows.slopes["row"], columns.slopes["column"]
    logits = _logits(rows, columns, spec, numbers)
    slopes = {pair: jnp.zeros_like(z) for pair, z in logits.items()}
    for name, this in contrasts(spec).items():
        pair, down, across = (this.left, this.right), rows.masks[this.down or this.among], columns.masks[this.among]
        z = logits[pair]
        # An empty log-sum-exp lies far below z; where() drops the infinity before it meets anything.
        softmax = jnp.where(across[None, :], jnp.exp(z - row.known[name][:, None]), 0.0)
        slopes[pair] += softmax * row.log[name][:, None]
        if this.both:
            softmax = jnp.where(down[:, None], jnp.exp(z - column.known[name][None, :]), 0.0)
            slopes[pair] += softmax * column.log[name][None, :]
        if this.soft:
            share, back = _shares(rows, columns, this, alike)
            slopes[pair] += share * jnp.where(across[None, :], row.weighed[name][:, None], 0.0)
            slopes[pair] += back * jnp.where(down[:, None], column.weighed[name][None, :], 0.0)
    here: dict[str, Array] = {}
    there: dict[str, Array] = {}
    if spec.off:
        pair = ("image", "text")
        error = jax.nn.sigmoid(logits[pair] + numbers.bias) - _match(rows, columns, alike.same)
        error = jnp.where(columns.masks["valid"][None, :], error, 0.0) * row.off["off"][:, None]
        slopes[pair] += error
        here["bias"] = jnp.sum(error, axis=1)
    for (one, other), slope in slopes.items():
        here[one] = here.get(one, 0.0) + numbers.scale * dot(slope, columns.embeddings[other].T)
        there[other] = there.get(other, 0.0) + numbers.scale * dot(slope.T, rows.embeddings[one].T)
    return here, there


def _logits(rows: Side, columns: Side, spec: LossSpec, numbers: Numbers) -> Logits:
    pairs = {("image", "text"), *((this.left, this.right) for this in contrasts(spec).values())}
    return {
        (left, right): numbers.scale * dot(rows.embeddings[left], columns.embeddings[right])
        for left, right in sorted(pairs)
    }


def _shares(rows: Side, columns: Side, this: Contrast, alike: Alike) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """A for both directions, or P and E of ``entailment``."""
    if not this.entailed:
        return alike.affinity, alike.affinity
    assert rows.findings is not None
    held = entailment.holds(rows.findings, columns.claims[this.right])
    held = jnp.where(alike.same, 1.0, held) if this.right == "text" else held
    return held / jnp.maximum(columns.counts[this.right], 1.0)[None, :], held


def _match(rows: Side, columns: Side, same: Bool[Array, "b n"]) -> Bool[Array, "b n"]:
    return same | (rows.masks["normal"][:, None] & columns.masks["normal"][None, :])


def _others(
    rows: Side,
    columns: Side,
    alike: Alike,
    z: Float[Array, "b n"],
    spec: LossSpec,
    numbers: Numbers,
) -> PerStudy:
    """The row sums behind the diagnostics and the off-diagonal loss."""
    same, affinity = alike
    across = columns.masks["valid"][None, :]
    others = rows.masks["valid"][:, None] & across & ~same
    surprise = jnp.where(across, jax.scipy.special.xlogy(affinity, affinity), 0.0)
    sums = {
        "surprise": jnp.sum(surprise, axis=1),
        "kept": jnp.sum(others & (affinity > soft_labels.THETA_EPSILON), axis=1, dtype=jnp.float32),
        "own": jnp.max(jnp.where(same & across, z, MASKED), axis=1),
        "best": jnp.max(jnp.where(others, z, MASKED), axis=1),
    }
    if spec.off:
        sums["off"] = off_clip.off_diagonal(z + numbers.bias, _match(rows, columns, same), columns.masks["valid"])
    return sums
