"""Reports: which sections they have, how often they repeat each other, and what looks like a person's data."""

from collections import Counter
from collections.abc import Iterator

from clinicclip.checks import privacy
from clinicclip.checks.base import Finding, Gravity, Section, few, percent
from clinicclip.checks.chart import Chart, groups

SECTIONS = {(True, True): "both", (True, False): "findings only", (False, True): "impression only"}
SECTIONS |= {(False, False): "none"}


def coverage(chart: Chart) -> Iterator[Finding | Section]:
    """Sections of the reports, by split, and reports without any statement."""
    heading = ["split", "records", *SECTIONS.values(), "distinct reports"]
    table, facts = [heading], {}
    for place, rows in chart.places().items():
        counts = Counter(SECTIONS[row.sections] for row in rows)
        distinct = len({row.report for row in rows})
        facts[place] = {"records": len(rows), **{name: counts[name] for name in SECTIONS.values()}}
        facts[place]["distinct_reports"] = distinct
        shares = [percent(counts[name], len(rows)) for name in SECTIONS.values()]
        table.append([place, f"{len(rows):,}", *shares, percent(distinct, len(rows))])
    yield Section("Reports", "Sections, and how many reports are not word for word another's.", table, facts)
    stated = {row.folder for row in chart.rows if row.report}  # a release of images and labels has none at all
    empty = [row for row in chart.rows if not row.report and row.folder in stated]
    if empty:
        yield Finding(
            "empty_report",
            Gravity.LOOK,
            len(empty),
            len(chart.rows),
            "records",
            "have no report, or none with a statement",
            "look why prepare found no sentence in them, or leave them out",
            few(row.image_id for row in empty),
        )


def repeated(chart: Chart) -> Iterator[Finding]:
    """Reports that several patients have, word for word."""
    stated = [row for row in chart.rows if row.report]
    shared = [same for same in groups(stated, lambda row: row.report) if len({row.patient for row in same}) > 1]
    if shared:
        most = max(shared, key=len)
        yield Finding(
            "report_repeated",
            Gravity.NOTE,
            sum(map(len, shared)),
            len(stated),
            "records",
            f"share their report with another patient's, word for word; the commonest is met {len(most):,} times",
            "as negatives of each other they are false: train with soft labels; retrieval counts equal texts as one",
            few(row.image_id for row in most),
        )


def private(chart: Chart) -> Iterator[Finding]:
    """Reports with a date, a record number, a name, ... by kind; the text itself is not shown."""
    for kind in privacy.KINDS:
        found = [row for row in chart.rows if kind in row.private]
        if found:
            yield Finding(
                f"private_{kind}",
                Gravity.LOOK,
                len(found),
                len(chart.rows),
                "reports",
                f"hold what looks like a {kind.replace('_', ' ')}",
                "read them where they lie; de-identify them before anything learnt from them leaves the machine",
                few(row.image_id for row in found),
            )
