"""Whether everybody who reads an export gets from it what it was written with: what is found, by reader and stage."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from clinicclip.checks.base import Examination, Finding, Gravity, Section
from clinicclip.tabular import Table


class Stage(NamedTuple):
    """One stage of a reader: what was measured, in words, and whether that is near enough."""

    name: str
    holds: bool
    said: str


class Reader(NamedTuple):
    """A library with its version, and its stages in the order of their work."""

    name: str
    stages: Sequence[Stage]


def examine(place: str, readers: Sequence[Reader], absent: Sequence[str]) -> Examination:
    """What readers made of an export; ``absent`` are those that are not installed, with what to do."""
    what = {"export": place, "read by": ", ".join(reader.name for reader in readers)}
    what |= {"not read by": "; ".join(absent)} if absent else {}
    findings = tuple(finding for reader in readers for finding in _findings(reader))
    pictures: Mapping[str, Callable[[], bytes]] = {}
    return Examination("Export", what, findings, (_table(readers),), pictures)


def _findings(reader: Reader) -> list[Finding]:
    wrong = [stage for stage in reader.stages if not stage.holds]
    if not wrong:
        return []
    says = f"of {reader.name} differ from what the weights were written with; the first is {wrong[0].name}: "
    advice = "export the run again, or copy the folder whole; where only a library differs, use the version it ran with"
    return [
        Finding("checkpoint", Gravity.SPOILS, len(wrong), len(reader.stages), "stages", says + wrong[0].said, advice)
    ]


def _table(readers: Sequence[Reader]) -> Section:
    rows: Table = [["reader", "stage", "found", "holds"]]
    rows += [[r.name, s.name, s.said, "yes" if s.holds else "NO"] for r in readers for s in r.stages]
    facts = {r.name: {s.name: {"found": s.said, "holds": s.holds} for s in r.stages} for r in readers}
    note = "Each stage is given the golden inputs of that stage, so that a fault shows where it is."
    return Section("Stages", note, rows, facts)
