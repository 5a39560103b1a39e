"""Records of steps in segments: files that are only ever written whole, so that no place need be able to append.

``metrics.jsonl`` holds the first records, ``metrics.1.jsonl`` the next, and so on, one JSON record a line; they are
merged on read. Object stores and file systems that stand on one take a file whole or not at all, others by
`files.write_whole`: whenever a run ends, each record is there once or not yet. A place is a folder, or of a store by
`etils.epath`.
"""

import json
from pathlib import Path
from typing import Any

from etils import epath

from clinicclip import files
from clinicclip.errors import UserError

LONGEST = 200  # records of a segment, which is written anew with each that is added
Record = dict[str, Any]


class Segments:
    """The records of a run that goes on at ``start_step``: those of later steps, about to be made again, are dropped.

    Raises:
        UserError: a segment that is there holds something else, or one is missing.
    """

    def __init__(self, path: epath.PathLike, start_step: int = 0) -> None:
        self._path = epath.Path(path)
        found = _segments(self._path)
        # From the last one back, so that wherever this is cut off, what is left has no gap.
        for segment in reversed(found):
            records = _read(segment)
            kept = [record for record in records if record["step"] <= start_step]
            if kept != records:
                _write(segment, kept) if kept or segment == self._path else segment.unlink()
        left = [segment for segment in found if segment.exists()]
        self._number = max(len(left) - 1, 0)
        self._held = _read(left[-1]) if left else []

    def add(self, record: Record) -> None:
        """Takes one more record, and returns when it is there."""
        if len(self._held) == LONGEST:
            self._number, self._held = self._number + 1, []
        self._held.append(record)
        _write(_segment(self._path, self._number), self._held)


def read(path: epath.PathLike) -> list[Record]:
    """The records of all segments in their order; ``path`` is the first. Raises UserError, OSError."""
    return [record for segment in _segments(epath.Path(path)) for record in _read(segment)]


def _segments(first: epath.Path) -> list[epath.Path]:
    """All segments in their order. Raises UserError where one is missing before another."""
    cut = slice(len(first.stem) + 1, -len(first.suffix))
    numbers = [path.name[cut] for path in first.parent.glob(f"{first.stem}.*{first.suffix}")]
    there = {int(number) for number in numbers if number.isdecimal()} | ({0} if first.exists() else set())
    for number in range(len(there)):
        if number not in there:
            raise UserError(f"{_segment(first, number)} is missing: restore it, or move those behind it away")
    return [_segment(first, number) for number in sorted(there)]


def _segment(first: epath.Path, number: int) -> epath.Path:
    return first.with_suffix(f".{number}{first.suffix}") if number else first


def _read(segment: epath.Path) -> list[Record]:
    lines = segment.read_text().splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
            records[-1]["step"] += 0
        except (ValueError, TypeError, KeyError, RecursionError):
            if number == len(lines) and not line.endswith("\n"):  # appended to by an older version, and cut off
                return records
            raise UserError(
                f"{segment} line {number} is no record of a step; move the file away to go on without it"
            ) from None
    return records


def _write(segment: epath.Path, records: list[Record]) -> None:
    content = "".join(json.dumps(record) + "\n" for record in records)
    if "://" in str(segment):
        segment.write_text(content)
    else:
        files.write_whole(Path(segment), content)
