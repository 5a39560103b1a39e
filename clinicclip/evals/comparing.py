"""Two result folders side by side: the difference of every number they share, with its interval and tests."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clinicclip.evals import significance
from clinicclip.evals.sections import PHANTOM
from clinicclip.evals.stats import Draws, difference, p_value
from clinicclip.evals.stored import Scored, Stored
from clinicclip.evals.tables import headlines
from clinicclip.tabular import Table

# What two results must have in common for their draws to be of the same patients, entry by entry.
PAIRED_BY = {"data_hash": "data", "split": "split", "bootstrap_draws": "number of draws", "seed": "seed"}
RULES = ("pair", "positive")


@dataclass(frozen=True)
class Difference:
    """One number of two results, and how far the second is from the first."""

    data: str
    metric: str
    first: float
    second: float
    n: int
    value: float  # second - first
    ci_low: float
    ci_high: float
    p: float  # two-sided, bootstrap
    p_holm: float  # corrected with all others of its table
    p_delong: float  # of an AUROC, images with scores in both; nan elsewhere
    paired: bool
    note: str = ""


def compare(first: Stored, second: Stored, *, headline: bool = False) -> list[Difference]:
    """Every number that both have, or only those a reader looks at first.

    Paired where the draws are of the same patients; else the intervals are those of independent samples, which are
    wider than they need be where most patients are shared, and the note says so.
    """
    found = [
        _difference(first, second, key)
        for key in first.records
        if key in second.draws and key in first.draws and (not headline or key[1] in headlines(key[0]))
    ]
    corrected = significance.holm([one.p for one in found])
    return [dataclasses.replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def _difference(first: Stored, second: Stored, key: tuple[str, str]) -> Difference:
    records = first.records[key], second.records[key]
    apart = [name for column, name in PAIRED_BY.items() if records[0].get(column) != records[1].get(column)]
    ours, theirs = first.draws[key], second.draws[key]
    if apart:
        theirs = _unpaired(theirs, len(ours.values))
    between = difference(theirs, ours)
    low, high = between.interval()
    return Difference(
        *key,
        first=ours.value,
        second=theirs.value,
        n=records[1]["n"],
        value=between.value,
        ci_low=low,
        ci_high=high,
        p=p_value(between),
        p_holm=float("nan"),
        p_delong=_delong(first, second, key),
        paired=not apart,
        note=f"not paired: another {', '.join(apart)}" if apart else "",
    )


def _unpaired(draws: Draws, count: int) -> Draws:
    """The draws in another order, as many as asked for, so that none belongs to the draw it stands beside."""
    order = np.random.default_rng(0).integers(len(draws.values), size=count)
    return Draws(draws.value, draws.values[order], draws.redrawn)


def _delong(first: Stored, second: Stored, key: tuple[str, str]) -> float:
    data, metric = key
    for rule in RULES:
        start, _, finding = metric.rpartition("/")
        scored = (data, rule, finding)
        if start == f"zero_shot/{data}/auroc/{rule}" and scored in first.scores and scored in second.scores:
            return _delong_of(first.scores[scored], second.scores[scored])
    return float("nan")


def _delong_of(first: Scored, second: Scored) -> float:
    """DeLong's test over the images that both scored, joined by id, patients as clusters; nan where truths differ."""
    shared, ours, theirs = np.intersect1d(first.ids, second.ids, assume_unique=True, return_indices=True)
    if not len(shared) or (first.truth[ours] != second.truth[theirs]).any():
        return float("nan")
    patients = [str(patient) for patient in first.patients[ours]]
    scores = (first.scores[ours].astype(np.float64), second.scores[theirs].astype(np.float64))
    return significance.delong(first.truth[ours], *scores, patients).p


def table(found: Sequence[Difference]) -> Table:
    """For people: what was compared, both values, the difference with its interval, and the tests."""
    rows = [["number", "A", "B", "B - A [95 % interval]", "p", "p, Holm", "p, DeLong", "n", "remark"]]
    for one in found:
        digits = 1 if one.metric.endswith("median_rank") else 3
        title = headlines(one.data).get(one.metric, (one.metric, ""))[0]
        values = [f"{value:.{digits}f}" for value in (one.first, one.second)]
        between = f"{one.value:+.{digits}f} [{one.ci_low:+.{digits}f}, {one.ci_high:+.{digits}f}]"
        tests = ["" if np.isnan(p) else f"{p:.3f}" for p in (one.p, one.p_holm, one.p_delong)]
        rows.append([f"{title} ({one.data})", *values, between, *tests, str(one.n), one.note])
    return rows


def heading(first: Stored, second: Stored) -> list[str]:
    """Who A and B are, and what must be said of them."""
    lines = []
    for letter, one in (("A", first), ("B", second)):
        record = next(iter(one.records.values()), {})
        lines.append(f"{letter}: {record.get('checkpoint', 'unknown')} ({one.folder})")
    phantom = any(row.get("phantom") for one in (first, second) for row in one.records.values())
    told = f"Differences of one training run each, by patient bootstrap; {significance.HOLM}."
    return [*lines, told, *([f"{PHANTOM}."] if phantom else [])]
