"""What a check says: findings by gravity, and tables that stand for themselves. Ids are named, texts never."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clinicclip.tabular import Table

EXAMPLES = 5  # ids named in a finding


class Gravity(enum.IntEnum):
    """How much a finding matters."""

    NOTE = 0  # good to know
    LOOK = 1  # somebody should look at it
    SPOILS = 2  # what is evaluated on such data does not hold


@dataclass(frozen=True)
class Finding:
    """Something odd: how often it is met, where for example, and what to do about it."""

    check: str
    gravity: Gravity
    count: int
    of: int
    unit: str  # of both counts, e.g. "patients"
    says: str  # behind "3 of 120 patients"
    advice: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A table of the page; ``facts`` are the same numbers for programs."""

    title: str
    note: str
    table: Table
    facts: Mapping[str, Any] = field(default_factory=dict)
    picture: str = ""  # file beside the page


@dataclass(frozen=True)
class Examination:
    """What was looked at, what was found, and the pictures of the page: file names and what draws them."""

    title: str
    what: Mapping[str, str]
    findings: tuple[Finding, ...]  # the gravest first
    sections: tuple[Section, ...]
    pictures: Mapping[str, Callable[[], bytes]]

    @property
    def spoilt(self) -> bool:
        """Whether something found spoils an evaluation."""
        return any(finding.gravity == Gravity.SPOILS for finding in self.findings)


def few(ids: Iterable[str]) -> tuple[str, ...]:
    """The first few ids, in order."""
    return tuple(sorted(ids)[:EXAMPLES])


def percent(count: int, of: int) -> str:
    """``12 (3.4 %)``."""
    share = 100 * count / of if count else 0.0
    return f"{count:,} ({f'{share:.1f}' if share >= 0.1 else '< 0.1'} %)" if count else "0"
