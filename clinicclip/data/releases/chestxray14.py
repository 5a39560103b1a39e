"""NIH ChestX-ray14: frontal radiographs with labels mined from reports that are not published; for evaluation.

``source`` is the unmodified download: ``Data_Entry_2017_v2020.csv``, ``train_val_list.txt``, ``test_list.txt``, where
there is one ``BBox_List_2017.csv``, and the images in ``images_001/images`` to ``images_012/images``, or ``images``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema, spellings
from clinicclip.data.images import age_band
from clinicclip.data.releases import tables
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
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
BOXES = ("BBox_List_2017.csv",)
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
GOLD_SOURCE = "nih_report_mining"
NORMAL = "No Finding"
SPELLING = spellings.by_spelling(spellings.NIH)
LABELS = (
    *("atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia"),
)


def count(source: Path) -> dict[str, int]:
    """How many images the table names, and of how many patients."""
    patients = [row["Patient ID"] for row in tables.rows(_table(source), COLUMNS, NAME)]
    return {"images": len(patients), "patients": len(set(patients))}


def read(source: Path) -> Iterator[Study | Drop]:
    """Every image of the table; of the patients for training, a tenth by hash is for validation.

    A label that is not named counts as absent. Raises UserError when a file or column is missing, a label or split is
    unknown, or an image occurs twice.
    """
    splits, boxes, files = _splits(source), _boxes(source), _files(source)
    for row in tables.rows(_table(source), COLUMNS, NAME):
        image = row["Image Index"]
        if image not in splits:
            yield Drop("image", image, "split_missing")
        elif image not in files:
            yield Drop("image", image, "image_missing")
        else:
            yield _study(row, splits[image], files[image], boxes.get(image, ()))


def _study(row: Mapping[str, str], split: str, path: Path, boxes: tuple[Box, ...]) -> Study:
    image, patient = row["Image Index"], row["Patient ID"]
    present = {_finding(name, image) for name in row["Finding Labels"].split("|") if name != NORMAL}
    if split == "train" and schema.fold(patient, 10) == 0:
        split = "validation"
    return Study(
        patient=patient,
        study=image,
        image_id=image,
        split=split,
        image=path,
        findings="",
        impression="",
        view=row["View Position"],
        gold={name: int(name in present) for name in LABELS} | {"normal": int(not present)},
        gold_source=GOLD_SOURCE,
        boxes=boxes,
        sex=row["Patient Gender"],
        age_band=age_band(row["Patient Age"].removesuffix("Y") + "Y"),
    )


def _finding(name: str, image: str) -> str:
    finding = SPELLING.get(name)
    if finding not in LABELS:
        raise UserError(f"{NAME}: image {image} has the unknown label {name!r}; expected NIH's fourteen or {NORMAL}")
    return finding


def _table(source: Path) -> Path:
    path = tables.find(source, ENTRIES)
    if path is None:
        raise UserError(f"{NAME}: no {' or '.join(ENTRIES)} in {source}; fetch it from the NIH, or correct --source")
    return path


def _splits(source: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (source / name).is_file():
            raise UserError(f"{NAME}: no {name} in {source}; fetch it from the NIH")
        for image in (source / name).read_text().split():
            if splits.setdefault(image, split) != split:
                raise UserError(f"{NAME}: image {image} is in both {' and '.join(LISTS)}; remove it from one")
    return splits


def _boxes(source: Path) -> dict[str, tuple[Box, ...]]:
    """{image: boxes in pixels}; empty when the table is not there."""
    path, found = tables.find(source, BOXES), dict[str, tuple[Box, ...]]()
    for row in tables.rows(path, BOX_COLUMNS, NAME) if path else ():
        image = row["Image Index"]
        try:
            x, y, width, height = (float(row[column]) for column in BOX_COLUMNS[2:])
        except ValueError:
            raise UserError(f"{NAME}: {path and path.name}: image {image} has a box that is no four numbers") from None
        box = Box(_finding(row["Finding Label"], image), x, y, width, height)
        found[image] = (*found.get(image, ()), box)
    return found


def _files(source: Path) -> dict[str, Path]:
    """{file name: path} of all images."""
    folders = [*sorted(source.glob("images_0??/images")), source / "images"]
    files = {path.name: path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    if not files:
        raise UserError(f"{NAME}: no images in {source}/images_001/images or {source}/images; unpack images_*.tar.gz")
    return files
