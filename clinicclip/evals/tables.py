"""The tables of a report: rows of printed cells, the same for the terminal and for Markdown."""

import math
from collections.abc import Iterator, Mapping, Sequence

from clinicclip.data.schema import FINDINGS, display_name
from clinicclip.evals.base import Evaluation, Result, SetFacts
from clinicclip.evals.zero_shot import FEW_NOTE
from clinicclip.tabular import Table

FEW_MARK = "\N{DAGGER}"
ROWS = (*FINDINGS, "normal", "macro")
TASKS = {
    "task_a": "Task A: report above denied",
    "task_b": "Task B: report above omitted",
    "omitted_vs_negated": "omitted above denied",
    "first_of_three": "report first of three",
}
KINDS = {"": "own image", "/wrong_image": "wrong images", "/image_driven": "image-driven"}
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

    def count(self, metric: str) -> str:
        result = self.get(metric)
        return "" if result is None else str(result.n)


def zero_shot_table(numbers: Numbers, measures: Sequence[str] = ("auroc", "auprc")) -> Table:
    """Every coded finding, then normal and macro, under both rules."""
    titles = [f"{m.upper()} {rule}" for m in measures for rule in ("pair", "positive")]
    table = [["finding", "positives", *titles]]
    for row in ROWS:
        names = [f"zero_shot/{numbers.set}/{m}/{rule}/{row}" for m in measures for rule in ("pair", "positive")]
        result = numbers.get(names[0])
        if result is not None:
            share = "" if result.positives is None else f"{result.positives} of {result.n}"
            table.append([display_name(row), share, *map(numbers.cell, names)])
    return table


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
    table = [["CXR-Align", "items", *KINDS.values()]]
    for task, title in TASKS.items():
        names = [f"cxr_align/{task}{kind}" for kind in KINDS]
        if numbers.get(names[0]) is not None:
            table.append([title, numbers.count(names[0]), *map(numbers.cell, names)])
    return table


def align_finding_table(numbers: Numbers, task: str) -> Table:
    """One task's rates for each finding that was altered."""
    table = [["finding", "items", *KINDS.values()]]
    for finding in FINDINGS:
        names = [f"cxr_align/{task}{kind}/{finding}" for kind in KINDS]
        if numbers.get(names[0]) is not None:
            table.append([display_name(finding), numbers.count(names[0]), *map(numbers.cell, names)])
    return table


def pair_strict_table(numbers: Numbers) -> Table:
    """Both images right, per finding and macro."""
    table = [["finding", "images with it", "pair_strict"]]
    for row in ROWS:
        name = f"pair_strict/{row}"
        if numbers.get(name) is not None:
            table.append([display_name(row), numbers.count(name), numbers.cell(name)])
    return table


def retrieval_table(numbers: Numbers) -> Table:
    """Both directions, a row a measure."""
    table = [["measure", "image to text", "text to image"]]
    for measure in RETRIEVAL:
        names = [f"retrieval/{direction}/{measure}" for direction in ("i2t", "t2i")]
        if numbers.get(names[0]) is not None:
            table.append([measure.replace("_", " "), *map(numbers.cell, names)])
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
    table = [["number", "value [95 % interval]", "n", "image-blind level"]]
    for metric, (title, level) in headlines(numbers.set).items():
        if numbers.get(metric) is not None:
            table.append([title, numbers.cell(metric), numbers.count(metric), level])
    return table


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
        column = " ".join(part for part in parts if part != row)
        columns.setdefault(group, {}).setdefault(column, {})[row] = metric
    if plain:
        yield "", plain_table(numbers, plain)
    for group, found in columns.items():
        yield group, _finding_table(numbers, found)


def _finding_table(numbers: Numbers, columns: Mapping[str, Mapping[str, str]]) -> Table:
    table = [["finding", *map(display_name, columns)]]
    for row in ROWS:
        cells = [numbers.cell(by_row[row]) if row in by_row else "" for by_row in columns.values()]
        table += [[display_name(row), *cells]] if any(cells) else []
    return table


def plain_table(numbers: Numbers, metrics: Sequence[str]) -> Table:
    """A row a metric, for suites that have no table of their own; remarks only where there are any."""
    table = [["number", "value [95 % interval]", "n", "positives", "remark"]]
    for metric in metrics:
        result = numbers.get(metric)
        if result is not None:
            name = "/".join(part for part in metric.split("/")[1:] if part != numbers.set)
            positives = "" if result.positives is None else str(result.positives)
            note = "" if math.isnan(result.value) else result.note
            table.append([display_name(name), numbers.cell(metric), str(result.n), positives, note])
    return _without_empty_columns(table)


def _without_empty_columns(table: Table) -> Table:
    kept = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    return [[row[column] for column in kept] for row in table]
