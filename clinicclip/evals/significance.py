"""Whether two models differ: DeLong's test for areas under ROC curves of the same rows, and Holm's correction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm, rankdata

NAN = float("nan")
LEVEL = 0.05


class Delong(NamedTuple):
    """The areas of two scores on the same rows, and the test that they are equal."""

    first: float
    second: float
    error: float  # standard error of first - second
    p: float  # two-sided; 1 where the scores rank alike

    @property
    def difference(self) -> float:
        """``first - second``."""
        return self.first - self.second


def delong(
    truth: Bool[np.ndarray, "r"],
    first: Float[np.ndarray, "r"],
    second: Float[np.ndarray, "r"],
    patients: Sequence[str] | None = None,
) -> Delong:
    """Compare two scores by their areas under the ROC curve; rows of one patient count as one cluster.

    Without ``patients`` every row is its own, which is DeLong's test. Everything is nan with one class only, and
    error and p with fewer than two clusters that hold either class.

    Source: DeLong et al., Biometrics 1988; by midranks, Sun and Xu, IEEE SPL 2014; clusters, Obuchowski, Biometrics
    1997.
    """
    if not (truth.any() and (~truth).any()):
        return Delong(NAN, NAN, NAN, NAN)
    owner = np.arange(len(truth)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    parts = [_components(truth, scores) for scores in (first, second)]
    one, other = (float(part[truth].mean()) for part in parts)
    centred = parts[0] - parts[1] - (one - other)
    variance = _variance(truth, np.where(truth, centred, 0.0), np.where(truth, 0.0, centred), owner.reshape(-1))
    if np.isnan(variance):
        return Delong(one, other, NAN, NAN)
    error = float(np.sqrt(max(variance, 0.0)))
    if error == 0:
        return Delong(one, other, 0.0, 1.0 if one == other else 0.0)
    return Delong(one, other, error, float(2 * norm.sf(abs(one - other) / error)))


def _components(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> Float[np.ndarray, "r"]:
    """Per positive the share of negatives it beats, per negative the share of positives that beat it."""
    whole = rankdata(scores)
    parts = np.empty(len(truth))
    positives, negatives = int(truth.sum()), int((~truth).sum())
    parts[truth] = (whole[truth] - rankdata(scores[truth])) / negatives
    parts[~truth] = 1 - (whole[~truth] - rankdata(scores[~truth])) / positives
    return parts


def _variance(
    truth: Bool[np.ndarray, "r"],
    positive: Float[np.ndarray, "r"],
    negative: Float[np.ndarray, "r"],
    owner: Int[np.ndarray, "r"],
) -> float:
    """Of the mean of the positives' plus that of the negatives' components, both centred, summed by cluster."""
    by_owner = {
        "positives": np.bincount(owner, truth),
        "negatives": np.bincount(owner, ~truth),
        "x": np.bincount(owner, positive),
        "y": np.bincount(owner, negative),
    }
    clusters = len(by_owner["x"])
    holding = [int((by_owner[kind] > 0).sum()) for kind in ("positives", "negatives")]
    if min(holding) < 2:
        return float("nan")
    x, y = by_owner["x"] / truth.sum(), by_owner["y"] / (~truth).sum()
    own = sum(held / (held - 1) * (part**2).sum() for held, part in zip(holding, (x, y), strict=True))
    return float(own + 2 * clusters / (clusters - 1) * (x * y).sum())


def needed_draws(tests: int) -> int:
    """The least number of bootstrap draws with which one of so many tests can be significant after correction.

    No two-sided p-value is below 2 / (draws + 1), see `stats.p_value`; Holm's method multiplies the least by their
    number.
    """
    return round(2 * tests / LEVEL)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number; nan (no test) stays nan and is not counted.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    given = np.asarray(p_values, np.float64)
    tested = np.flatnonzero(np.isfinite(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    scaled = given[order] * np.arange(len(order), 0, -1)
    corrected = np.full(len(given), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()
