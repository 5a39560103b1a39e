"""Rows of printed cells, the first of them headings: lined up for a terminal, or in Markdown; and records as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

Table = list[list[str]]


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; what rounds to nothing is +0, never -0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def aligned(table: Table) -> list[str]:
    """The lines of the table with its columns lined up."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def markdown(table: Table) -> list[str]:
    """The lines of the table in Markdown, with the empty line that ends it."""
    heading, *rows = table
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)] + [""]


def comma_separated(rows: Sequence[Mapping[str, object]]) -> str:
    """Records of equal keys as CSV, the keys as headings."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["metric"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
