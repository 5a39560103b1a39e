"""Tables of a release: columns are found by name, plain or gzipped, and what is wrong with a file is one line."""

import csv
import functools
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicclip import files
from clinicclip.errors import UserError

LONGEST_LINE = 2**22  # characters
_DAMAGES = (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error)


def find(source: Path, names: Sequence[str]) -> Path | None:
    """The first of ``names`` that lies in ``source``, as it is or gzipped; None when there is none."""
    for name in names:
        for path in (source / name, source / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def need(source: Path, names: Sequence[str], release: str) -> Path:
    """The first of ``names`` that lies in ``source``. Raises UserError when there is none."""
    path = find(source, names)
    if path is None:
        raise UserError(
            f"{release}: no {' or '.join(names)} (or .gz) in {source}; it is a file of the release: fetch it, or "
            "correct --source"
        )
    return path


def rows(path: Path, columns: Sequence[str], release: str) -> Iterator[dict[str, str]]:
    """The rows of a .csv or .csv.gz file as {column: stripped text}.

    Raises UserError when the file is not a whole UTF-8 table, lacks one of ``columns``, has a column twice, or no row.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    empty = True
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = iter(functools.partial(file.readline, LONGEST_LINE), "")
            reader = csv.DictReader(_checked(lines), strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            _check_header(path, header, columns, release)
            reader.fieldnames = header
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{release}: {path.name} line {reader.line_num}: expected {len(header)} columns; "
                        "repair the line or fetch the file again"
                    )
                empty = False
                yield {name: value.strip() for name, value in row.items()}
    except _DAMAGES as fault:
        raise UserError(f"{release}: {path.name} is not a whole table ({fault}); fetch it again") from None
    if empty:
        raise UserError(f"{release}: {path.name} has a header and no row; fetch it again")


def words(path: Path, release: str) -> list[str]:
    """The words of a text file. Raises UserError when it holds none or is no text."""
    try:
        found = list(_checked(files.content(path, "fetch it again").decode("utf-8-sig").split()))
    except _DAMAGES as fault:
        raise UserError(f"{release}: {path.name} is no text ({fault}); fetch it again") from None
    if not found:
        raise UserError(f"{release}: {path.name} is empty; fetch it again")
    return found


def objects(content: bytes) -> Any:
    """What JSON in UTF-8 says. Raises ValueError when it is none, or names something twice in one object."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for name, times in Counter(name for name, _ in pairs).items():
            if times > 1:
                raise ValueError(f"{name!r} occurs twice in one object")
        return dict(pairs)

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not JSON in UTF-8") from None
    try:
        return json.loads(text, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not JSON in UTF-8") from None


def numbers(row: Mapping[str, str], columns: Sequence[str], where: str) -> list[float]:
    """The finite numbers in ``columns`` of a row. Raises UserError that begins with ``where``."""
    found = []
    for column in columns:
        try:
            found.append(float(row[column]))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise UserError(f"{where}: {column} is {row[column]!r}, which is no number; fetch the file again")
    return found


def _checked(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a text. Raises csv.Error for a zero character, left by a broken download, or no end of a line."""
    for line in lines:
        if len(line) == LONGEST_LINE:
            raise csv.Error("it holds a line without end")
        if "\0" in line:
            raise csv.Error("it holds zero characters")
        yield line


def _check_header(path: Path, header: list[str], columns: Sequence[str], release: str) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f"{release}: {path.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(header) or 'no header'}"
        )
    repeated = [name for name, times in Counter(header).items() if name and times > 1]
    if repeated:
        raise UserError(f"{release}: {path.name} has the column {repeated[0]} twice; remove one")
