"""The zero-shot prompt set: own wording, versioned, hashed into every result.

A finding's ensemble is every template filled with every phrase, plus whole sentences where a denial is
usually worded as normality ("the heart is normal in size"). "No finding" is never put into a template:
normality has its own sentences.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from clinicclip.data import schema

VERSION = "1"

POSITIVE = (
    "There is {}.",
    "The radiograph shows {}.",
    "Findings are consistent with {}.",
    "Chest x-ray with {}.",
)
NEGATIVE = (
    "There is no {}.",
    "The radiograph shows no {}.",
    "No sign of {}.",
    "Chest x-ray without {}.",
)
# Words for a finding that fit every template; the display name stands for a finding that is not listed.
PHRASES = {
    "enlarged_cardiomediastinum": ("widening of the mediastinum", "an enlarged cardiomediastinal silhouette"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "lung_opacity": ("lung opacity", "airspace opacity"),
    "lung_lesion": ("a lung lesion", "a focal lung lesion"),
    "edema": ("pulmonary edema", "edema"),
    "consolidation": ("consolidation", "focal consolidation"),
    "atelectasis": ("atelectasis", "atelectatic change"),
    "pneumothorax": ("pneumothorax", "a pneumothorax"),
    "pleural_effusion": ("pleural effusion", "a pleural effusion"),
    "pleural_other": ("pleural disease", "a pleural abnormality"),
    "fracture": ("fracture", "a rib fracture"),
    "support_devices": ("a support device", "an indwelling tube or line"),
    "emphysema": ("emphysema", "emphysematous change"),
    "fibrosis": ("fibrosis", "interstitial fibrosis"),
    "hernia": ("a hiatal hernia", "hernia"),
    "nodule": ("a pulmonary nodule", "a lung nodule"),
    "mass": ("a lung mass", "a pulmonary mass"),
    "infiltration": ("an infiltrate", "lung infiltrates"),
    "granuloma": ("a calcified granuloma", "granuloma"),
    "calcification": ("calcification", "vascular calcification"),
    "degenerative_change": ("degenerative change of the spine", "degenerative changes"),
    "tortuous_aorta": ("a tortuous aorta", "tortuosity of the aorta"),
    "hyperinflation": ("hyperinflation", "hyperinflated lungs"),
}
# Whole sentences that affirm or deny one finding and say nothing about others.
ALSO_POSITIVE = {
    "cardiomegaly": ("The heart is enlarged.",),
    "hyperinflation": ("The lungs are hyperexpanded.",),
    "tortuous_aorta": ("The aorta is tortuous.",),
}
ALSO_NEGATIVE = {
    "cardiomegaly": ("The heart is normal in size.",),
    "enlarged_cardiomediastinum": ("The mediastinal contour is normal.",),
    "lung_opacity": ("The lungs are clear.",),
    "tortuous_aorta": ("The aorta is normal.",),
}
NORMAL_POSITIVE = (
    "Normal chest radiograph.",
    "The heart and lungs are normal.",
    "No abnormality is seen in the chest.",
    "The chest is unremarkable.",
)
NORMAL_NEGATIVE = (
    "Abnormal chest radiograph.",
    "The heart or lungs are abnormal.",
    "There is an abnormality in the chest.",
    "The chest shows disease.",
)


class Ensemble(NamedTuple):
    """The sentences that affirm a finding and those that deny it."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def ensemble(finding: str) -> Ensemble:
    """The prompt ensemble of one finding of `schema.FINDINGS`; ``no_finding`` is the normal class."""
    if finding == "no_finding":
        return Ensemble(NORMAL_POSITIVE, NORMAL_NEGATIVE)
    phrases = PHRASES.get(finding, (schema.display_name(finding),))
    return Ensemble(
        tuple(template.format(p) for template in POSITIVE for p in phrases) + ALSO_POSITIVE.get(finding, ()),
        tuple(template.format(_bare(p)) for template in NEGATIVE for p in phrases) + ALSO_NEGATIVE.get(finding, ()),
    )


def _bare(phrase: str) -> str:
    """The phrase without its article: denials read "no pleural effusion", not "no a pleural effusion"."""
    return re.sub(r"^(an?) ", "", phrase)


class PromptVectors(NamedTuple):
    """The normalised mean embedding of each side of an ensemble."""

    positive: Float32[np.ndarray, "d"]
    negative: Float32[np.ndarray, "d"]


def embed(finding: str, texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]) -> PromptVectors:
    """Embed a finding's prompts and average each side on the sphere."""
    return PromptVectors(*(_mean_direction(texts(side)) for side in ensemble(finding)))


def _mean_direction(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "d"]:
    mean = vectors.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def digest() -> str:
    """Twelve hex digits that change when any prompt does."""
    wording = {finding: ensemble(finding) for finding in schema.FINDINGS}
    return hashlib.sha256(json.dumps(wording, sort_keys=True).encode()).hexdigest()[:12]


def overlap(training_templates: Iterable[str]) -> str:
    """How many of the templates, case and full stop aside, the training texts are made from too."""
    seen = {_plain(template) for template in training_templates}
    shared = [template for template in POSITIVE + NEGATIVE if _plain(template) in seen]
    return f"{len(shared)} of {len(POSITIVE + NEGATIVE)} templates shared with the training generator"


def _plain(template: str) -> str:
    return " ".join(re.sub(r"{\w*}", "{}", template).lower().rstrip(".").split())
