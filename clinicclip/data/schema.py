"""The one record type and the one vocabulary of findings that every other module shares.

Storage codes: 1 present, 0 absent, -1 uncertain, -128 unknown. "Absent" and "unknown" are different facts:
which of the two a blank means is decided by each release's reader, never later.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PRESENT, ABSENT, UNCERTAIN, UNKNOWN = 1, 0, -1, -128
NO_SIDE, LEFT, RIGHT, BOTH = 0, 1, 2, 3
NO_SEVERITY, MILD, MODERATE, SEVERE = 0, 1, 2, 3

# The fourteen training labels, in CheXpert's own order (Irvin et al., AAAI 2019).
CHEXPERT = (
    "no_finding",
    "enlarged_cardiomediastinum",
    "cardiomegaly",
    "lung_opacity",
    "lung_lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "pleural_effusion",
    "pleural_other",
    "fracture",
    "support_devices",
)
# Finer names that evaluation sets code on top of the fourteen.
FINER = (
    "emphysema",
    "fibrosis",
    "hernia",
    "nodule",
    "mass",
    "infiltration",
    "pleural_thickening",
    "granuloma",
    "calcification",
    "scoliosis",
    "degenerative_change",
    "tortuous_aorta",
    "hyperinflation",
)
FINDINGS = CHEXPERT + FINER
INDEX = {name: i for i, name in enumerate(FINDINGS)}

# A finding implies its parents: CheXpert's hierarchy, extended to the finer names, except that pneumonia, a diagnosis,
# implies no consolidation of its own (CheXpert puts it under consolidation), only the opacity.
PARENTS: Mapping[str, tuple[str, ...]] = {
    "cardiomegaly": ("enlarged_cardiomediastinum",),
    "lung_lesion": ("lung_opacity",),
    "edema": ("lung_opacity",),
    "consolidation": ("lung_opacity",),
    "pneumonia": ("lung_opacity",),
    "atelectasis": ("lung_opacity",),
    "nodule": ("lung_lesion", "lung_opacity"),
    "mass": ("lung_lesion", "lung_opacity"),
    "infiltration": ("lung_opacity",),
    "fibrosis": ("lung_opacity",),
    "pleural_thickening": ("pleural_other",),
}
# `normal` = no abnormal finding present; a device says how a patient is cared for, not what is wrong.
NOT_ABNORMAL = ("no_finding", "support_devices")

GRAPH_TYPES = ("ANAT-DP", "OBS-DP", "OBS-U", "OBS-DA")


def display_name(finding: str) -> str:
    """The finding as a person writes it, e.g. ``pleural effusion``."""
    return finding.replace("_", " ")


def fold(patient: str, folds: int = 5) -> int:
    """Cross-validation fold of a patient: a function of the id alone, equal on every machine."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") % folds


class Sentence(NamedTuple):
    """One statement of a report about at most one finding."""

    text: str
    finding: int  # index into FINDINGS, -1 = none of them
    polarity: int  # PRESENT, ABSENT, UNCERTAIN, or UNKNOWN when no finding is named
    laterality: int  # NO_SIDE, LEFT, RIGHT, BOTH
    severity: int = NO_SEVERITY  # MILD, MODERATE, SEVERE: of a finding that is present or doubted


class Box(NamedTuple):
    """A finding's bounding box in the pixels of the original image."""

    finding: str
    x: float
    y: float
    width: float
    height: float


class Mask(NamedTuple):
    """A finding's pixels in the original image, as runs down its columns, the first column first."""

    finding: str
    runs: tuple[tuple[int, int], ...]  # first pixel, counted from 0 at the upper left corner, and how many


class Altered(NamedTuple):
    """r^n and r^o as text with the finding they turn on; ('', '', -1) and a reason when the report gives none."""

    negated: str
    omitted: str
    finding: int  # index into FINDINGS
    reason: str = ""  # one of `negation.REASONS`


class Graph(NamedTuple):
    """A report graph in RadGraph's form: spans of its own tokens, typed, with edges between spans."""

    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]  # first and last token, inclusive
    types: tuple[int, ...]  # index into GRAPH_TYPES
    edges: tuple[tuple[int, int], ...]  # directed, indices into spans


@dataclass(frozen=True)
class Study:
    """What a release's reader yields for one image-report pair, before any language processing."""

    patient: str
    study: str
    image_id: str
    split: str
    image: Path | np.ndarray  # a file, or a uint8 [h, w] gray array
    findings: str
    impression: str
    view: str = ""
    labels: Mapping[str, int] | None = None  # the release's own report labels; None = read off the text
    gold: Mapping[str, int] = field(default_factory=dict)  # evaluation truth, never read by training
    gold_source: str = ""
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()  # stored as the boxes of their connected parts
    drawn_on: tuple[int, int] | None = None  # height and width of the image the boxes were drawn on, where stated
    altered: Altered | None = None  # the release's own r^n and r^o; None = made by the recipe's generator
    altered_by: str = ""  # what made `altered`
    graph: Graph | None = None  # None = built by rules from the text
    graph_by: str = ""  # what made `graph`
    sex: str = ""
    age_band: str = ""


class Sketch(NamedTuple):
    """A study that a worker process makes: what must be known of it before, and how to make it (picklable)."""

    patient: str
    study: str
    image_id: str
    split: str
    make: Callable[[], Study]


class Drop(NamedTuple):
    """Something of a release that is not used, with the reason it is counted under."""

    kind: str  # "report", "image", or "label": a row that belongs to nothing, is there twice, or is not there
    id: str
    reason: str


Record = dict[str, Any]  # a stored record as read back: keys are those of `builder.features()`
