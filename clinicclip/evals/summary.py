"""Several variants side by side: one row each, and how far each is from the baseline, draw by draw.

Numbers of several seeds are averaged, and an interval is of the hierarchical bootstrap, which redraws seeds and
patients. How far the seeds lie apart is told beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clinicclip import tabular
from clinicclip.data.schema import FINDINGS
from clinicclip.errors import UserError
from clinicclip.evals.comparing import unlike, unpaired
from clinicclip.evals.numbers import CAUTION, CAUTION_SAYS
from clinicclip.evals.references import PAPER, Found
from clinicclip.evals.sections import PHANTOM, RESEARCH
from clinicclip.evals.significance import LEVEL, holm, needed_draws
from clinicclip.evals.stats import Draws, difference, over_runs, p_value
from clinicclip.evals.stored import Stored
from clinicclip.tabular import Table

Key = tuple[str, str]  # data and metric
BASELINE = "baseline"
BY_FINDING = ("zero_shot",)  # suites whose numbers by finding are in the summary
SUITES = ("zero_shot", "cxr_align", "pair_strict", "retrieval", "five_way", "normality", "grounding")
# What the tables for people show, in two parts that fit a page.
SEEN = {
    "zero_shot/{data}/auroc/pair/macro": "AUROC, pair",
    "zero_shot/{data}/auroc/positive/macro": "AUROC, positive",
    "zero_shot/{data}/auroc/pair/normal": "AUROC, normal",
    "pair_strict/macro": "pair_strict",
    "five_way/accuracy/pair": "five-way accuracy",
    "retrieval/t2i/recall@10": "t2i recall@10",
    "retrieval/t2i/f1_micro@1": "t2i F1",
}
CONTROLLED = {
    f"cxr_align/{task}{kind}": f"{title}, {word}"
    for task, title in (("task_a", "Task A"), ("task_b", "Task B"))
    for kind, word in (("", "own image"), ("/wrong_image", "wrong images"), ("/image_driven", "image-driven"))
}
COUNTS = ("n", "patients", "pairs", "prevalence_of", "positives", "prevalence", "truth")  # of a number, by its rows
TABLES = {"Zero-shot, pairs and retrieval": SEEN, "CXR-Align with image-blind control": CONTROLLED}


@dataclass(frozen=True)
class Variant:
    """One configuration's results, a folder a seed."""

    name: str
    runs: tuple[Stored, ...]

    def draws(self, key: Key) -> Draws | None:
        """The mean of the seeds, and its draws; None where a seed has no such number."""
        found = [run.draws[key] for run in self.runs if key in run.draws]
        return over_runs(found) if len(found) == len(self.runs) else None

    def record(self, key: Key) -> dict[str, Any] | None:
        """What the number was measured on, alike for all seeds; None where there is none."""
        return next((run.records[key] for run in self.runs if key in run.records), None)

    def cautious(self, key: Key) -> bool:
        """Whether some seed's interval is too narrow."""
        return any(run.records[key]["caution"] for run in self.runs if key in run.records)

    def spread(self, key: Key) -> float:
        """Standard deviation between seeds; nan of one."""
        values = [run.draws[key].value for run in self.runs if key in run.draws]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


class Delta(NamedTuple):
    """How far a variant is from the baseline in one number."""

    variant: str
    data: str
    metric: str
    n: int  # studies
    prevalence: float | None  # of what the number is about
    value: float
    ci_low: float
    ci_high: float
    p: float
    p_holm: float  # corrected over the variants
    caution: bool  # of either's interval


def columns(variants: Sequence[Variant]) -> list[Key]:
    """The numbers of the summary: everything overall, and zero-shot by finding; not subgroups or single findings."""
    keys = dict.fromkeys(key for variant in variants for run in variant.runs for key in run.draws)
    return [key for key in keys if _summarised(key[1])]


def _summarised(metric: str) -> bool:
    suite, *rest = metric.split("/")
    return suite in SUITES and (suite in BY_FINDING or rest[-1] not in FINDINGS)


def rows(variants: Sequence[Variant]) -> list[dict[str, object]]:
    """A row a variant: what it was run on, then a column a number; empty where a variant has none."""
    keys = columns(variants)
    several = len({data for data, _ in keys}) > 1
    found = []
    for variant in variants:
        record = next(iter(variant.runs[0].records.values()))
        row: dict[str, object] = {"variant": variant.name, "seeds": len(variant.runs)}
        row |= {name: record[name] for name in ("split", "data_title", "phantom", "prompts", "clinicclip")}
        for data, metric in keys:
            draws = variant.draws((data, metric))
            row[f"{data}/{metric}" if several else metric] = "" if draws is None else draws.value
        found.append(row)
    return found


def counts(variants: Sequence[Variant]) -> list[dict[str, object]]:
    """How many studies each number of the summary is over, and how many of them show what it is about."""
    told = {key: _record(variants, key) for key in columns(variants)}
    return [
        {"data": data, "metric": metric} | {name: record[name] for name in COUNTS}
        for (data, metric), record in told.items()
    ]


def _record(variants: Sequence[Variant], key: Key) -> dict[str, Any]:
    """Of the first variant that has the number: all were measured on the same studies."""
    return next(record for variant in variants if (record := variant.record(key)) is not None)


def deltas(variants: Sequence[Variant]) -> list[Delta]:
    """Every number's paired difference to the baseline; none without one. Raises UserError for unlike data."""
    base = next((variant for variant in variants if variant.name == BASELINE), None)
    if base is None:
        return []
    others = [variant for variant in variants if variant is not base]
    found = []
    for key in columns(variants):
        parts = [(variant, _against(base, variant, key)) for variant in others]
        told = [(variant, between) for variant, between in parts if between is not None]
        tests = [p_value(between) for _, between in told]
        record = _record(variants, key)
        counted = record["n"], record["prevalence"]
        for (variant, between), p, corrected in zip(told, tests, holm(tests), strict=True):
            caution = base.cautious(key) or variant.cautious(key)
            found.append(Delta(variant.name, *key, *counted, between.value, *between.interval(), p, corrected, caution))
    return found


def _against(base: Variant, variant: Variant, key: Key) -> Draws | None:
    records = [run.records[key] for one in (base, variant) for run in one.runs if key in run.records]
    apart = unpaired(records) + unlike(records, key[1])
    if apart:
        told = ", ".join(apart)
        raise UserError(f"{base.name} and {variant.name} were scored with another {told}: choose another --output")
    ours, theirs = base.draws(key), variant.draws(key)
    return None if ours is None or theirs is None else difference(theirs, ours)


def markdown(variants: Sequence[Variant], about: Mapping[str, str], published: Mapping[str, Found]) -> str:
    """The page: values, differences to the baseline, controls, and published levels where the data are theirs."""
    names = list(dict.fromkeys(data for data, _ in columns(variants)))
    phantom = any(record["phantom"] for v in variants for run in v.runs for record in run.records.values())
    lines = ["# The variants side by side", "", f"> {RESEARCH}", ""]
    lines += [f"> **{PHANTOM}.**", ""] if phantom else []
    lines += tabular.markdown([["what", "value"], *map(list, about.items())])
    lines += [
        "Values are followed by their 95 % interval, bootstrap over patients. Wrong images: the same texts against "
        "images of other patients without the finding, which is what an image-blind model reaches; image-driven is the "
        f"rest. {CAUTION}: {CAUTION_SAYS}. {_seed_note(variants)}",
        "",
    ]
    changed = {(d.variant, d.data, d.metric): d for d in deltas(variants)}
    lines += [_family_note(variants), ""] if changed else []
    for data in names:
        for title, seen in TABLES.items():
            headings = {(data, metric.format(data=data)): heading for metric, heading in seen.items()}
            shown = {key: heading for key, heading in headings.items() if any(v.draws(key) for v in variants)}
            if not shown:
                continue
            lines += [f"## {data}: {title}", ""]
            lines += tabular.markdown(_values(variants, shown))
            if changed:
                lines += ["Difference to the baseline:", "", *tabular.markdown(_changes(variants, shown, changed))]
    return "\n".join([*lines, *_published(variants, published)]).rstrip() + "\n"


def _seed_note(variants: Sequence[Variant]) -> str:
    counts = {len(variant.runs) for variant in variants}
    if counts == {1}:
        return "One seed a variant: how far another seed would be is not in the intervals."
    return (
        f"Means over {max(counts)} seeds, which are redrawn as the patients are; \N{PLUS-MINUS SIGN} is the standard "
        "deviation between seeds."
    )


def _family_note(variants: Sequence[Variant]) -> str:
    """What * means, and whether there can be any."""
    tests = len(variants) - 1
    note = (
        "Differences to the baseline are paired, of the same redrawn patients. "
        f"* marks a difference whose p-value is below {LEVEL}, corrected by Holm's method over the {tests} variants; "
        "the numbers are not corrected among each other."
    )
    draws = min((len(draws.values) for v in variants for run in v.runs for draws in run.draws.values()), default=0)
    if needed_draws(tests) <= draws:
        return note
    few = f"With {draws:,} draws no p-value is small enough for that: {needed_draws(tests):,} are needed"
    return f"{note} {few} (`--config.evals.draws`)."


def _values(variants: Sequence[Variant], shown: Mapping[Key, str]) -> Table:
    rows = [[f"`{variant.name}`", *(_value(variant, key) for key in shown)] for variant in variants]
    counted = ["n (prevalence)", *(_counted(variants, key) for key in shown)]
    return [["variant", *shown.values()], *rows, counted]


def _counted(variants: Sequence[Variant], key: Key) -> str:
    """``240 (25.0 %)``: the studies, and the share that shows what the number is about."""
    record = _record(variants, key)
    share = "" if record["prevalence"] is None else f" ({100 * record['prevalence']:.1f} %)"
    return f"{record['n']}{share}"


def _value(variant: Variant, key: Key) -> str:
    draws = variant.draws(key)
    if draws is None:
        return ""
    low, high = draws.interval()
    spread = variant.spread(key)
    apart = "" if np.isnan(spread) else f" \N{PLUS-MINUS SIGN}{spread:.3f}"
    mark = f" {CAUTION}" if variant.cautious(key) else ""
    return f"{draws.value:.3f}{apart} [{low:.3f}, {high:.3f}]{mark}"


def _changes(
    variants: Sequence[Variant], shown: Mapping[Key, str], changed: Mapping[tuple[str, str, str], Delta]
) -> Table:
    table = [["variant", *shown.values()]]
    for variant in variants:
        found = [changed.get((variant.name, *key)) for key in shown]
        if any(found):
            table.append([f"`{variant.name}`", *map(_change, found)])
    return table


def _change(delta: Delta | None) -> str:
    if delta is None:
        return ""
    mark = "*" if delta.p_holm < 0.05 else ""
    low, high = tabular.signed(delta.ci_low), tabular.signed(delta.ci_high)
    return f"{tabular.signed(delta.value)}{mark} [{low}, {high}]{f' {CAUTION}' if delta.caution else ''}"


def _published(variants: Sequence[Variant], published: Mapping[str, Found]) -> Iterator[str]:
    """The levels that stand beside ours, by set, and why others do not."""
    yield from ("## Published levels", "")
    shown = [(data, *level) for data, found in published.items() for level in found.levels.items()]
    reasons = [found.reason for found in published.values() if found.reason]
    if not shown:
        yield "None is shown: what was published was measured on other data than these."
    for reason in reasons:
        yield f"Not shown beside {reason}."
    if not shown:
        return
    yield "Of the same release, split and count, by the public reproduction and the paper; their prompts are not known."
    yield ""
    names = dict.fromkeys(name for _, _, reference in shown for name in (PAPER, *reference.levels))
    table = [["number", "", *names, "remark"]]
    for data, metric, reference in shown:
        ours = {variant.name: _value(variant, (data, metric)) for variant in variants}
        levels = [f"{reference.levels[name]:.3f}" if name in reference.levels else "" for name in names]
        table.append([f"{metric} ({data})", "published", *levels, reference.remark])
        counted = _counted(variants, (data, metric)) if any(ours.values()) else ""
        table.append(["", f"here, n = {counted}" if counted else "here", *(ours.get(name, "") for name in names), ""])
    yield from tabular.markdown(table)
