"""The same image twice: equal pixel by pixel, or alike as `likeness` sees it."""

from collections.abc import Iterator, Sequence

from clinicclip.checks import likeness
from clinicclip.checks.base import Finding, Gravity, few
from clinicclip.checks.chart import Chart, Row, groups
from clinicclip.data.patients import people


def images(chart: Chart) -> Iterator[Finding]:
    """Images that occur more than once, the graver the less they should."""
    yield from _findings(chart, "duplicate_image", "are equal", list(groups(chart.rows, lambda row: row.digest)))
    pairs = [[chart.rows[i], chart.rows[j]] for i, j, _ in likeness.alike(chart.thumbs)]
    near = [pair for pair in pairs if pair[0].digest != pair[1].digest]
    yield from _findings(chart, "near_duplicate_image", "look the same", near)


def _findings(chart: Chart, check: str, says: str, found: Sequence[Sequence[Row]]) -> Iterator[Finding]:
    among: dict[tuple[Gravity, str, str], list[Sequence[Row]]] = {}
    for same in found:
        among.setdefault(_kind(same), []).append(same)
    for (gravity, where, advice), kind in among.items():
        yield Finding(
            check,
            gravity,
            len({(row.folder, row.split, row.number) for same in kind for row in same}),
            len(chart.rows),
            "images",
            f"{says}, {where}",
            advice,
            few(" = ".join(f"{row.image_id} ({chart.place(row)})" for row in same[:3]) for same in kind),
        )


def _kind(same: Sequence[Row]) -> tuple[Gravity, str, str]:
    if len({row.split for row in same}) > 1:
        return Gravity.SPOILS, "in different splits", "keep them in one split: a model may have learnt the answer"
    if len({(people(row.release), row.patient) for row in same}) > 1:
        return Gravity.LOOK, "under different patients", "one person under two ids? give both the same patient id"
    return Gravity.NOTE, "of one patient", "keep one of them where a study should count once"
