"""The exceptions a user is meant to read: one line that names what was wrong and what to do about it."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A fault the user can mend (exit code 1); ``table`` holds lines to be shown beneath."""

    def __init__(self, message: str = "", table: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.table = tuple(table)


class UsageError(UserError):
    """A command line that cannot be understood (exit code 2)."""


def a(noun: str) -> str:
    """The noun behind its article: "a float", "an int"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for the known name closest to a mistyped one, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
