"""Who is where: patients in several splits, and image ids met twice.

Ids are compared within a release and those made from it, over all folders given. Those of other releases agree by
chance, and those of two plain folders of pairs may: that is for a person to say. Copies of the images themselves are
found by `duplicates`.
"""

from collections.abc import Iterator

from clinicclip.checks.base import Finding, Gravity, few
from clinicclip.checks.chart import Chart, Row, groups
from clinicclip.data import patients as persons
from clinicclip.data.patients import people
from clinicclip.data.releases import labelled


def patients(chart: Chart) -> Iterator[Finding]:
    """Patients in more than one split."""
    known = {(people(row.release), row.patient) for row in chart.rows}
    apart = [same for same in groups(chart.rows, lambda row: (people(row.release), row.patient)) if _splits(same) > 1]
    torn, namesakes = ([same for same in apart if _certain(same) == certain] for certain in (True, False))
    put = "put all images of a patient into one split, and prepare again"
    for gravity, found, says, advice in (
        (Gravity.SPOILS, torn, "are in more than one split", put),
        (
            Gravity.LOOK,
            namesakes,
            "are in another split of another folder of pairs",
            f"if they are the same people, {put}",
        ),
    ):
        if found:
            yield Finding(
                "patient_overlap",
                gravity,
                len(found),
                len(known),
                "patients",
                says,
                advice,
                few(
                    f"{same[0].patient} in {' and '.join(sorted({chart.place(row) for row in same}))}" for same in found
                ),
            )


def untold(chart: Chart) -> Iterator[Finding]:
    """Images of one release under ids of two, or split by image: nobody can tell whose they are."""
    for place, manifest in enumerate(chart.manifests):
        rows = [row for row in chart.rows if row.folder == place]
        kin = [
            f"{chart.folders[k]} ({other['name']})"
            for k, other in enumerate(chart.manifests)
            if persons.untold(manifest, other["name"])
        ]
        by_image = manifest["settings"].get("split") == labelled.IMAGE
        for met, says, advice in (
            (kin, f"of {chart.folders[place]} may be of people in {', '.join(kin)}", "do not train on one of them"),
            (by_image, "are split by image, and not by person", "evaluate on all of them, with --split=test"),
        ):
            if met:
                yield Finding("people_untold", Gravity.LOOK, len(rows), len(chart.rows), "images", says, advice)


def image_ids(chart: Chart) -> Iterator[Finding]:
    """Image ids that occur more than once."""
    twice = list(groups(chart.rows, lambda row: (row.collection, row.image_id)))
    for gravity, found, says in (
        (Gravity.SPOILS, [same for same in twice if _splits(same) > 1], "are in more than one split"),
        (Gravity.LOOK, [same for same in twice if _splits(same) == 1], "occur more than once in a split"),
    ):
        if found:
            yield Finding(
                "image_id_repeated",
                gravity,
                len(found),
                len({(row.collection, row.image_id) for row in chart.rows}),
                "image ids",
                says,
                "keep one record of each image",
                few(same[0].image_id for same in found),
            )


def _certain(same: list[Row]) -> bool:
    """Whether rows of one patient id are in several splits of one collection: certainly one person's."""
    return any(_splits(own) > 1 for own in groups(same, lambda row: row.collection))


def _splits(rows: list[Row]) -> int:
    return len({row.split for row in rows})
