"""The tables of a report: rows of printed cells, the same for the terminal and for Markdown."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from clinicclip.data.schema import FINDINGS, display_name
from clinicclip.evals.numbers import Numbers
from clinicclip.evals.results import Result
from clinicclip.tabular import Table

WITH_IT, IN_SET = "with it", "with it in the set"
ROWS = (*FINDINGS, "normal", "macro")
TASKS = {
    "task_a": "Task A: report above denied",
    "task_b": "Task B: report above omitted",
    "omitted_vs_negated": "omitted above denied",
    "first_of_three": "report first of three",
}
KINDS = {"": "own image", "/wrong_image": "wrong images", "/image_driven": "image-driven"}
ACRONYMS = {name.lower(): name for name in ("AUROC", "PPV", "NPV", "F1", "ECE", "Brier", "CNR", "mIoU")}
SUITES = {
    "five_way": "Five-way accuracy",
    "operating": "Operating points",
    "probe": "Linear probe",
    "finetune": "Fine-tuning",
}
OF_SET = ("grounding",)  # suites whose rows were chosen for showing a finding: what is told of prevalence is the set's
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


def _by_finding(numbers: Numbers, heading: list[str], columns: Sequence[str], *, pairs: bool = False) -> Table:
    """A row a finding, then normal and macro; a column for each beginning of a metric's name."""
    rows = []
    for row in ROWS:
        names = [f"{column}/{row}" for column in columns]
        if numbers.get(names[0]) is not None:
            counts = [numbers.count(names[0]), *([numbers.pairs(names[0])] if pairs else []), numbers.shown(names[0])]
            cells = [*counts, *map(numbers.cell, names)]
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
    heading = ["finding", "images with it", "pairs", IN_SET, "pair_strict"]
    return _by_finding(numbers, heading, ["pair_strict"], pairs=True)


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


def overall_table(numbers: Numbers) -> Table:
    """What suites that no other table tells of say about the set as a whole: a row a number."""
    table = [["number", "n", "value [95 % interval]"]]
    for suite, metrics in numbers.untold().items():
        whole = [m for m in metrics if not any(part in (*FINDINGS, "normal") or "=" in part for part in m.split("/"))]
        title = suite_title(suite)
        if why := numbers.why(whole):
            table.append([title, numbers.count(whole[0]), why])
            continue
        for metric in whole:
            name = titled(", ".join(metric.split("/")[1:]))
            table.append([f"{title}: {name}", numbers.count(metric), numbers.cell(metric)])
    return table


def suite_title(suite: str) -> str:
    """A suite as the heading of what it says."""
    return SUITES.get(suite) or display_name(suite).capitalize()


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
        yield "", plain_table(numbers, plain, said=numbers.remark(metrics))
    share = IN_SET if metrics[0].partition("/")[0] in OF_SET else WITH_IT
    for group, found in columns.items():
        yield group, _finding_table(numbers, found, share)


def _finding_table(numbers: Numbers, columns: Mapping[str, Mapping[str, str]], share: str) -> Table:
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
    return [["finding", *(("n", share) if alike else ()), *map(titled, columns)], *folded(rows)]


def plain_table(numbers: Numbers, metrics: Sequence[str], *, said: str = "") -> Table:
    """A row a metric, for suites that have no table of their own; remarks where there are other ones than ``said``."""
    table = [["number", "value [95 % interval]", "n", "prevalence", "remark"]]
    for metric in metrics:
        result = numbers.get(metric)
        if result is not None:
            name = ", ".join(part for part in metric.split("/")[1:] if part != numbers.set)
            note = "" if math.isnan(result.value) or result.note == said else display_name(result.note)
            counts = [str(result.n), numbers.prevalence(metric)]
            table.append([titled(name), numbers.cell(metric), *counts, note])
    return _without_empty_columns(table)


def _without_empty_columns(table: Table) -> Table:
    kept = [column for column in range(len(table[0])) if any(row[column] for row in table[1:])]
    return [[row[column] for column in kept] for row in table]
