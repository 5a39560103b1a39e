"""Tables of a release: columns are found by name, plain or gzipped, and a missing one is named."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

from clinicclip.errors import UserError


def find(source: Path, names: Sequence[str]) -> Path | None:
    """The first of ``names`` that lies in ``source``, as it is or gzipped; None when there is none."""
    for name in names:
        for path in (source / name, source / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def rows(path: Path, columns: Sequence[str], release: str) -> Iterator[dict[str, str]]:
    """The rows of a .csv or .csv.gz file as {column: stripped text}.

    Raises UserError when the file is not a whole UTF-8 table, or lacks one of ``columns``.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            _check_header(path, header, columns, release)
            reader.fieldnames = header
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(
                        f"{release}: {path.name} line {reader.line_num}: expected {len(header)} columns; "
                        "repair the line or fetch the file again"
                    )
                yield {name: value.strip() for name, value in row.items()}
    except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as fault:
        raise UserError(f"{release}: {path.name} is not a whole table ({fault}); fetch it again") from None


def _check_header(path: Path, header: list[str], columns: Sequence[str], release: str) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f"{release}: {path.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(header) or 'no header'}"
        )
