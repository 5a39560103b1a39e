"""The numbers of one set as they are printed everywhere, and what of them nobody has printed yet."""

import math
from collections.abc import Iterable

from clinicclip.data.schema import display_name
from clinicclip.evals.results import Evaluation, Result, SetFacts

CAUTION = "\N{DAGGER}"  # beside an interval that says less than it seems to
CAUTION_SAYS = "the interval is too narrow: it hangs on a few patients, or every redraw gives the same"


class Numbers:
    """The results of one set by metric name, printed the same way everywhere.

    It keeps in mind what was asked for, so that a number no table knows is still told (`rest`).
    """

    def __init__(self, evaluation: Evaluation, facts: SetFacts) -> None:
        self.set = facts.name
        self._by_name = {result.metric: result for result in evaluation.results if result.data == facts.name}
        self._asked: set[str] = set()

    def get(self, metric: str) -> Result | None:
        self._asked.add(metric)
        return self._by_name.get(metric)

    def rest(self) -> dict[str, list[str]]:
        """The metrics that nobody has asked for, by suite."""
        return _by_suite(metric for metric in self._by_name if metric not in self._asked)

    def untold(self) -> dict[str, list[str]]:
        """The metrics of suites of which nobody has asked for any, by suite."""
        told = _by_suite(self._asked)
        return {suite: metrics for suite, metrics in _by_suite(self._by_name).items() if suite not in told}

    def cell(self, metric: str) -> str:
        """``0.812 [0.780, 0.841]``, marked where the interval is too narrow; why there is no number; or nothing."""
        result = self.get(metric)
        if result is None:
            return ""
        if math.isnan(result.value):
            return result.note
        digits = 1 if metric.endswith("median_rank") else 3
        low, high = (f"{x:.{digits}f}" for x in (result.ci_low, result.ci_high))
        mark = f" {CAUTION}" if result.caution else ""
        return f"{result.value:.{digits}f} [{low}, {high}]{mark}"

    def cell_and_counts(self, metric: str) -> str:
        """The cell with ``(12 of 240)``, the studies with the finding and all, or their mean share."""
        result = self.get(metric)
        if result is None or result.prevalence is None:
            return self.cell(metric)
        share = f"{100 * result.prevalence:.1f} %" if result.positives is None else f"{result.positives}"
        return f"{self.cell(metric)} ({share} of {result.n})"

    def count(self, metric: str) -> str:
        result = self.get(metric)
        return "" if result is None else str(result.n)

    def pairs(self, metric: str) -> str:
        result = self.get(metric)
        return "" if result is None or result.pairs is None else str(result.pairs)

    def shown(self, metric: str) -> str:
        """``60 (25.0 %)``: the studies that show what the number is about, or their mean share of several findings."""
        result = self.get(metric)
        if result is None or result.prevalence is None:
            return ""
        share = f"{100 * result.prevalence:.1f} %"
        return share if result.positives is None else f"{result.positives} ({share})"

    def prevalence(self, metric: str) -> str:
        """``edema 60 (25.0 %)``, for tables whose rows are not all about what they are named for."""
        result = self.get(metric)
        return "" if result is None or not self.shown(metric) else f"{_of(result)} {self.shown(metric)}"

    def remark(self, metrics: Iterable[str]) -> str:
        """What is to be said of each of these numbers alike, or ""."""
        found = [result for metric in metrics if (result := self.get(metric)) is not None]
        remarks = {result.note for result in found}
        return remarks.pop() if len(found) > 1 and len(remarks) == 1 and not math.isnan(found[0].value) else ""

    def why(self, metrics: Iterable[str]) -> str:
        """Why none of these numbers exists, or ""."""
        found = [result for metric in metrics if (result := self.get(metric)) is not None]
        reasons = {result.note for result in found if math.isnan(result.value)}
        return reasons.pop() if len(reasons) == 1 and all(math.isnan(result.value) for result in found) else ""


def _by_suite(metrics: Iterable[str]) -> dict[str, list[str]]:
    suites: dict[str, list[str]] = {}
    for metric in metrics:
        suites.setdefault(metric.partition("/")[0], []).append(metric)
    return suites


def _of(result: Result) -> str:
    return display_name(result.prevalence_of)
