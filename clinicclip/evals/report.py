"""Writes an evaluation: results.json, results.csv, draws and scores, report.md, report.html; and a terminal summary."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from clinicclip import files, tabular
from clinicclip.evals import stored
from clinicclip.evals.numbers import Numbers
from clinicclip.evals.results import Evaluation, Result
from clinicclip.evals.sections import PHANTOM, RESEARCH, hidden, left_out, run_table, sections, sets_table, title
from clinicclip.evals.tables import (
    align_table,
    overall_table,
    pair_strict_table,
    retrieval_table,
    zero_shot_table,
)
from clinicclip.tabular import Table

COLUMNS = [field.name for field in dataclasses.fields(Result) if field.name != "draws"]


def write(evaluation: Evaluation, output_dir: Path | str, *, provenance: Mapping[str, str]) -> None:
    """Write the files of a report; `provenance` (checkpoint, tokenizer and code hashes) goes into every record."""
    from clinicclip.evals import page  # draws by matplotlib, slow to import: a run that starts does without

    folder = Path(output_dir)
    write_numbers(evaluation, folder, provenance=provenance)
    files.write_whole(folder / "report.md", markdown(evaluation, provenance))
    files.write_whole(folder / "report.html", page.html(evaluation, provenance))


def write_numbers(evaluation: Evaluation, folder: Path, *, provenance: Mapping[str, str]) -> None:
    """Write the files that programs read: the records, and what results are compared by."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = records(evaluation, provenance)
    files.write_whole(folder / stored.RESULTS, json.dumps(rows, indent=1, allow_nan=False) + "\n")
    files.write_whole(folder / "results.csv", tabular.comma_separated(rows))
    stored.write(evaluation, folder)


def records(evaluation: Evaluation, provenance: Mapping[str, str]) -> list[dict[str, object]]:
    """One flat dict a result, with what it was measured on; a number that does not exist is null."""
    sets = {facts.name: facts for facts in evaluation.sets}
    rows: list[dict[str, object]] = []
    for result in evaluation.results:
        row = {name: _finite(getattr(result, name)) for name in COLUMNS}
        facts = sets[result.data]
        row |= {"data_title": facts.title, "data_hash": facts.digest, "phantom": facts.phantom}
        row |= {"unread": len(facts.unread), "unread_ids": " ".join(facts.unread)}
        row |= {"preprocessing": facts.preprocessing, "pixel_hash": facts.pixels}
        row |= {f"{role}_split": told for role, told in facts.beside.items()}
        row |= dict(evaluation.facts)
        clash = row.keys() & provenance.keys()
        if clash:
            raise ValueError(f"provenance repeats the columns {sorted(clash)}")
        rows.append(row | dict(provenance))
    return rows


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_lines(evaluation: Evaluation) -> list[str]:
    """Compact aligned tables for the terminal: zero-shot by finding, and of every suite what it says of the whole."""
    lines: list[str] = []
    for facts in evaluation.sets:
        numbers = Numbers(evaluation, facts)
        lines += ["", title(facts), *filter(None, [facts.title, left_out(facts)])]
        for table in (
            zero_shot_table(numbers, ("auroc",)),
            align_table(numbers),
            _first_and_last(pair_strict_table(numbers)),
            retrieval_table(numbers),
            overall_table(numbers),
        ):
            if len(table) > 1:
                lines += ["", *tabular.aligned(table)]
    return lines[1:]


def _first_and_last(table: Table) -> Table:
    """The headings and the row that sums up, where there is one."""
    return table if len(table) < 2 else [table[0], table[-1]]


def markdown(evaluation: Evaluation, provenance: Mapping[str, str]) -> str:
    """The plain report: what was run, then every table of each set."""
    lines = ["# Evaluation", "", f"> {RESEARCH}", ""]
    if any(facts.phantom for facts in evaluation.sets):
        lines += [f"> **{PHANTOM}.**", ""]
    lines += [
        "Values are followed by their 95 % interval (bootstrap over patients). Rates lie between 0 and 1. Curves, "
        "pictures and examples are in report.html.",
        "",
        "## What was run",
        "",
        *tabular.markdown(run_table(evaluation, provenance)),
        *tabular.markdown(sets_table(evaluation)),
    ]
    for facts in evaluation.sets:
        lines += [f"## {title(facts)}", "", *([f"{facts.title}.", ""] if facts.title else [])]
        lines += [left_out(facts), ""] if facts.unread else []
        for section in sections(evaluation, facts):
            lines += [f"### {section.title}", "", *([section.note, ""] if section.note else [])]
            lines += tabular.markdown(section.table)
    lines += [hidden(evaluation)]
    return "\n".join(lines).rstrip() + "\n"
