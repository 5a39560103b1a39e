"""The exceptions a user is meant to read: one line that names what was wrong and what to do about it."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

# Exit codes after which the same command goes on.
PREEMPTED = 75  # stopped early on request, everything saved
LOST = 76  # another process of the run went away
FEW = 12  # names that one line still holds


class UserError(Exception):
    """A fault the user can mend (exit code 1); ``table`` holds lines to be shown beneath, in a traceback too."""

    def __init__(self, message: str = "", table: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.table = tuple(table)
        for line in self.table:
            self.add_note(line)


class UsageError(UserError):
    """A command line that cannot be understood (exit code 2)."""


@contextlib.contextmanager
def within(place: object) -> Iterator[None]:
    """Puts the place in front of what a UserError says."""
    try:
        yield
    except UserError as fault:
        raise UserError(f"{place}: {fault}", fault.table) from None


def listing(message: str, faults: Mapping[str, Sequence[str]]) -> UserError:
    """The error that names every fault by its kind: in the line itself, or beneath it where they are many."""
    found = {kind: [_legible(name) for name in names] for kind, names in faults.items() if names}
    if sum(map(len, found.values())) <= FEW:
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in found.items())
        return UserError(f"{message}: {told}")
    counts = ", ".join(f"{len(names)} {kind} (the first {names[0]})" for kind, names in found.items())
    return UserError(f"{message}: {counts}", [f"{kind}: {name}" for kind, names in found.items() for name in names])


def _legible(name: str) -> str:
    """A name as it is, unless it would break the line or not be seen."""
    return name if name and name.isprintable() else repr(name)


def together(one: UserError, other: UserError, place: object) -> UserError:
    """The error that tells two of the same place."""
    return UserError(f"{one}; {str(other).removeprefix(f'{place}: ')}", one.table + other.table)


def a(noun: str) -> str:
    """The noun behind its article: "a float", "an int"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the known name closest to a mistyped one, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def require_list(given: object, kind: str) -> None:
    """Raises UserError for one where several are asked for: a string would be taken letter by letter."""
    if isinstance(given, str | bytes | PurePath):
        raise UserError(f"expected a list of {kind}, not one alone: give [{type(given).__name__}]")


@contextlib.contextmanager
def library_says(message: str) -> Iterator[None]:
    """Turns whatever a library raises into a UserError of one line: the message, and what it says."""
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        said = " ".join(str(fault).split())[:200]
        raise UserError(f"{message} ({type(fault).__name__}: {said})") from None
