"""Whether a class can be measured on a set, which takes both outcomes, and whether its interval can be believed."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32

from clinicclip.data import schema
from clinicclip.evals.base import EvalSet
from clinicclip.evals.stats import Draws
from clinicclip.evals.truth import NORMAL

FEW = 5  # patients: one redraw in 150 holds none of so many
OFTEN = 0.05  # of redraws
FEW_PATIENTS = "few patients: the interval is too narrow"
ALIKE = "every redraw gives the same: no interval"
ONE_OUTCOME = "one outcome only"
UNCODED = "not coded in this set"
NONE_BOTH = "no finding has both outcomes"


def label(finding: int) -> str:
    """A column's name in metrics."""
    return "normal" if finding == NORMAL else schema.FINDINGS[finding]


def coded(evalset: EvalSet) -> list[int]:
    """The findings of which anything is known, without the normal class, which stands on its own."""
    known = np.isfinite(evalset.truth).any(axis=0)
    return [finding for finding in np.flatnonzero(known).tolist() if finding != NORMAL]


def both(truth: Float32[np.ndarray, "n"]) -> bool:
    """Whether both outcomes are known of some row."""
    return bool((truth == 1).any() and (truth == 0).any())


def lacking(truth: Float32[np.ndarray, "n"]) -> str:
    """Why a class cannot be measured, or ""."""
    if both(truth):
        return ""
    return ONE_OUTCOME if np.isfinite(truth).any() else UNCODED


def caution(draws: Draws, patients: Iterable[int], parts: int = 1) -> str:
    """Why the interval of a number says less than it seems to, or "".

    ``patients`` are how many there are of each kind that the number needs. So few of something else, such as of
    images that are called, show in how often a redraw held none; a mean of ``parts`` counts them for all its parts.
    """
    if np.isnan(draws.value) or not len(draws.values):
        return ""
    if (draws.values == draws.values[0]).all():
        return ALIKE
    often = draws.redrawn > OFTEN * parts * len(draws.values)
    return FEW_PATIENTS if often or min(patients) < FEW else ""
