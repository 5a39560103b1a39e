"""The zero-shot prompt set: own wording, versioned, hashed into every result.

Prompts are worded as reports are: a template of words that no report uses ("chest x-ray with ...") would test the
vocabulary, not the eye. Templates come in pairs that differ in polarity alone.

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
from jaxtyping import Float, Float32

from clinicclip.data import schema
from clinicclip.errors import UserError, nearest

VERSION = "2"

POSITIVE = (
    "There is {}.",
    "There is evidence of {}.",
    "{} is seen.",
    "{} is present.",
)
NEGATIVE = (
    "There is no {}.",
    "There is no evidence of {}.",
    "No {} is seen.",
    "No {} is present.",
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
    "infiltration": ("an infiltrate", "a lung infiltrate"),
    "granuloma": ("a calcified granuloma", "granuloma"),
    "calcification": ("calcification", "vascular calcification"),
    "degenerative_change": ("degenerative change of the spine", "degenerative disease of the spine"),
    "tortuous_aorta": ("a tortuous aorta", "tortuosity of the aorta"),
    "hyperinflation": ("hyperinflation", "pulmonary hyperinflation"),
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
    "There is no acute cardiopulmonary abnormality.",
    "The chest is normal.",
)
NORMAL_NEGATIVE = (
    "Abnormal chest radiograph.",
    "The heart or lungs are abnormal.",
    "There is an acute cardiopulmonary abnormality.",
    "The chest is abnormal.",
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
    affirmed = tuple(_filled(template, phrase) for template in POSITIVE for phrase in phrases)
    denied = tuple(_filled(template, _bare(phrase)) for template in NEGATIVE for phrase in phrases)
    return Ensemble(affirmed + ALSO_POSITIVE.get(finding, ()), denied + ALSO_NEGATIVE.get(finding, ()))


def _filled(template: str, phrase: str) -> str:
    text = template.format(phrase)
    return text[0].upper() + text[1:]


def _bare(phrase: str) -> str:
    """The phrase without its article: denials read "no pleural effusion", not "no a pleural effusion"."""
    return re.sub(r"^(an?) ", "", phrase)


class PromptVectors(NamedTuple):
    """The normalised mean embedding of each side of an ensemble, or of several."""

    positive: Float32[np.ndarray, "*f d"]
    negative: Float32[np.ndarray, "*f d"]


def embed(finding: str, texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]) -> PromptVectors:
    """Embed a finding's prompts and average each side on the sphere."""
    return PromptVectors(*(_mean_direction(texts(side)) for side in ensemble(finding)))


class Scores(NamedTuple):
    """Cosines of images and prompts by both rules: affirming minus denying prompts, and the affirming ones alone."""

    pair: Float[np.ndarray, "*n"]
    positive: Float[np.ndarray, "*n"]


def scores(vectors: Float[np.ndarray, "n d"], sides: PromptVectors) -> Scores:
    """Scores [n] of unit image embeddings for the prompts of a finding, or [n, f] for those of several."""
    positive = vectors @ sides.positive.T
    return Scores(positive - vectors @ sides.negative.T, positive)


def unknown(finding: str) -> str:
    """What to say of a name that is no finding."""
    return f"unknown finding {finding!r}{nearest(finding, schema.FINDINGS)}"


def embed_all(findings: Sequence[str], texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]) -> PromptVectors:
    """The prompts of several findings, a row each. Raises UserError for none, or one that is not known."""
    if not findings:
        raise UserError("no findings: name at least one")
    for name in findings:
        if name not in schema.INDEX:
            raise UserError(unknown(name))
    sides = [embed(finding, texts) for finding in findings]
    return PromptVectors(*(np.stack(side) for side in zip(*sides, strict=True)))


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
