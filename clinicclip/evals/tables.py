"""The tables of a report: rows of printed cells, the same for the terminal and for Markdown."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from clinicclip.data.schema import FINDINGS, display_name
from clinicclip.evals.outcomes import FEW_NOTE
from clinicclip.evals.results import Evaluation, Result, SetFacts
from clinicclip.tabular import Table

FEW_MARK = "\N{DAGGER}"
WITH_IT, IN_SET = "with it", "with it in the set"
ROWS = (*FINDINGS, "normal", "macro")
TASKS = {
    "task_a": "Task A: report above denied",
    "task_b": "Task B: report above omitted",
    "omitted_vs_negated": "omitted above denied",
    "first_of_three": "report first of three",
}
KINDS = {"": "own image", "/wrong_image": "wrong images", "/image_driven": "image-driven"}
ACRONYMS = {name.lower(): name for name in ("AUROC", "PPV", "NPV", "F1", "ECE", "CNR", "mIoU")}
RETRIEVAL = (
    "recall@1",
    "recall@5",
    "recall@10",
    "median_rank",
    "f1_micro@1",
    "f1_macro@1",
    "f1_micro@5",
    "f1_macro@5",
)


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
        suites: dict[str, list[str]] = {}
        for metric in self._by_name:
            if metric not in self._asked:
                suites.setdefault(metric.partition("/")[0], []).append(metric)
        return suites

    def cell(self, metric: str) -> str:
        """``0.812 [0.780, 0.841]``, marked where an outcome is rare, the reason a number does not exist, or nothing."""
        result = self.get(metric)
        if result is None:
            return ""
        if math.isnan(result.value):
            return result.note
        digits = 1 if metric.endswith("median_rank") else 3
        low, high = (f"{x:.{digits}f}" for x in (result.ci_low, result.ci_high))
        mark = f" {FEW_MARK}" if result.note == FEW_NOTE else ""
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

    def why(self, metrics: Iterable[str]) -> str:
        """Why none of these numbers exists, or ""."""
        found = [result for metric in metrics if (result := self.get(metric)) is not None]
        reasons = {result.note for result in found if math.isnan(result.value)}
        return reasons.pop() if len(reasons) == 1 and all(math.isnan(result.value) for result in found) else ""


def _of(result: Result) -> str:
    return display_name(result.prevalence_of)


def folded(rows: Sequence[tuple[str, str, Sequence[str]]]) -> Table:
    """Rows of (name, why it cannot be measured or "", cells): those that cannot, of one reason, are one at the end."""
    table = [[name, *cells] for name, why, cells in rows if not why]
    for reason in dict.fromkeys(why for _, why, _ in rows if why):
        names = [name for name, why, _ in rows if why == reason]
        width = max(len(cells) for _, _, cells in rows)
        table.append([", ".join(names), reason, *[""] * (width - 1)])
    return table


def zero_shot_table(numbers: Numbers, measures: Sequence[str] = ("auroc", "auprc")) -> Table:
    """Every coded finding, then normal and macro, under both rules."""
    titles = [f"{m.upper()} {rule}" for m in measures for rule in ("pair", "positive")]
    columns = [f"zero_shot/{numbers.set}/{m}/{rule}" for m in measures for rule in ("pair", "positive")]
    return _by_finding(numbers, ["finding", "n", WITH_IT, *titles], columns)


def _by_finding(numbers: Numbers, heading: list[str], columns: Sequence[str]) -> Table:
    """A row a finding, then normal and macro; a column for each beginning of a metric's name."""
    rows = []
    for row in ROWS:
        names = [f"{column}/{row}" for column in columns]
        if numbers.get(names[0]) is not None:
            cells = [numbers.count(names[0]), numbers.shown(names[0]), *map(numbers.cell, names)]
            rows.append((display_name(row), numbers.why(names), cells))
    return [heading, *folded(rows)]


def auroc_rows(numbers: Numbers) -> list[tuple[str, dict[str, Result]]]:
    """Every row that has an AUROC, with it under each rule: what is drawn of the table."""
    found = []
    for row in ROWS:
        by_rule = {rule: numbers.get(f"zero_shot/{numbers.set}/auroc/{rule}/{row}") for rule in ("pair", "positive")}
        drawn = {
            rule: result for rule, result in by_rule.items() if result is not None and result.value == result.value
        }
        if drawn:
            found.append((display_name(row), drawn))
    return found


def align_table(numbers: Numbers) -> Table:
    """The four CXR-Align rates, each beside its wrong-image control and the difference."""
    table = [["CXR-Align", "items", "abnormal", *KINDS.values()]]
    for task, title in TASKS.items():
        names = [f"cxr_align/{task}{kind}" for kind in KINDS]
        if numbers.get(names[0]) is not None:
            table.append([title, numbers.count(names[0]), numbers.shown(names[0]), *map(numbers.cell, names)])
    return table


def align_finding_table(numbers: Numbers, task: str) -> Table:
    """One task's rates for each finding that was altered."""
    columns = [f"cxr_align/{task}{kind}" for kind in KINDS]
    return _by_finding(numbers, ["finding", "items", IN_SET, *KINDS.values()], columns)


def pair_strict_table(numbers: Numbers) -> Table:
    """Both images right, per finding and macro."""
    return _by_finding(numbers, ["finding", "images with it", IN_SET, "pair_strict"], ["pair_strict"])


def retrieval_table(numbers: Numbers) -> Table:
    """Both directions, a row a measure."""
    table = [["measure", "images", "prevalence", "image to text", "texts", "prevalence", "text to image"]]
    for measure in RETRIEVAL:
        names = [f"retrieval/{direction}/{measure}" for direction in ("i2t", "t2i")]
        if numbers.get(names[0]) is not None:
            sides = [(numbers.count(name), numbers.prevalence(name), numbers.cell(name)) for name in names]
            table.append([titled(measure), *(cell for side in sides for cell in side)])
    return table


def headlines(data: str) -> dict[str, tuple[str, str]]:
    """The numbers a reader looks at first: metric -> title, and the level an image-blind model reaches."""
    return {
        f"zero_shot/{data}/auroc/pair/macro": ("zero-shot AUROC, macro, pair rule", "0.5"),
        f"zero_shot/{data}/auroc/positive/macro": ("zero-shot AUROC, macro, positive rule", "0.5"),
        f"zero_shot/{data}/auroc/pair/normal": ("zero-shot AUROC, normal, pair rule", "0.5"),
        "cxr_align/task_a": ("CXR-Align Task A", "its wrong-image rate"),
        "cxr_align/task_a/wrong_image": ("CXR-Align Task A, wrong images", ""),
        "cxr_align/task_a/image_driven": ("CXR-Align Task A, image-driven", "0"),
        "cxr_align/task_b": ("CXR-Align Task B", "its wrong-image rate"),
        "cxr_align/task_b/wrong_image": ("CXR-Align Task B, wrong images", ""),
        "cxr_align/task_b/image_driven": ("CXR-Align Task B, image-driven", "0"),
        "pair_strict/macro": ("pair_strict, macro", "0 (a coin: 0.25)"),
        "retrieval/i2t/recall@10": ("image to text recall@10", ""),
        "retrieval/t2i/recall@10": ("text to image recall@10", ""),
    }


def summary_table(numbers: Numbers) -> Table:
    """The headline numbers with the level an image-blind model would reach."""
    table = [["number", "value [95 % interval]", "n", "prevalence", "image-blind level"]]
    for metric, (title, level) in headlines(numbers.set).items():
        if numbers.get(metric) is not None:
            counts = [numbers.count(metric), numbers.prevalence(metric)]
            table.append([title, numbers.cell(metric), *counts, level])
    return table


def titled(name: str) -> str:
    """A part of a metric's name as people write it: ``sex: F``, ``AUROC, prompts``."""
    return re.sub("[a-z0-9]+", lambda word: ACRONYMS.get(word[0], word[0]), display_name(name).replace("=", ": "))


def tables_of(numbers: Numbers, metrics: Sequence[str]) -> Iterator[tuple[str, Table]]:
    """(kind of subgroup or "", table) of a suite that has no table of its own.

    A row a finding and a column for whatever else the metrics' names say, a table for each kind of subgroup
    (``sex=F``); metrics that name no finding are a row each.
    """
    columns: dict[str, dict[str, dict[str, str]]] = {}  # kind of group -> column -> finding -> metric
    plain = []
    for metric in metrics:
        _, *parts = (part for part in metric.split("/") if part != numbers.set)
        row = next((part for part in parts if part in ROWS), "")
        if not row:
            plain.append(metric)
            continue
        group = next((part.partition("=")[0] for part in parts if "=" in part), "")
        column = " ".join(part for part in parts if part != row and not (group and "=" not in part))
        columns.setdefault(group, {}).setdefault(column, {})[row] = metric
    if plain:
        yield "", plain_table(numbers, plain)
    for group, found in columns.items():
        yield group, _finding_table(numbers, found)


def _finding_table(numbers: Numbers, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Counts stand in columns of their own where they are those of the whole row, else in the cells."""
    rows = []
    asked = {row: [by_row.get(row, "") for by_row in columns.values()] for row in ROWS}
    asked = {row: metrics for row, metrics in asked.items() if any(metrics)}
    counts = {row: [(numbers.count(m), numbers.shown(m)) for m in metrics if m] for row, metrics in asked.items()}
    alike = all(len(set(of_row)) == 1 for of_row in counts.values())
    for row, metrics in asked.items():
        cells = [numbers.cell(metric) if alike else numbers.cell_and_counts(metric) for metric in metrics]
        counted = counts[row][0] if alike else ()
        rows.append((display_name(row), numbers.why(filter(None, metrics)), [*counted, *cells]))
    return [["finding", *(("n", WITH_IT) if alike else ()), *map(titled, columns)], *folded(rows)]


def plain_table(numbers: Numbers, metrics: Sequence[str]) -> Table:
    """A row a metric, for suites that have no table of their own; remarks only where there are any."""
    table = [["number", "value [95 % interval]", "n", "prevalence", "remark"]]
    for metric in metrics:
        result = numbers.get(metric)
        if result is not None:
            name = ", ".join(part for part in metric.split("/")[1:] if part != numbers.set)
            note = "" if math.isnan(result.value) else display_name(result.note)
            counts = [str(result.n), numbers.prevalence(metric)]
            table.append([titled(name), numbers.cell(metric), *counts, note])
    return _without_empty_columns(table)


def _without_empty_columns(table: Table) -> Table:
    kept = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    return [[row[column] for column in kept] for row in table]
