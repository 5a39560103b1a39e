"""Rows of printed cells, the first of them headings: lined up for a terminal, or in Markdown."""

Table = list[list[str]]


def aligned(table: Table) -> list[str]:
    """The lines of the table with its columns lined up."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def markdown(table: Table) -> list[str]:
    """The lines of the table in Markdown, with the empty line that ends it."""
    heading, *rows = table
    return ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)] + [""]
