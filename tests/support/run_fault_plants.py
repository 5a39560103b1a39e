"""Ways to damage the files and folders of a run, its data and its export."""

import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from run_faults import Plant


def removed(path: str) -> Plant:
    """A file or folder that is not there."""
    return lambda root, chance: gone(root / path)


def gone(path: Path) -> None:
    """Removes a file or a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def written(path: str, content: bytes) -> Plant:
    """A file of other content."""

    def plant(root: Path, chance: random.Random) -> None:
        (root / path).write_bytes(content)

    return plant


def halved(path: str) -> Plant:
    """A file cut short."""
    return lambda root, chance: os.truncate(root / path, (root / path).stat().st_size // 2)


def zeros(path: str) -> Plant:
    """A file as long as it was, of zeros."""
    return lambda root, chance: written(path, bytes((root / path).stat().st_size))(root, chance)


def changed(path: str) -> Plant:
    """A file with eight bytes of another value somewhere."""

    def plant(root: Path, chance: random.Random) -> None:
        content = bytearray((root / path).read_bytes())
        at = chance.randrange(max(1, len(content) - 8))
        content[at : at + 8] = bytes(byte ^ 0xFF for byte in content[at : at + 8])
        (root / path).write_bytes(content)

    return plant


def lacking(path: str, key: str) -> Plant:
    """A JSON file without one of its keys."""

    def plant(root: Path, chance: random.Random) -> None:
        held = json.loads((root / path).read_text())
        *parents, last = key.split(".")
        inner = held
        for name in parents:
            inner = inner[name]
        del inner[last]
        (root / path).write_text(json.dumps(held))

    return plant


JUNK = {"missing": removed, "empty": lambda path: written(path, b""), "cut short": halved, "changed": changed}
JUNK |= {
    "a list": lambda path: written(path, b"[1, 2]"),
    "a web page": lambda path: written(path, b"<!DOCTYPE html>\n"),
}


def damages(path: str, kinds: Sequence[str] = tuple(JUNK)) -> Iterator[tuple[str, Plant]]:
    """Of each kind, what it is called and how it is planted."""
    return ((f"{path} {kind}", JUNK[kind](path)) for kind in kinds)


def foreign(path: str) -> Plant:
    """A folder in whose place another one stands."""
    return lambda root, chance: (gone(root / path), (root / "images").rename(root / path))


def in_turn(*plants: Plant) -> Plant:
    """One after the other."""

    def plant(root: Path, chance: random.Random) -> None:
        for each in plants:
            each(root, chance)

    return plant
