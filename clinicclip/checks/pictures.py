"""Images that do not look as they should, and views that should not be there."""

import re
from collections import Counter
from collections.abc import Iterator

from clinicclip.checks import pixels
from clinicclip.checks.base import Finding, Gravity, Section, few, percent
from clinicclip.checks.chart import Chart
from clinicclip.data import boxes
from clinicclip.data.images import sanity

_ODD = {
    sanity.INVERTED: "air is brighter than the body: a MONOCHROME1 image shown as it is stored? invert the files",
    sanity.SIDEWAYS: "look at them, and turn the files",
    sanity.UPSIDE_DOWN: "look at them, and turn the files",
    sanity.LOW_CONTRAST: "blank or nearly so: look at them, and leave them out",
    sanity.BURNED_IN: "their header says that text is burned in: look for names before anything is shown",
    sanity.PERSONAL: "the header of the source file names a person, a birth date or the like: de-identify the files",
    boxes.CLIPPED: "a box passes the border of its image and is cut there: resized files, or another release's table?",
    boxes.REPEATED: "a box is there twice and kept once: look whether its table is whole",
    pixels.CLIPPED: "bright or dark areas are cut off: another window, or a wrong bit depth, when the files were made?",
}
_FRONTAL = re.compile(r"(?:frontal|pa|ap)\b.*", re.IGNORECASE)
_ADVICE = {
    "not frontal": "a side view shows other signs than its report's frontal one: leave it out",
    "unknown": "nobody knows whether they are frontal: give `view` where the source says it",
}


def oddities(chart: Chart) -> Iterator[Finding]:
    """Images that `prepare` flagged, and those whose gray levels are cut off."""
    for flag, advice in _ODD.items():
        found = [row.image_id for row in chart.rows if flag in row.flags]
        if found:
            says = f"have the flag {flag}"
            yield Finding(flag, Gravity.LOOK, len(found), len(chart.rows), "images", says, advice, few(found))


def views(chart: Chart) -> Iterator[Finding | Section]:
    """Views by split, and images that are not known to be frontal."""
    kinds = ("frontal", *_ADVICE)
    table, facts = [["split", *kinds]], {}
    for place, rows in chart.places().items():
        counts = Counter(_kind(row.view) for row in rows)
        facts[place] = {kind: counts[kind] for kind in kinds}
        table.append([place, *(percent(counts[kind], len(rows)) for kind in kinds)])
    yield Section("Views", "As the release or the image's own header names them.", table, facts)
    for kind, advice in _ADVICE.items():
        found = [row.image_id for row in chart.rows if _kind(row.view) == kind]
        if found:
            check = f"view_{kind.replace(' ', '_')}"
            says = "have an unknown view" if kind == "unknown" else "are not frontal"
            yield Finding(check, Gravity.LOOK, len(found), len(chart.rows), "images", says, advice, few(found))


def _kind(view: str) -> str:
    if not view:
        return "unknown"
    return "frontal" if _FRONTAL.fullmatch(view) else "not frontal"
