"""What every form of the loss takes: the hyper-parameters, the arrays, the blocks of studies made of them."""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from clinicclip.errors import UserError
from clinicclip.losses import soft_labels
from clinicclip.losses.soft_labels import Stream

IMPLEMENTATIONS = ("auto", "dense", "sharded", "ring")
NEG_SCOPES = ("own", "all")
OFF_REDUCTIONS = ("batch", "pairs")


@dataclass(frozen=True)
class LossSpec:
    """The loss as numbers: weights instead of switches, 0 removes a term. The default is plain InfoNCE.

    total = clip L(image, text) + graph L_G + off L_off + abnormal L_abnormal

    Raises:
        UserError: a weight is negative, a fraction outside [0, 1], or a choice unknown.
    """

    clip: float = 1.0  # weight of the (soft) image-text InfoNCE
    alpha: float = 0.0  # share of the target given to alike studies
    theta: float = 0.0  # likeness below this is dropped
    text: float = 0.0  # weight of the text stream of the soft labels
    clinical: float = 0.0  # ... of the clinical stream
    graph_stream: float = 0.0  # ... of the graph stream
    combine: str = "mean"  # "mean" | "product" | "max" over the streams
    live_text: bool = False  # the text stream is the text embedding of this step, not a frozen feature
    graph: float = 0.0  # weight of the graph alignment
    negation: float = 0.0  # weight of the negated reports in the image-to-text softmax; 1 = NegCLIP
    entailment: float = 0.0  # weight of the contrast of studies with every text whose claims hold for them
    neg_scope: str = "own"  # "own" | "all": whose negated reports an image is told apart from
    off: float = 0.0  # weight of the off-diagonal loss
    off_reduction: str = "batch"  # "batch": summed over columns, mean over rows; "pairs": mean over both
    abnormal: float = 0.0  # weight of InfoNCE among abnormal studies
    implementation: str = "auto"  # "auto" | "dense" | "sharded" | "ring": how it is computed, never what
    block: int = 512  # studies a side of the tiles in which "ring" works

    def __post_init__(self) -> None:
        """Refuse what no run can mean."""
        choices = {
            "combine": soft_labels.COMBINATIONS,
            "neg_scope": NEG_SCOPES,
            "off_reduction": OFF_REDUCTIONS,
            "implementation": IMPLEMENTATIONS,
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in choices and value not in choices[field.name]:
                known = ", ".join(choices[field.name])
                raise UserError(f"loss.{field.name}={value!r}: expected one of {known}")
            if field.type is float and not 0.0 <= value < float("inf"):
                raise UserError(f"loss.{field.name}={value}: expected a finite number >= 0")
        if type(self.block) is not int or self.block < 1:  # True is an int to isinstance
            raise UserError(f"loss.block={self.block}: expected a whole number of studies, 1 or more")
        for name in ("alpha", "theta"):
            if getattr(self, name) > 1.0:
                raise UserError(f"loss.{name}={getattr(self, name)}: expected a number from 0 to 1")
        if self.negation and not (self.clip or self.entailment):
            raise UserError("loss.negation adds columns to the term that loss.clip=0.0 removes: set negation to 0.0")
        if self.streams and not (self.clip or self.graph):
            raise UserError("loss: soft labels serve the terms clip and graph, and both are 0: remove the streams")
        if not (self.clip or self.entailment or self.graph or self.off or self.abnormal):
            raise UserError("loss: every weight is 0; set one of clip, entailment, graph, off, abnormal above 0")

    @property
    def streams(self) -> dict[str, float]:
        """Weights of the soft-label streams in use."""
        weights = {"text": self.text, "clinical": self.clinical, "graph": self.graph_stream}
        return {name: weight for name, weight in weights.items() if weight}


class Inputs(NamedTuple):
    """The arrays of one step; what a spec does not use may be None, and a missing mask means all valid.

    Embeddings are L2-normalised. No gradient flows to ``text_feature``, ``labels`` and ``graph_feature``.
    """

    image: Float[Array, "b d"]
    text: Float[Array, "b d"]
    logit_scale: Float[Array, ""]  # log of 1 / tau
    logit_bias: Float[Array, ""]
    valid: Bool[Array, " b"] | None = None  # False for a row that only fills up the batch
    text_feature: Float[Array, "b f"] | None = None
    text_valid: Bool[Array, " b"] | None = None
    labels: Float[Array, "b c"] | None = None
    labels_valid: Bool[Array, " b"] | None = None
    graph: Float[Array, "b d"] | None = None
    graph_feature: Float[Array, "b g"] | None = None
    graph_valid: Bool[Array, " b"] | None = None
    negated: Float[Array, "b d"] | None = None
    negated_valid: Bool[Array, " b"] | None = None
    findings: Float[Array, "b f"] | None = None  # 1 = the study shows it
    text_claims: Float[Array, "b f"] | None = None  # 1 = the text states it, -1 = it denies it
    negated_claims: Float[Array, "b f"] | None = None
    normal: Bool[Array, " b"] | None = None
    normal_valid: Bool[Array, " b"] | None = None


SCALARS = ("logit_scale", "logit_bias")  # every other field has the studies as its first axis


class Studies(NamedTuple):
    """A block of studies, fit to be the rows or columns of a loss; each leaf's first axis is the studies."""

    place: Int[Array, " b"]  # in the global batch: a row meets itself where the places agree
    valid: Bool[Array, " b"]
    image: Float[Array, "b d"]
    text: Float[Array, "b d"]
    streams: dict[str, Stream]  # of the soft labels in use, without gradient
    others: dict[str, Stream]  # further embeddings in use, "graph" and "negated", and whether a study has one
    findings: Float[Array, "b f"] | None  # 1 = the study shows it
    claims: dict[str, Float[Array, "b f"]]  # of the "text" and the "negated" one, where texts are held to findings
    counts: dict[str, Float[Array, " b"]]  # how many studies of the batch each of these texts holds for
    kinds: dict[str, Bool[Array, " b"]]  # "normal" and "abnormal" where it is told; unknown is neither


def check(inputs: Inputs, spec: LossSpec) -> None:
    """Refuse inputs that lack what the spec needs, before anything is compiled.

    Raises:
        UserError: an array that a weight above 0 needs is None, or the batch is empty.
    """
    needs = {
        "text": "text_feature",
        "clinical": "labels",
        "graph_stream": "graph_feature",
        "graph": "graph",
        "negation": "negated",
        "off": "normal",
        "abnormal": "normal",
    }
    claims = ("findings", "text_claims", "negated_claims")[: 3 if spec.negation else 2]
    for weight, array in [*needs.items(), *(("entailment", name) for name in claims)]:
        if getattr(spec, weight) and getattr(inputs, array) is None:
            raise UserError(f"loss.{weight} is above 0 but the batch has no {array}: supply it or set 0.0")
    if inputs.image.shape[0] == 0:
        raise UserError("the loss was given a batch of 0 studies: set batch_size to 1 or more")


def devices_of(mesh: Mesh, axis: str) -> int:
    """How many devices the studies are split over. Raises UserError when the mesh has no such axis."""
    if axis not in mesh.shape:
        raise UserError(f"the mesh has the axes {mesh.axis_names}, not {axis!r}: make it with make_mesh")
    return mesh.shape[axis]


def require_block(spec: LossSpec, studies: int, devices: int) -> None:
    """Refuses, where "ring" is asked for, a block larger than a device's share of the studies. Raises UserError."""
    share = math.ceil(studies / devices)
    if spec.implementation == "ring" and spec.block > share:
        raise UserError(
            f"loss.block={spec.block}: a device holds only {share} of {studies} studies; use {share} or fewer, "
            'or loss.implementation="auto"'
        )


def pad(inputs: Inputs, multiple: int) -> Inputs:
    """The inputs with masked studies added at the end until their number divides by ``multiple``."""
    rows = inputs.image.shape[0]
    missing = -rows % multiple
    if not missing:
        return inputs
    valid = jnp.ones(rows, bool) if inputs.valid is None else inputs.valid
    padded = {
        name: jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))
        for name, leaf in inputs._replace(valid=valid)._asdict().items()
        if leaf is not None and name not in SCALARS
    }
    return inputs._replace(**padded)


def studies(inputs: Inputs, spec: LossSpec, first: Int[Array, ""] | int = 0) -> Studies:
    """The block of studies whose first row is row ``first`` of the global batch, in float32.

    Masked rows become zero vectors, so nothing they hold (not even NaN) reaches a value or a gradient.
    """
    rows = inputs.image.shape[0]
    valid = jnp.ones(rows, bool) if inputs.valid is None else inputs.valid

    def where(mask: Array | None) -> Array:
        return valid if mask is None else valid & mask

    def embedding(values: Array, mask: Array) -> Array:
        return jnp.where(mask[:, None], values.astype(jnp.float32), 0.0)

    features: dict[str, Any] = {
        "text": (inputs.text_feature, inputs.text_valid),
        "clinical": (inputs.labels, inputs.labels_valid),
        "graph": (inputs.graph_feature, inputs.graph_valid),
    }
    embeddings: dict[str, Any] = {
        "graph": (spec.graph, inputs.graph, where(inputs.graph_valid)),
        "negated": (spec.negation, inputs.negated, where(inputs.negated_valid)),
    }
    claims: dict[str, Any] = {"text": inputs.text_claims, "negated": inputs.negated_claims}
    claims = {name: claims[name] for name in ("text", "negated")[: 1 + bool(spec.negation)] if spec.entailment}
    known, normal = where(inputs.normal_valid), inputs.normal
    return Studies(
        place=first + jnp.arange(rows),
        valid=valid,
        image=embedding(inputs.image, valid),
        text=embedding(inputs.text, valid),
        streams={name: soft_labels.stream(features[name][0], where(features[name][1])) for name in spec.streams},
        others={name: Stream(embedding(x, mask), mask) for name, (weight, x, mask) in embeddings.items() if weight},
        findings=inputs.findings if claims else None,
        claims=claims,
        counts={},
        kinds={} if normal is None else {"normal": known & normal, "abnormal": known & ~normal},
    )
