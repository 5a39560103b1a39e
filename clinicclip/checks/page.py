"""What was found, for people and for programs: doctor.md with its pictures, doctor.json, and lines for a terminal."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinicclip import files, tabular
from clinicclip.checks.base import Examination, Finding, Gravity, percent

PAGE, DATA = "doctor.md", "doctor.json"
WIDTH = 100  # of the lines for a terminal
TITLES = {
    Gravity.SPOILS: "Spoils an evaluation",
    Gravity.LOOK: "Look at it",
    Gravity.NOTE: "Good to know",
}


def terminal(findings: Sequence[Finding]) -> list[str]:
    """A few lines a finding."""
    lines: list[str] = []
    for gravity in sorted(Gravity, reverse=True):
        found = [finding for finding in findings if finding.gravity == gravity]
        lines += ["", TITLES[gravity]] if found else []
        for finding in found:
            lines += _wrapped(_sentence(finding), 2)
            lines += _wrapped(f"such as {'; '.join(finding.examples)}", 6) if finding.examples else []
            lines += _wrapped(finding.advice, 6)
    return lines[1:] or ["nothing odd was found"]


def markdown(examined: Examination) -> str:
    """The page."""
    lines = [f"# {examined.title}", "", *tabular.markdown([["what", "value"], *map(list, examined.what.items())])]
    lines += ["## What was found", ""]
    for gravity in sorted(Gravity, reverse=True):
        found = [finding for finding in examined.findings if finding.gravity == gravity]
        if found:
            lines += [f"### {TITLES[gravity]}", ""]
            rows = [[_sentence(f), f.advice, "<br>".join(f"`{e}`" for e in f.examples)] for f in found]
            lines += tabular.markdown([["what", "what to do", "for example"], *rows])
    if not examined.findings:
        lines += ["Nothing odd.", ""]
    for section in examined.sections:
        lines += [f"## {section.title}", "", section.note, "", *tabular.markdown(section.table)]
        lines += [f"![{section.title}]({section.picture})", ""] if section.picture else []
    return "\n".join(lines).rstrip() + "\n"


def write(output: Path, examined: Examination) -> None:
    """Writes pictures, data and, last, the page into a folder that is there. Raises OSError when it cannot."""
    told: dict[str, Any] = {
        "title": examined.title,
        **examined.what,
        "findings": [dataclasses.asdict(f) | {"gravity": f.gravity.name.lower()} for f in examined.findings],
        "sections": {section.title: section.facts for section in examined.sections},
    }
    for name, draw in examined.pictures.items():
        files.write_whole(output / name, draw())
    files.write_whole(output / DATA, json.dumps(told, indent=1, allow_nan=False) + "\n")
    files.write_whole(output / PAGE, markdown(examined))


def _wrapped(words: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(words, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def _sentence(finding: Finding) -> str:
    return f"{percent(finding.count, finding.of)} of {finding.of:,} {finding.unit} {finding.says}"
