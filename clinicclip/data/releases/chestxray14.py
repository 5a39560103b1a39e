"""NIH ChestX-ray14: frontal radiographs with labels mined from reports that are not published; for evaluation.

``source`` is the unmodified download: ``Data_Entry_2017_v2020.csv``, ``train_val_list.txt``, ``test_list.txt``, where
there is one ``BBox_List_2017.csv``, and the images in ``images_001/images`` to ``images_012/images``, or ``images``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema, spellings
from clinicclip.data.images import age_band
from clinicclip.data.releases import labelled, tables
from clinicclip.data.releases.labelled import Labelled
from clinicclip.data.schema import Box, Drop, Study
from clinicclip.errors import UserError

NAME = "chestxray14"
TITLE = "NIH ChestX-ray14"
LICENCE = "free for any use with the citation and a link to the NIH Clinical Center's download"
CITATION = (
    "Wang et al. ChestX-ray8: hospital-scale chest X-ray database and benchmarks on weakly-supervised classification "
    "and localization of common thorax diseases. CVPR 2017, 2097-2106. doi:10.1109/CVPR.2017.369"
)
OPEN = True
SPLITS = ("train", "validation", "test")
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {}
PUBLISHED = {"images": 112_120, "patients": 30_805}

ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
FILES = ("images_0??/images/*.png", "images/*.png")
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
BOXES = ("BBox_List_2017.csv",)
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
FRONTAL = ("PA", "AP")
GOLD_SOURCE = "nih_report_mining"
NORMAL = "No Finding"
SPELLING = spellings.by_spelling(spellings.NIH)
LABELS = (
    *("atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia"),
)


def count(source: Path) -> dict[str, int]:
    """How many images there are, of the table, the lists or the folders, and of how many patients."""
    found = _labelled(source)
    patients = {said.patient for said in found.values()} - {""}
    return labelled.count(found, labelled.files(source, FILES, NAME, suffix=True)) | {"patients": len(patients)}


def read(source: Path) -> Iterator[Study | Drop]:
    """Every image of table, lists and folders; of the patients for training, a tenth by hash is for validation.

    A label that is not named counts as absent. Raises UserError when a file or column is missing, a label or split is
    unknown, or two rows of an image differ.
    """
    yield from labelled.read(_labelled(source), labelled.files(source, FILES, NAME, suffix=True), GOLD_SOURCE)


def _labelled(source: Path) -> dict[str, Labelled]:
    path = tables.need(source, ENTRIES, NAME)
    splits, boxes = _splits(source), _boxes(source)
    found: dict[str, Labelled] = {}
    for row in tables.rows(path, COLUMNS, NAME):
        image, patient, view = row["Image Index"], row["Patient ID"], row["View Position"]
        names = row["Finding Labels"].split("|")
        present = {_finding(name, image) for name in names if name != NORMAL}
        if present and NORMAL in names:
            raise UserError(f"{NAME}: {path.name}: image {image} has {NORMAL} and a finding; fetch the file again")
        split = splits.get(image, "")
        if split == "train" and schema.fold(patient, 10) == 0:
            split = "validation"
        said = Labelled(
            patient=patient,
            split=split,
            gold={name: int(name in present) for name in LABELS} | {"normal": int(not present)},
            boxes=boxes.get(image, ()),
            view=view,
            sex=row["Patient Gender"],
            age_band=age_band(row["Patient Age"].removesuffix("Y") + "Y"),
            unused="split_missing" * (not split) or "view_unknown" * (view not in FRONTAL),
        )
        labelled.add(found, image, said, path, NAME)
    labelled.known(boxes, found, tables.find(source, BOXES) or path, NAME)
    return found | {image: Labelled("", unused="labels_missing") for image in splits.keys() - found.keys()}


def _finding(name: str, image: str) -> str:
    finding = SPELLING.get(name)
    if finding not in LABELS:
        raise UserError(f"{NAME}: image {image} has the unknown label {name!r}; expected NIH's fourteen or {NORMAL}")
    return finding


def _splits(source: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (source / name).is_file():
            raise UserError(f"{NAME}: no {name} in {source}; fetch it from the NIH")
        for image in tables.words(source / name, NAME):
            if image in splits:
                raise UserError(
                    f"{NAME}: {name}: image {image} is named before, in {' or '.join(LISTS)}; keep one line"
                )
            splits[image] = split
    return splits


def _boxes(source: Path) -> dict[str, tuple[Box, ...]]:
    """{image: boxes in pixels}; empty when the table is not there."""
    path, found = tables.find(source, BOXES), dict[str, tuple[Box, ...]]()
    for row in tables.rows(path, BOX_COLUMNS, NAME) if path else ():
        image = row["Image Index"]
        where = f"{NAME}: {BOXES[0]}: image {image}"
        box = labelled.box(_finding(row["Finding Label"], image), row, BOX_COLUMNS[2:], where)
        found[image] = (*found.get(image, ()), box)
    return found
