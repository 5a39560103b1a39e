"""From scores to probabilities and decisions: what is fitted is fitted on validation rows alone.

A score becomes a probability by a logistic curve of two numbers, a temperature and an offset (Platt's scaling), and a
decision by an operating point.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logit

from clinicclip.evals.stats import Statistic, mean

BINS = 15  # of equal width
STEEPEST = 50.0  # of the logistic curve, per standard deviation of the scores


class Scaling(NamedTuple):
    """Probability = 1 / (1 + exp(-(score - offset) / temperature)); the temperature is above 0."""

    temperature: float
    offset: float

    def probabilities(self, scores: Float[np.ndarray, "r"]) -> Float[np.ndarray, "r"]:
        """Probabilities of rows with these scores."""
        return expit((scores - self.offset) / self.temperature)


def fit_scaling(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> Scaling:
    """The temperature and offset with the least log loss on these rows, which must show both outcomes.

    The order of the scores is kept: where they point the wrong way the curve is flat. Targets are Platt's, a little
    inside 0 and 1, so that rows that a threshold parts fit a curve too.

    Raises: ValueError with one outcome only. Source: Platt, Advances in Large Margin Classifiers, 1999.
    """
    from scipy.optimize import minimize  # slow to import: a run that starts does without

    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not (positives and negatives):
        raise ValueError("a scaling needs rows of both outcomes")
    middle, spread = float(scores.mean()), float(scores.std()) or 1.0
    standard = (scores - middle) / spread
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        slope, shift = values
        z = slope * standard + shift
        residual = expit(z) - target
        value = (np.logaddexp(0, z) - target * z).mean()
        return float(value), np.array([(residual * standard).mean(), residual.mean()])

    start = np.array([1.0, logit(target.mean())])
    found = minimize(loss, start, jac=True, bounds=[(1e-6, STEEPEST), (None, None)], method="L-BFGS-B")
    slope, shift = found.x
    return Scaling(spread / slope, middle - shift / slope * spread)


class Reliability(NamedTuple):
    """Per bin of equal width that holds rows: their number, mean probability and share of positives."""

    rows: Float[np.ndarray, "b"]
    confidence: Float[np.ndarray, "b"]
    frequency: Float[np.ndarray, "b"]


def reliability(truth: Bool[np.ndarray, "r"], probabilities: Float[np.ndarray, "r"], bins: int = BINS) -> Reliability:
    """The material of a reliability plot."""
    place = _bin(probabilities, bins)
    count, sums, found = (np.bincount(place, values, bins) for values in (np.ones(len(truth)), probabilities, truth))
    held = count > 0
    return Reliability(count[held], sums[held] / count[held], found[held] / count[held])


def _bin(probabilities: Float[np.ndarray, "r"], bins: int) -> np.ndarray:
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def ece(truth: Bool[np.ndarray, "r"], probabilities: Float[np.ndarray, "r"], bins: int = BINS) -> Statistic:
    """Expected calibration error: |share of positives - mean probability| of the bins, weighted by their rows.

    Source: Naeini et al., AAAI 2015.
    """
    member = np.zeros((len(truth), bins))
    member[np.arange(len(truth)), _bin(probabilities, bins)] = truth - probabilities

    def statistic(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        return np.abs(weights @ member).sum(axis=1) / weights.sum(axis=1)

    return statistic


def brier(truth: Bool[np.ndarray, "r"], probabilities: Float[np.ndarray, "r"]) -> Statistic:
    """Mean squared difference of probability and outcome. Source: Brier, Monthly Weather Review 1950."""
    return mean((probabilities - truth) ** 2)


def youden(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> float:
    """The threshold (score >= it is called) with the greatest sensitivity + specificity on these rows.

    Of several equal ones the lowest: it misses least. Raises: ValueError with one outcome only.
    """
    if not (truth.any() and (~truth).any()):
        raise ValueError("an operating point needs rows of both outcomes")
    values = np.unique(scores)
    missed = np.searchsorted(np.sort(scores[truth]), values, "left") / truth.sum()
    cleared = np.searchsorted(np.sort(scores[~truth]), values, "left") / (~truth).sum()
    return float(values[np.argmax(cleared - missed)])


def decisions(truth: Bool[np.ndarray, "r"], called: Bool[np.ndarray, "r"]) -> dict[str, Statistic]:
    """Sensitivity, specificity, predictive values and F1 of decisions; nan where nothing is counted."""

    def share(top: Bool[np.ndarray, "r"], bottom: Bool[np.ndarray, "r"]) -> Statistic:
        columns = np.stack([top & bottom, bottom], axis=1).astype(np.float64)

        def statistic(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
            sums = weights @ columns
            return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)

        return statistic

    errors, hits = (truth != called).astype(np.float64), (truth & called).astype(np.float64)

    def f1(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        right, wrong = 2 * (weights @ hits), weights @ errors
        return np.divide(right, right + wrong, out=np.full(len(right), np.nan), where=right + wrong > 0)

    return {
        "sensitivity": share(called, truth),
        "specificity": share(~called, ~truth),
        "ppv": share(truth, called),
        "npv": share(~truth, ~called),
        "f1": f1,
    }
