"""Two result folders side by side: the difference of every number they share, with its interval and tests."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clinicclip import tabular
from clinicclip.evals import significance
from clinicclip.evals.numbers import CAUTION, CAUTION_SAYS
from clinicclip.evals.sections import PHANTOM
from clinicclip.evals.stats import Draws, difference, p_value
from clinicclip.evals.stored import Scored, Stored
from clinicclip.evals.tables import headlines
from clinicclip.tabular import Table

# What may differ between two results -> the columns that tell it.
FACTORS = {
    "data": ("data_title", "data_hash"),
    "split": ("split",),
    "training split": ("train_split",),
    "validation split": ("validation_split",),
    "macro findings": ("macro_findings",),
    "prompts": ("prompts",),
    "preprocessing": ("preprocessing",),
    "pixels": ("pixel_hash",),
    "tokenizer": ("tokenizer",),
    "checkpoint": ("checkpoint", "parameters_sha256"),
    "code": ("clinicclip",),
    "bootstrap": ("bootstrap_draws", "seed"),
}
# What two results must have in common for their draws to be of the same patients, entry by entry.
PAIRED_BY = {"data_hash": "data", "split": "split", "bootstrap_draws": "number of draws", "seed": "seed"}
# What some numbers must have in common besides, to be the same number: column -> its name, and their suites.
DECIDED_BY = {
    "train_split": ("training splits", ("probe", "finetune")),
    "validation_split": ("validation splits", ("probe", "grounding", "operating", "calibration")),
    "macro_findings": ("macro findings", ("zero_shot", "subgroups")),  # of their macros alone
}
RULES = ("pair", "positive")
ONE_RUN = (
    "Differences of one training run each, by patient bootstrap. Both are scored as they were given: which of several "
    "models is kept is chosen on validation data, not by these numbers."
)


@dataclass(frozen=True)
class Difference:
    """One number of two results, and how far the second is from the first."""

    data: str
    metric: str
    first: float
    second: float
    n_first: int  # studies of A's number
    n: int  # and of B's
    prevalence_first: float | None  # of what the number is about, among them; None where it is not known
    prevalence: float | None
    value: float  # second - first
    ci_low: float
    ci_high: float
    p: float  # two-sided, bootstrap
    p_holm: float  # corrected within the family
    p_delong: float  # of an AUROC, images with scores in both; nan elsewhere
    p_delong_holm: float  # corrected within the family
    family: str  # whose p-values are corrected together
    draws: int
    paired: bool
    caution: str = ""  # why an interval says less than it seems to
    note: str = ""


def compare(first: Stored, second: Stored) -> list[Difference]:
    """Every number that both have, family by family.

    Paired where the draws are of the same patients; else the intervals are those of independent samples, which are
    wider than they need be where most patients are shared, and the note says so.
    """
    found = [_difference(first, second, key) for key in first.draws if key in second.draws]
    families = dict.fromkeys(one.family for one in found)
    return [one for family in families for one in _corrected([other for other in found if other.family == family])]


def _corrected(family: Sequence[Difference]) -> Iterator[Difference]:
    by_bootstrap, by_delong = (significance.holm([getattr(one, p) for one in family]) for p in ("p", "p_delong"))
    for one, p_holm, p_delong_holm in zip(family, by_bootstrap, by_delong, strict=True):
        yield dataclasses.replace(one, p_holm=p_holm, p_delong_holm=p_delong_holm)


def _family(data: str, metric: str) -> str:
    """What a number is corrected with: the set's headline numbers, or those that differ from it by finding alone."""
    return f"{data}: " + ("headline numbers" if metric in headlines(data) else metric.rpartition("/")[0] or metric)


def unlike(records: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """What these rows of one metric do not have in common, though their number hangs on it."""
    suite, *parts = metric.split("/")
    found = []
    for column, (name, suites) in DECIDED_BY.items():
        asked = suite in suites and (column != "macro_findings" or "macro" in parts)
        if asked and len({record.get(column) for record in records}) > 1:
            found.append(name)
    return found


def unpaired(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What these rows do not have in common, so that their draws are not of the same patients."""
    return [name for column, name in PAIRED_BY.items() if len({record.get(column) for record in records}) > 1]


def _difference(first: Stored, second: Stored, key: tuple[str, str]) -> Difference:
    records = first.records[key], second.records[key]
    apart, other = unpaired(records), unlike(records, key[1])
    notes = [f"not paired: another {', '.join(apart)}"] * bool(apart)
    notes += [f"not the same number: {', '.join(other)} differ"] * bool(other)
    ours, theirs = first.draws[key], second.draws[key]
    if not apart and ours.redrawn != theirs.redrawn:
        notes.append(f"not wholly paired: {ours.redrawn} and {theirs.redrawn} draws had no such number and are others")
    if apart:
        theirs = _unpaired(theirs, len(ours.values))
    between = difference(theirs, ours)
    low, high = between.interval()
    return Difference(
        *key,
        first=ours.value,
        second=theirs.value,
        n_first=records[0]["n"],
        n=records[1]["n"],
        prevalence_first=records[0]["prevalence"],
        prevalence=records[1]["prevalence"],
        value=between.value,
        ci_low=low,
        ci_high=high,
        p=p_value(between),
        p_holm=float("nan"),
        p_delong=_delong(first, second, key),
        p_delong_holm=float("nan"),
        family=_family(*key),
        draws=len(between.values),
        paired=not apart,
        caution=records[0]["caution"] or records[1]["caution"],
        note="; ".join(notes),
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


def table(every: Sequence[Difference]) -> Table:
    """For people, what they look at first: both values, the difference with its interval, and the tests."""
    tests = ["p", "p, Holm", "p, DeLong", "p, DeLong, Holm"]
    rows = [["number", "A", "B", "B - A [95 % interval]", *tests, "n (prevalence)", "remark"]]
    for one in (one for one in every if one.metric in headlines(one.data)):
        digits = 1 if one.metric.endswith("median_rank") else 3
        title = headlines(one.data)[one.metric][0]
        values = [f"{value:.{digits}f}" for value in (one.first, one.second)]
        value, low, high = (tabular.signed(number, digits) for number in (one.value, one.ci_low, one.ci_high))
        between = f"{value} [{low}, {high}]" + (f" {CAUTION}" if one.caution else "")
        told = (one.p, one.p_holm, one.p_delong, one.p_delong_holm)
        cells = ["" if np.isnan(p) else f"{p:.3f}" for p in told]
        rows.append([f"{title} ({one.data})", *values, between, *cells, _counted(one), one.note])
    return rows


def _counted(one: Difference) -> str:
    """``240 (25.0 %)``: the studies, and the share that shows what the number is about; A's and B's if unlike."""
    sides = ((one.n_first, one.prevalence_first), (one.n, one.prevalence))
    told = (f"{n}" if share is None else f"{n} ({100 * share:.1f} %)" for n, share in sides)
    return ", ".join(dict.fromkeys(told))


def differences(first: Stored, second: Stored) -> Table:
    """A row for each factor that is not the same in both, with what it is in either."""
    table = [["differs", "A", "B"]]
    for factor, columns in FACTORS.items():
        values = [_told(side, columns) for side in (first, second)]
        explained = factor == "pixels" and {"data", "split", "preprocessing"} & {row[0] for row in table}
        if values[0] != values[1] and not explained:
            table.append([factor, *values])
    return table


def _told(side: Stored, columns: tuple[str, ...]) -> str:
    """What the columns hold over all results of a folder, set by set where the sets are not alike."""
    rows = {tuple(_short(str(row.get(column, "not told"))) for column in columns) for row in side.records.values()}
    return "; ".join(", ".join(cell or "none" for cell in row) for row in sorted(rows))


def _short(value: str) -> str:
    """A whole hash by its first twelve digits; everything else as it is."""
    return value[:12] if len(value) == 64 and value.isalnum() else value


def heading(first: Stored, second: Stored, every: Sequence[Difference]) -> list[str]:
    """Who A and B are, and what must be said of them and of all that was compared."""
    lines = []
    for letter, one in (("A", first), ("B", second)):
        record = next(iter(one.records.values()), {})
        lines.append(f"{letter}: {record.get('checkpoint', 'unknown')} ({one.folder})")
    differing = [row[0] for row in differences(first, second)[1:]]
    lines += [f"Not the same in both: {', '.join(differing)} (--explain tells more)."] if differing else []
    lines += [ONE_RUN, *([f"{CAUTION}: {CAUTION_SAYS}."] if any(one.caution for one in every) else [])]
    lines += _families(every)
    phantom = any(row.get("phantom") for one in (first, second) for row in one.records.values())
    return [*lines, *([f"{PHANTOM}."] if phantom else [])]


def _families(every: Sequence[Difference]) -> Iterator[str]:
    """Which p-values are corrected together, and where there are too few draws for any to remain small."""
    yield (
        "p-values are corrected by Holm's method within a family: the numbers of one set in the table that is shown, "
        "and of all others those of one measure over the findings."
    )
    sizes = Counter(one.family for one in every if np.isfinite(one.p))
    draws = min((one.draws for one in every), default=0)
    small = [f"{family} ({size})" for family, size in sizes.items() if significance.needed_draws(size) > draws]
    if small:
        most = significance.needed_draws(max(sizes.values()))
        yield (
            f"With {draws:,} draws no p-value is below {2 / (draws + 1):.3f}, so that in families of so many numbers "
            f"none can be significant: {', '.join(small)}; evaluate with --draws={most} or more."
        )
