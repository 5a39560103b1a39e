"""Rank statistics and the patient bootstrap, both vectorised over redraws.

A redraw is a vector of row weights (how often each row's patient was drawn), so a statistic is written once,
as a function of weights ``[k, rows] -> [k]``; weights of one give the value on the data themselves.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

# Entries of the weight matrix held at once: so many stay in a processor's cache.
CHUNK_ENTRIES = 250_000
EXACT_ROWS = 2**22  # whole numbers up to 2**24 are exact in float32, which is twice as fast
LEVEL = 0.95

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


NOTHING = Draws(float("nan"), np.full(1, np.nan), 0)  # of a statistic that does not exist


def macro(parts: Sequence[Draws]) -> Draws:
    """The unweighted mean of several statistics, redraw by redraw."""
    values = np.mean([part.values for part in parts], axis=0)
    return Draws(float(np.mean([part.value for part in parts])), values, sum(part.redrawn for part in parts))


def over_runs(parts: Sequence[Draws]) -> Draws:
    """The mean of several runs under the hierarchical bootstrap: each redraw of patients redraws the runs as well.

    Which runs a redraw holds depends on their number alone, so that two variants trained with the same seeds, in the
    same order, stay paired.
    """
    values = np.stack([part.values for part in parts])
    runs, draws = values.shape
    drawn = np.random.default_rng(runs).integers(runs, size=(runs, draws))
    return macro(parts)._replace(values=np.take_along_axis(values, drawn, axis=0).mean(axis=0))


def p_value(draws: Draws, null: float = 0.0) -> float:
    """Two-sided bootstrap p-value of a difference (see `difference`) against ``null``; nan where there is none.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2.
    """
    if np.isnan(draws.value) or not len(draws.values):
        return float("nan")
    least = min((draws.values <= null).sum(), (draws.values >= null).sum())
    return float(min(1.0, 2 * (least + 1) / (len(draws.values) + 1)))


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
        self._streams: list[Int[np.ndarray, "draws p"]] = []

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
        values = self._apply(statistic, self._counts(0), rows)
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
        while len(self._streams) <= stream:
            self._streams.append(self._drawn(len(self._streams)))
        return self._streams[stream]

    def _drawn(self, stream: int) -> Int[np.ndarray, "draws p"]:
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
        kind = np.float32 if len(rows) < EXACT_ROWS else np.float64
        pieces = [
            statistic(_at(counts[start : start + step], owner).astype(kind)) for start in range(0, len(counts), step)
        ]
        return np.concatenate(pieces)


def _ratio(top: Float[np.ndarray, "*k"], bottom: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
    """`top / bottom`, nan where the bottom is zero."""
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


class Ranking:
    """Truth and scores sorted once, so that each redraw costs two cumulative sums; ties stay ties."""

    def __init__(self, truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> None:
        if not np.isfinite(scores).all():
            raise ValueError("scores must be finite")
        order = np.argsort(scores, kind="stable")
        self._positive, self._negative = order[truth[order]], order[~truth[order]]
        found, others = scores[self._positive], scores[self._negative]
        self._below = np.searchsorted(others, found, "left")  # negatives below each positive
        self._not_above = np.searchsorted(others, found, "right")
        self._first = np.searchsorted(found, found, "left")  # positives below each positive

    def auroc(self, weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        """Area under the ROC curve: P(positive above negative) + half P(tie); nan with one class only."""
        positive, negative = _at(weights, self._positive), _running(_at(weights, self._negative))
        beaten = _at(negative, self._below) + _at(negative, self._not_above)
        wins = np.einsum("kp,kp->k", positive, beaten, dtype=np.float64) / 2
        return _ratio(wins, _total(positive) * negative[:, -1].astype(np.float64))

    def auprc(self, weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
        """Average precision, sum of precision times recall gained; nan with one class only."""
        positive, negative = _at(weights, self._positive), _running(_at(weights, self._negative))
        running = _running(positive)
        found = running[:, -1:] - _at(running, self._first)
        called = found + (negative[:, -1:] - _at(negative, self._below))
        precision = np.divide(found, called, out=np.zeros(found.shape), where=called > 0)
        area = _ratio(np.einsum("kp,kp->k", positive, precision, dtype=np.float64), _total(positive))
        return np.where(negative[:, -1] > 0, area, np.nan)


def _at(table: Shaped[np.ndarray, "k r"], columns: Int[np.ndarray, "c"]) -> Shaped[np.ndarray, "k c"]:
    """Some columns, faster than by indexing."""
    return np.take(table, columns, axis=1)


def _running(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k s"]:
    """Weight of the first 0, 1, ... r columns."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _total(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
    return weights.sum(axis=1, dtype=np.float64)


def auroc(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> float:
    """Area under the ROC curve of unweighted rows; nan with one class only."""
    return float(Ranking(truth, scores).auroc(np.ones((1, len(truth))))[0])


def auprc(truth: Bool[np.ndarray, "r"], scores: Float[np.ndarray, "r"]) -> float:
    """Average precision of unweighted rows; nan with one class only."""
    return float(Ranking(truth, scores).auprc(np.ones((1, len(truth))))[0])


def mean(values: Shaped[np.ndarray, "r"]) -> Statistic:
    """The statistic "weighted mean of these row values"."""
    column = np.asarray(values, np.float64)
    return lambda weights: _ratio(weights @ column, _total(weights))


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
