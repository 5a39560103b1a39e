"""Ways to damage the files of a fake: each returns the words of which one must be told."""

import csv
import gzip
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

NOBODY = "nobody"  # the id of no image, study or patient
Plant = Callable[[Path, random.Random], Sequence[str]]  # damages the fake; returns words one of which must be told


def cells(root: Path, sheet: str) -> list[list[str]]:
    """The header and the rows of a table."""
    path = root / sheet
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    return list(csv.reader(io.StringIO(text)))


def write(root: Path, sheet: str, content: list[list[str]] | bytes) -> None:
    """Puts a table back."""
    if not isinstance(content, bytes):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(content)
        content = text.getvalue().encode()
    path = root / sheet
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def raw(root: Path, sheet: str) -> bytes:
    """A table's text."""
    content = (root / sheet).read_bytes()
    return gzip.decompress(content) if sheet.endswith(".gz") else content


def put(
    sheet: str,
    value: str,
    column: str,
    *,
    where: Callable[[dict[str, str]], bool] = bool,
    name: str = "",
    told: str = "",
) -> Plant:
    """Writes ``value`` into a column of a row ``where`` this holds; told is the file, column ``name`` or ``told``."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        header, *rows = cells(root, sheet)
        header = [word.strip() for word in header]
        row = chance.choice([row for row in rows if where(dict(zip(header, row, strict=True)))])
        named = [tail(row[header.index(name)])] if name else []
        row[header.index(column)] = value
        write(root, sheet, [header, *rows])
        return (Path(sheet).name.removesuffix(".gz"), *named, *[told] * bool(told))

    return plant


def tail(name: str) -> str:
    """An id without the folder that a release writes in front, and without the ending of a file."""
    return name.strip().removeprefix("CheXpert-v1.0-small/").removesuffix(".png")


def text(path: str, change: Callable[[str], str], *names: str) -> Plant:
    """Changes a text file; told is one of ``names`` or the file."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        before = (root / path).read_text()
        after = change(before)
        assert after != before, "nothing was planted"
        (root / path).write_text(after)
        return (Path(path).name, *names)

    return plant


def content(path: str, change: Callable[[bytes], bytes], *names: str) -> Plant:
    """Changes the bytes of a file; told is one of ``names`` or the file."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).write_bytes(change((root / path).read_bytes()))
        return (Path(path).name, *names)

    return plant


def gone(path: str, *names: str) -> Plant:
    """Removes a file or renames a folder; told is one of ``names`` or its name."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).rename(root.parent / "elsewhere")
        return (Path(path).name, *names)

    return plant
