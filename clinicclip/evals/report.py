"""Writes an evaluation: results.json, results.csv, report.md, roc.png, gallery.png and a terminal summary."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from clinicclip import files, tabular
from clinicclip.evals import pictures
from clinicclip.evals.base import Evaluation, SetFacts
from clinicclip.evals.matching import CONTROL_IMAGES
from clinicclip.evals.tables import (
    Numbers,
    align_finding_table,
    align_table,
    pair_strict_table,
    retrieval_table,
    summary_table,
    zero_shot_table,
)

PHANTOM = "PHANTOM DATA: proves code, not clinical quality"
PAIR_STRICT_NOTE = (
    "Two matched images, one with and one without the finding; right only if the affirming prompt wins on "
    "the first and the denying prompt on the second. Image-blind: 0; a coin: 0.25."
)
PICTURES = ("roc.png", "gallery.png")
RESEARCH = "Research use only. Not a medical device; not for diagnosis or treatment."


def write(evaluation: Evaluation, output_dir: Path | str, *, provenance: Mapping[str, str]) -> None:
    """Write the five files of a report; `provenance` (checkpoint and code hashes) goes into every record.

    gallery.png exists only when a set's images may be shown, roc.png only when curves were drawn.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = records(evaluation, provenance)
    files.write_whole(folder / "results.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    files.write_whole(folder / "results.csv", _csv(rows))
    titles = {facts.name: _title(facts) for facts in evaluation.sets}
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)
    if evaluation.curves:
        pictures.roc(evaluation.curves, folder / PICTURES[0], titles=titles)
    if evaluation.galleries:
        pictures.gallery(evaluation.galleries, folder / PICTURES[1], titles=titles)
    files.write_whole(folder / "report.md", markdown(evaluation, provenance))


def records(evaluation: Evaluation, provenance: Mapping[str, str]) -> list[dict[str, object]]:
    """One flat dict a result, with what it was measured on; a number that does not exist is null."""
    sets = {facts.name: facts for facts in evaluation.sets}
    rows: list[dict[str, object]] = []
    for result in evaluation.results:
        row = {key: _finite(value) for key, value in asdict(result).items()}
        facts = sets[result.data]
        row |= {"data_title": facts.title, "data_hash": facts.digest, "phantom": facts.phantom}
        row |= {"preprocessing": facts.preprocessing}
        row |= dict(evaluation.facts)
        clash = row.keys() & provenance.keys()
        if clash:
            raise ValueError(f"provenance repeats the columns {sorted(clash)}")
        rows.append(row | dict(provenance))
    return rows


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["metric"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def summary_lines(evaluation: Evaluation) -> list[str]:
    """A compact aligned table for the terminal: every finding, both rules, CXR-Align with its controls."""
    lines: list[str] = []
    for facts in evaluation.sets:
        numbers = Numbers(evaluation, facts)
        lines += ["", _title(facts), *filter(None, [facts.title])]
        for table in (
            zero_shot_table(numbers, ("auroc",)),
            align_table(numbers),
            pair_strict_table(numbers)[:1] + pair_strict_table(numbers)[-1:],
            retrieval_table(numbers),
        ):
            if len(table) > 1:
                lines += ["", *tabular.aligned(table)]
    return lines[1:]


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
    lines += tabular.markdown([["what", "value"], *([key.replace("_", " "), value] for key, value in run.items())])
    sets = [["data", "split", "studies", "patients", "truth", "preprocessing", "data hash"]]
    sets += [
        [f.name, f.split, str(f.studies), str(f.patients), f.truth, f.preprocessing, f.digest] for f in evaluation.sets
    ]
    lines += tabular.markdown(sets)
    for facts in evaluation.sets:
        lines += _set_sections(Numbers(evaluation, facts), facts)
    lines += _picture_lines(evaluation)
    return "\n".join(lines).rstrip() + "\n"


def _set_sections(numbers: Numbers, facts: SetFacts) -> list[str]:
    lines = [f"## {_title(facts)}", "", *([facts.title + ".", ""] if facts.title else [])]
    for title, note, table in (
        ("Summary", "", summary_table(numbers)),
        ("Zero-shot by finding", _zero_shot_note(numbers, facts), zero_shot_table(numbers)),
        ("CXR-Align", _align_note(numbers), align_table(numbers)),
        ("CXR-Align Task A by finding", "", align_finding_table(numbers, "task_a")),
        ("CXR-Align Task B by finding", "", align_finding_table(numbers, "task_b")),
        ("Pair-strict", PAIR_STRICT_NOTE, pair_strict_table(numbers)),
        ("Retrieval", _retrieval_note(numbers), retrieval_table(numbers)),
    ):
        if len(table) > 1:
            lines += [f"### {title}", ""] + ([note, ""] if note else []) + tabular.markdown(table)
    return lines


def _zero_shot_note(numbers: Numbers, facts: SetFacts) -> str:
    macro = numbers.get(f"zero_shot/{facts.name}/auroc/pair/macro")
    return f"Pair: affirming minus denying prompts. Positive: affirming prompts alone. Truth: {facts.truth}." + (
        f" Macro: {macro.note.replace('_', ' ')}." if macro else ""
    )


def _align_note(numbers: Numbers) -> str:
    found = numbers.get("cxr_align/task_a")
    generator = found.generator if found else ""
    return (
        "How often an image prefers its report to the same report with one finding denied or left out "
        f"(texts altered by generator `{generator}`). Wrong images: the same texts against up to "
        f"{CONTROL_IMAGES} images of other patients without the finding. Image-driven is the difference: "
        "what the text alone cannot give."
    )


def _retrieval_note(numbers: Numbers) -> str:
    ways = {"image to text": "retrieval/i2t/recall@1", "text to image": "retrieval/t2i/recall@1"}
    found = {way: numbers.get(metric) for way, metric in ways.items()}
    counts = "; ".join(f"{way}: {result.note}" for way, result in found.items() if result)
    return (
        f"Identical texts are one ({counts}). F1 compares the findings of the nearest entry (@1), or of the "
        "majority of the five nearest (@5), with the query's."
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
