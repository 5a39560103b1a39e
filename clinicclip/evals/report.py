"""Writes an evaluation down: results.json, results.csv, report.md, roc.png, gallery.png; and a terminal summary."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from clinicclip.data.schema import FINDINGS, display_name
from clinicclip.evals import pictures
from clinicclip.evals.base import Evaluation, Result, SetFacts

PHANTOM = "PHANTOM DATA: proves code, not clinical quality"
RESEARCH = "Research use only. Not a medical device; not for diagnosis or treatment."
ROWS = (*FINDINGS, "normal", "macro")
TASKS = {
    "task_a": "Task A: report above denied",
    "task_b": "Task B: report above omitted",
    "omitted_vs_negated": "omitted above denied",
    "first_of_three": "report first of three",
}
KINDS = {"": "own image", "/wrong_image": "wrong images", "/image_driven": "image-driven"}
RETRIEVAL = ("recall@1", "recall@5", "recall@10", "median_rank", "f1_micro@1", "f1_macro@1", "f1_micro@5", "f1_macro@5")

Table = list[list[str]]  # first row: headings


def write(evaluation: Evaluation, output_dir: Path | str, *, provenance: Mapping[str, str]) -> None:
    """Write the five files of a report; `provenance` (checkpoint and code hashes) goes into every record.

    gallery.png exists only when a set's images may be shown, roc.png only when curves were drawn.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = records(evaluation, provenance)
    _save(folder / "results.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    _save_csv(folder / "results.csv", rows)
    titles = {facts.name: _title(facts) for facts in evaluation.sets}
    for name, material, draw in (
        ("roc.png", evaluation.curves, pictures.roc),
        ("gallery.png", evaluation.galleries, pictures.gallery),
    ):
        (folder / name).unlink(missing_ok=True)
        if material:
            draw(material, folder / name, titles=titles)
    _save(folder / "report.md", markdown(evaluation, provenance))


def records(evaluation: Evaluation, provenance: Mapping[str, str]) -> list[dict[str, object]]:
    """One flat dict a result, with what it was measured on; a number that does not exist is null."""
    sets = {facts.name: facts for facts in evaluation.sets}
    rows: list[dict[str, object]] = []
    for result in evaluation.results:
        row = {key: _finite(value) for key, value in asdict(result).items()}
        facts = sets[result.data]
        row |= {"phantom": facts.phantom, "data_hash": facts.digest, "preprocessing": facts.preprocessing}
        row |= dict(evaluation.facts)
        clash = row.keys() & provenance.keys()
        if clash:
            raise ValueError(f"provenance repeats the columns {sorted(clash)}")
        rows.append(row | dict(provenance))
    return rows


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(path: Path, text: str) -> None:
    """Replace a file as a whole, so that a reader never sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _save_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["metric"])
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


class _Numbers:
    """The results of one set by metric name, printed the same way everywhere."""

    def __init__(self, evaluation: Evaluation, facts: SetFacts) -> None:
        self.set = facts.name
        self._by_name = {result.metric: result for result in evaluation.results if result.data == facts.name}

    def get(self, metric: str) -> Result | None:
        return self._by_name.get(metric)

    def cell(self, metric: str) -> str:
        """``0.812 [0.780, 0.841]``, the reason a number does not exist, or nothing."""
        result = self.get(metric)
        if result is None:
            return ""
        if math.isnan(result.value):
            return result.note
        digits = 1 if metric.endswith("median_rank") else 3
        low, high = (f"{x:.{digits}f}" for x in (result.ci_low, result.ci_high))
        return f"{result.value:.{digits}f} [{low}, {high}]"

    def count(self, metric: str) -> str:
        result = self.get(metric)
        return "" if result is None else str(result.n)


def zero_shot_table(numbers: _Numbers, measures: Sequence[str] = ("auroc", "auprc")) -> Table:
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


def align_table(numbers: _Numbers) -> Table:
    """The four CXR-Align rates, each beside its wrong-image control and the difference."""
    table = [["CXR-Align", "items", *KINDS.values()]]
    for task, title in TASKS.items():
        names = [f"cxr_align/{task}{kind}" for kind in KINDS]
        if numbers.get(names[0]) is not None:
            table.append([title, numbers.count(names[0]), *map(numbers.cell, names)])
    return table


def align_finding_table(numbers: _Numbers, task: str) -> Table:
    """One task's rates for each finding that was altered."""
    table = [["finding", "items", *KINDS.values()]]
    for finding in FINDINGS:
        names = [f"cxr_align/{task}{kind}/{finding}" for kind in KINDS]
        if numbers.get(names[0]) is not None:
            table.append([display_name(finding), numbers.count(names[0]), *map(numbers.cell, names)])
    return table


def pair_strict_table(numbers: _Numbers) -> Table:
    """Both images right, per finding and macro."""
    table = [["finding", "images with it", "pair_strict"]]
    for row in ROWS:
        name = f"pair_strict/{row}"
        if numbers.get(name) is not None:
            table.append([display_name(row), numbers.count(name), numbers.cell(name)])
    return table


def retrieval_table(numbers: _Numbers) -> Table:
    """Both directions, a row a measure."""
    table = [["measure", "image to text", "text to image"]]
    for measure in RETRIEVAL:
        names = [f"retrieval/{direction}/{measure}" for direction in ("i2t", "t2i")]
        if numbers.get(names[0]) is not None:
            table.append([measure.replace("_", " "), *map(numbers.cell, names)])
    return table


def summary_table(numbers: _Numbers) -> Table:
    """The headline numbers with the level an image-blind model would reach."""
    headlines = (
        (f"zero_shot/{numbers.set}/auroc/pair/macro", "zero-shot AUROC, macro, pair rule", "0.5"),
        (f"zero_shot/{numbers.set}/auroc/positive/macro", "zero-shot AUROC, macro, positive rule", "0.5"),
        (f"zero_shot/{numbers.set}/auroc/pair/normal", "zero-shot AUROC, normal, pair rule", "0.5"),
        ("cxr_align/task_a", "CXR-Align Task A", "its wrong-image rate"),
        ("cxr_align/task_a/wrong_image", "CXR-Align Task A, wrong images", ""),
        ("cxr_align/task_a/image_driven", "CXR-Align Task A, image-driven", "0"),
        ("cxr_align/task_b", "CXR-Align Task B", "its wrong-image rate"),
        ("cxr_align/task_b/wrong_image", "CXR-Align Task B, wrong images", ""),
        ("cxr_align/task_b/image_driven", "CXR-Align Task B, image-driven", "0"),
        ("pair_strict/macro", "pair_strict, macro", "0 (a coin: 0.25)"),
        ("retrieval/i2t/recall@10", "image to text recall@10", ""),
        ("retrieval/t2i/recall@10", "text to image recall@10", ""),
    )
    table = [["number", "value [95 % interval]", "n", "image-blind level"]]
    for metric, title, level in headlines:
        if numbers.get(metric) is not None:
            table.append([title, numbers.cell(metric), numbers.count(metric), level])
    return table


def summary_lines(evaluation: Evaluation) -> list[str]:
    """A compact aligned table for the terminal: every finding under both rules, Tasks A and B with controls."""
    lines: list[str] = []
    for facts in evaluation.sets:
        numbers = _Numbers(evaluation, facts)
        lines += ["", _title(facts)]
        for table in (
            zero_shot_table(numbers, ("auroc",)),
            align_table(numbers),
            pair_strict_table(numbers)[:1] + pair_strict_table(numbers)[-1:],
            retrieval_table(numbers),
        ):
            if len(table) > 1:
                lines += ["", *_aligned(table)]
    return lines[1:]


def _aligned(table: Table) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _title(facts: SetFacts) -> str:
    title = f"{facts.name}, split {facts.split}: {facts.studies} studies of {facts.patients} patients"
    return f"{title}  [{PHANTOM}]" if facts.phantom else title


def markdown(evaluation: Evaluation, provenance: Mapping[str, str]) -> str:
    """The plain report: what was run, then per set the summary and every table."""
    lines = ["# Evaluation", "", f"> {RESEARCH}", ""]
    if any(facts.phantom for facts in evaluation.sets):
        lines += [f"> **{PHANTOM}.**", ""]
    lines += [
        "Values are followed by their 95 % interval (bootstrap over patients). Rates lie between 0 and 1.",
        "",
        "## What was run",
        "",
    ]
    run = {**provenance, **evaluation.facts}
    lines += _markdown_table([["what", "value"], *([key.replace("_", " "), value] for key, value in run.items())])
    sets = [["data", "split", "studies", "patients", "truth", "preprocessing", "data hash"]]
    sets += [[f.name, f.split, str(f.studies), str(f.patients), f.truth, f.preprocessing, f.digest] for f in evaluation.sets]
    lines += _markdown_table(sets)
    for facts in evaluation.sets:
        lines += _set_sections(_Numbers(evaluation, facts), facts)
    lines += _picture_lines(evaluation)
    return "\n".join(lines).rstrip() + "\n"


def _set_sections(numbers: _Numbers, facts: SetFacts) -> list[str]:
    lines = [f"## {_title(facts)}", ""]
    macro = numbers.get(f"zero_shot/{facts.name}/auroc/pair/macro")
    about_macro = f" Macro: {macro.note.replace('_', ' ')}." if macro else ""
    align = numbers.get("cxr_align/task_a")
    generator = align.generator if align else ""
    sections = (
        ("Summary", "", summary_table(numbers)),
        (
            "Zero-shot by finding",
            f"Pair: affirming minus denying prompts. Positive: affirming prompts alone. Truth: {facts.truth}.{about_macro}",
            zero_shot_table(numbers),
        ),
        (
            "CXR-Align",
            "How often an image prefers its report to the same report with one finding denied or left out "
            f"(texts altered by generator `{generator}`). Wrong images: the same texts against up to 8 images of other "
            "patients without the finding. Image-driven is the difference: what the text alone cannot give.",
            align_table(numbers),
        ),
        ("CXR-Align Task A by finding", "", align_finding_table(numbers, "task_a")),
        ("CXR-Align Task B by finding", "", align_finding_table(numbers, "task_b")),
        (
            "Pair-strict",
            "Two matched images, one with and one without the finding; right only if the affirming prompt wins on the "
            "first and the denying prompt on the second. Image-blind: 0; a coin: 0.25.",
            pair_strict_table(numbers),
        ),
        ("Retrieval", _retrieval_note(numbers), retrieval_table(numbers)),
    )
    for title, note, table in sections:
        if len(table) > 1:
            lines += [f"### {title}", ""] + ([note, ""] if note else []) + _markdown_table(table)
    return lines


def _retrieval_note(numbers: _Numbers) -> str:
    found = [numbers.get(f"retrieval/{direction}/recall@1") for direction in ("i2t", "t2i")]
    counts = "; ".join(f"{way}: {r.note}" for way, r in zip(("image to text", "text to image"), found) if r)
    return (
        f"Identical texts are one. {counts[:1].upper()}{counts[1:]}. "
        "F1 compares the findings of the nearest entry (@1) or of the majority of the five nearest (@5) with the query's."
    )


def _picture_lines(evaluation: Evaluation) -> list[str]:
    lines = ["## Pictures", ""] if evaluation.curves or evaluation.sets else []
    if evaluation.curves:
        lines += ["![ROC curves](roc.png)", ""]
    if evaluation.galleries:
        lines += [
            "Queries are drawn at random by seed; each line shows a report and its five nearest images.",
            "",
            "![Retrieval gallery](gallery.png)",
            "",
        ]
    hidden = [facts.name for facts in evaluation.sets if not facts.open]
    if hidden:
        lines += [f"No gallery for {', '.join(hidden)}: images and texts of this data may not be shown.", ""]
    return lines


def _markdown_table(table: Table) -> list[str]:
    heading, *rows = table
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)] + [""]
