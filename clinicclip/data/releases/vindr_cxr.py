"""VinDr-CXR: frontal radiographs labelled and boxed by radiologists; the test set, read by consensus, is used.

``source`` is the unmodified download from PhysioNet: ``test/IMAGE_ID.dicom`` beside ``annotations/``. The training
images carry the opinions of three readers each, who often differ; they are not read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import spellings
from clinicclip.data.releases import labelled, tables
from clinicclip.data.releases.labelled import Labelled
from clinicclip.data.schema import Box, Drop, Study
from clinicclip.errors import UserError

NAME = "vindr_cxr"
TITLE = "VinDr-CXR, test set"
LICENCE = (
    "PhysioNet Credentialed Health Data License 1.5.0: credentialed access with a signed data use agreement; not to "
    "be shared"
)
CITATION = (
    "Nguyen et al. VinDr-CXR: an open dataset of chest X-rays with radiologist's annotations. Sci Data 2022;9:429. "
    "doi:10.1038/s41597-022-01498-w"
)
OPEN = False
SPLITS = ("test",)
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {}
PUBLISHED = {"images": 3_000}

FILES = ("test/*.dicom", "test/*.dcm")
LABELS = ("annotations/image_labels_test.csv", "image_labels_test.csv")
BOXES = ("annotations/annotations_test.csv", "annotations_test.csv")
CORNERS = ("x_min", "y_min", "x_max", "y_max")
GOLD_SOURCE = "vindr_cxr_consensus"
NORMAL = "No finding"
NAMED = spellings.by_spelling(spellings.VINDR)
UNNAMED = frozenset(
    spelling
    for groups in spellings.WITHOUT_FINDING.values()
    for spelling in spellings.by_spelling({"": groups["VINDR"]} if "VINDR" in groups else {})
)
SAME = {"Other disease": "Other diseases"}  # versions of the tables differ


def count(source: Path) -> dict[str, int]:
    """How many images there are, of the table or the folder."""
    return labelled.count(_labelled(source), labelled.files(source, FILES, NAME))


def read(source: Path) -> Iterator[Study | Drop]:
    """Every test image with its 28 labels as gold, and the boxes of findings the vocabulary holds.

    Raises UserError when a table or column is missing, a value is none, two rows of an image differ, or an image is
    said to be normal and to show a finding.
    """
    yield from labelled.read(_labelled(source), labelled.files(source, FILES, NAME), GOLD_SOURCE)


def _labelled(source: Path) -> dict[str, Labelled]:
    path, boxes = tables.need(source, LABELS, NAME), _boxes(source)
    found: dict[str, Labelled] = {}
    for row in tables.rows(path, ("image_id",), NAME):
        image_id = row.pop("image_id")
        said = Labelled(patient=image_id, gold=_gold(path, image_id, row), boxes=boxes.get(image_id, ()))
        labelled.add(found, image_id, said, path, NAME)
    labelled.known(boxes, found, tables.need(source, BOXES, NAME), NAME)
    return found


def _gold(path: Path, image_id: str, row: Mapping[str, str]) -> dict[str, int]:
    """{finding: 1 where one of its columns says so}, and normal."""
    columns = {SAME.get(column, column): column for column in row}
    for names, kind in (
        ((NAMED.keys() | UNNAMED) - columns.keys(), "lacks"),
        (columns.keys() - NAMED - UNNAMED, "has the unknown"),
    ):
        if names:
            raise UserError(f"{NAME}: {path.name} {kind} column {', '.join(sorted(names))}; expected VinDr-CXR's 28")
    where = f"{NAME}: {path.name}: image {image_id}"
    values = {name: labelled.coded(row, column, where) for name, column in columns.items()}
    normal = values.pop(NORMAL)
    if normal and any(values.values()):
        raise UserError(f"{where} has {NORMAL} and a finding; fetch the file again")
    gold = {finding: 0 for name, finding in NAMED.items() if name != NORMAL}
    gold |= {NAMED[name]: 1 for name, value in values.items() if value and name in NAMED}
    return gold | {"normal": normal}


def _boxes(source: Path) -> dict[str, tuple[Box, ...]]:
    """{image: boxes}; a row of an image without findings has none."""
    path = tables.need(source, BOXES, NAME)
    found: dict[str, tuple[Box, ...]] = {}
    normal = []
    for row in tables.rows(path, ("image_id", "class_name", *CORNERS), NAME):
        image_id, name = row["image_id"], SAME.get(row["class_name"], row["class_name"])
        where = f"{NAME}: {path.name}: image {image_id}"
        if name not in NAMED and name not in UNNAMED:
            raise UserError(f"{where}: {name!r} is no class of VinDr-CXR")
        if name == NORMAL:
            if any(row[corner] for corner in CORNERS):
                raise UserError(f"{where}: {NORMAL} has a box; fetch the file again")
            normal.append(image_id)
            continue
        box = labelled.box(NAMED.get(name, ""), row, CORNERS, where, corners=True)
        found[image_id] = (*found.get(image_id, ()), *[box] * (name in NAMED))
    for image_id in normal:
        if image_id in found:
            raise UserError(f"{NAME}: {path.name}: image {image_id} has {NORMAL} and another row; fetch the file again")
        found[image_id] = ()
    return found
