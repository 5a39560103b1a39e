"""Rank statistics and the patient bootstrap, both vectorised over redraws.

A redraw is a vector of row weights (how often each row's patient was drawn), so a statistic is written once,
as a function of weights ``[k, rows] -> [k]``; weights of one give the value on the data themselves.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

# Entries of the weight matrix held at once: keeps 1,000 redraws of 40,000 rows far below a GiB.
CHUNK_ENTRIES = 2_000_000
LEVEL = 0.95
FEW = 5  # rows of one outcome

Statistic = Callable[[Float[np.ndarray, "k r"]], Float[np.ndarray, "k"]]


class Draws(NamedTuple):
    """A statistic on the data and on every redraw; draws of one bootstrap are paired entry by entry."""

    value: float
    values: Float[np.ndarray, "draws"]
    redrawn: int  # redraws on which the statistic did not exist, replaced by fresh ones

    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval; (nan, nan) without draws or when the statistic does not exist."""
        if np.isnan(self.value) or not len(self.values):
            return float("nan"), float("nan")
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self.values, (tail, 1 - tail))
        return float(low), float(high)


def macro(parts: Sequence[Draws]) -> Draws:
    """The unweighted mean of several statistics, redraw by redraw."""
    values = np.mean([part.values for part in parts], axis=0)
    return Draws(float(np.mean([part.value for part in parts])), values, sum(part.redrawn for part in parts))


def difference(first: Draws, second: Draws) -> Draws:
    """The paired bootstrap difference ``first - second``; both must come from one bootstrap."""
    return Draws(first.value - second.value, first.values - second.values, first.redrawn + second.redrawn)


class PatientBootstrap:
    """Redraws whole patients with replacement; a function of (patients, draws, seed) alone.

    No draws give values without intervals, for evaluations on the way.
    """

    def __init__(self, patients: Sequence[str], *, draws: int = 1000, seed: int = 0) -> None:
        if not patients:
            raise ValueError("the bootstrap needs at least one patient")
        names, owner = np.unique(np.asarray(patients), return_inverse=True)
        self._owner = owner.reshape(-1)
        self._size = len(names)
        self._draws = draws
        self._seed = seed
        self._first = self._counts(0)

    def patients(self, rows: Int[np.ndarray, "r"]) -> int:
        """How many different patients own these rows."""
        return len(np.unique(self._owner[rows]))

    def draws(self, statistic: Statistic, rows: Int[np.ndarray, "r"]) -> Draws:
        """`statistic` over the given rows (indices into the patients list) and all redraws of their patients.

        A redraw on which it is undefined (nan), such as one without positives, is replaced and counted.
        """
        value = float(statistic(np.ones((1, len(rows))))[0]) if len(rows) else float("nan")
        if np.isnan(value) or not self._draws:
            return Draws(value, np.full(self._draws, np.nan), 0)
        values = self._apply(statistic, self._first, rows)
        lacking = np.flatnonzero(np.isnan(values))
        redrawn, stream = len(lacking), 1
        while len(lacking):
            fresh = self._apply(statistic, self._counts(stream), rows)
            fresh = fresh[~np.isnan(fresh)][: len(lacking)]
            values[lacking[: len(fresh)]] = fresh
            lacking, stream = lacking[len(fresh) :], stream + 1
        return Draws(value, values, redrawn)

    def _counts(self, stream: int) -> Int[np.ndarray, "draws p"]:
        """How often each patient is drawn, per redraw; streams after the first replace undefined redraws."""
        rng = np.random.default_rng((self._seed, stream))
        counts = np.empty((self._draws, self._size), np.int16)
        for row in counts:
            row[:] = np.bincount(rng.integers(self._size, size=self._size), minlength=self._size)
        return counts

    def _apply(
        self, statistic: Statistic, counts: Int[np.ndarray, "draws p"], rows: Int[np.ndarray, "r"]
    ) -> Float[np.ndarray, "draws"]:
        owner = self._owner[rows]
        step = max(1, CHUNK_ENTRIES // len(rows))
        pieces = [
            statistic(counts[start : start + step][:, owner].astype(np.float64))
            for start in range(0, len(counts), step)
        ]
        return np.concatenate(pieces)


def _ratio(top: Float[np.ndarray, "*k"], bottom: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
    """`top / bottom`, nan where the bottom is zero."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


class Ranking:
    """Truth and scores sorted once, so that each redraw costs a few cumulative sums; ties stay ties."""

    def __init__(self, truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> None:
        if not np.isfinite(scores).all():
            raise ValueError("scores must be finite")
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._truth = truth[self._order]
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])

    def auroc(self, weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        """Area under the ROC curve: P(positive above negative) + half P(tie); nan with one class only."""
        positive, negative = self._by_score(weights)
        below = np.cumsum(negative, axis=1) - negative
        wins = (positive * (below + negative / 2)).sum(axis=1)
        return _ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))

    def auprc(self, weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        """Average precision, sum of precision times recall gained; nan with one class only."""
        positive, negative = (part[:, ::-1] for part in self._by_score(weights))
        found = np.cumsum(positive, axis=1)
        called = found + np.cumsum(negative, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        area = _ratio((positive * precision).sum(axis=1), positive.sum(axis=1))
        return np.where(negative.sum(axis=1) > 0, area, np.nan)

    def _by_score(self, weights: Float[np.ndarray, "k r"]) -> tuple[Float[np.ndarray, "k g"], Float[np.ndarray, "k g"]]:
        """Weight of positives and of negatives at each distinct score, lowest score first."""
        ordered = weights[:, self._order]
        positive = ordered * self._truth
        negative = ordered - positive
        if len(self._starts) == len(self._truth):
            return positive, negative
        return np.add.reduceat(positive, self._starts, axis=1), np.add.reduceat(negative, self._starts, axis=1)


def few_outcomes(truth: Bool[np.ndarray, "r"]) -> bool:
    """Whether a class is so rare that a bootstrap interval understates what is not known."""
    return bool(min(truth.sum(), (~truth).sum()) < FEW)


def auroc(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> float:
    """Area under the ROC curve of unweighted rows; nan with one class only."""
    return float(Ranking(truth, scores).auroc(np.ones((1, len(truth))))[0])


def auprc(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> float:
    """Average precision of unweighted rows; nan with one class only."""
    return float(Ranking(truth, scores).auprc(np.ones((1, len(truth))))[0])


def mean(values: Shaped[np.ndarray, "r"]) -> Statistic:
    """The statistic "weighted mean of these row values"."""
    column = np.asarray(values, np.float64)
    return lambda weights: _ratio(weights @ column, weights.sum(axis=1))


def median(values: Float[np.ndarray, "r"]) -> Statistic:
    """The statistic "median of these row values", each row repeated as often as its weight says."""
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, np.float64)[order]

    def statistic(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        reached = np.cumsum(weights[:, order], axis=1)
        total = reached[:, -1:]
        lower = ordered[np.argmax(reached >= np.floor((total + 1) / 2), axis=1)]
        upper = ordered[np.argmax(reached >= np.floor(total / 2) + 1, axis=1)]
        return np.where(total[:, 0] > 0, (lower + upper) / 2, np.nan)

    return statistic


def wins(first: Float[np.ndarray, "*r"], second: Float[np.ndarray, "*r"]) -> Float[np.ndarray, "*r"]:
    """Per row 1 where `first` is greater, one half on a tie, else 0."""
    return (first > second) + 0.5 * (first == second)
