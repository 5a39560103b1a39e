"""Whether a class can be measured on a set: it takes both outcomes, and more than a few of either."""

import numpy as np
from jaxtyping import Bool, Float32

from clinicclip.data import schema
from clinicclip.evals.base import EvalSet
from clinicclip.evals.truth import NORMAL

FEW = 5  # rows of one outcome
FEW_NOTE = "few of one outcome: the interval is too narrow"
ONE_OUTCOME = "one outcome only"
UNCODED = "not coded in this set"


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


def few(truth: Bool[np.ndarray, "r"]) -> str:
    """What is to be said of a class so rare that a bootstrap interval understates what is not known, or ""."""
    return FEW_NOTE if min(truth.sum(), (~truth).sum()) < FEW else ""
