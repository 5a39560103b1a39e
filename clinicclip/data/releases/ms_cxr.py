"""MS-CXR: phrases of MIMIC-CXR's reports, each with the boxes of what it describes; for phrase grounding.

``source`` is the unmodified download with ``MS_CXR_Local_Alignment_v1.1.0.csv`` (or v1.0.0). The images are those of
MIMIC-CXR-JPG, named with ``images``. There is one record a phrase and image: an image with two phrases is there twice.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema
from clinicclip.data.releases import labelled, mimic_cxr, tables
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError

NAME = "ms_cxr"
TITLE = "MS-CXR (phrase grounding on MIMIC-CXR)"
LICENCE = mimic_cxr.LICENCE
CITATION = (
    "Boecking et al. Making the most of text semantics to improve biomedical vision-language processing. ECCV 2022, "
    "1-21. doi:10.1007/978-3-031-20059-5_1. Data: doi:10.13026/b90j-vb87"
)
OPEN = False
SPLITS = labelled.SPLITS
HAS_REPORTS = True
GENERATED = False
OPTIONS: Mapping[str, Any] = {"images": ""}
PUBLISHED = {"reports": 1_162}

TABLES = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
SIDES = ("x", "y", "w", "h")
SIZE = ("image_height", "image_width")
COLUMNS = ("dicom_id", "category_name", "label_text", "path", *SIDES, *SIZE)
UNSPLIT = TABLES[1]  # the version without a split
SPLIT_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validate": "validation", "test": "test"}
GOLD_SOURCE = "ms_cxr_radiologists"

_PATH = re.compile(r"(?:.*/)?files/p\d\d/p(?P<patient>\d+)/s(?P<study>\d+)/(?P<image>[^/]+)\.jpg")

Phrase = tuple[str, str, str]  # image, category, text


def count(source: Path, *, images: str = "") -> dict[str, int]:
    """How many phrases there are, with an image each."""
    phrases = len(_phrases(source, tables.need(source, TABLES, NAME)))
    return {"reports": phrases, "images": phrases}


def read(source: Path, *, images: str = "") -> Iterator[Study | Drop]:
    """Every phrase with its image and boxes; its category is gold.

    ``images`` is the folder of MIMIC-CXR-JPG, which holds ``files/`` ('' = the source itself). Raises UserError when
    the table, a column or the images are missing, or a row cannot be understood.
    """
    path, root = tables.need(source, TABLES, NAME), mimic_cxr.root(images or source, NAME)
    numbers: dict[str, int] = {}
    for (image_id, category, text), rows in _phrases(source, path).items():
        numbers[image_id] = numbers.get(image_id, 0) + 1
        where, first = f"{NAME}: {path.name}: image {image_id}", rows[0]
        located, finding = _PATH.fullmatch(first["path"]), _finding(category, where)
        if located is None or located["image"] != image_id:
            raise UserError(f"{where}: the path {first['path']!r} is not that of the image in MIMIC-CXR-JPG")
        if len({(row["path"], row.get("split"), *(row[side] for side in SIZE)) for row in rows}) > 1:
            raise UserError(f"{where}: rows of one phrase differ in path, split or size of the image")
        height, width = tables.numbers(first, SIZE, where)
        name = f"{image_id}-{numbers[image_id]}"
        yield Study(
            patient=located["patient"],
            study=name,
            image_id=name,
            split=_split(first, where),
            image=mimic_cxr.image_file(root, located["patient"], located["study"], image_id),
            findings=text,
            impression="",
            view="frontal",
            gold={finding: schema.PRESENT},
            gold_source=GOLD_SOURCE,
            boxes=tuple(labelled.box(finding, row, SIDES, where) for row in rows),
            drawn_on=(int(height), int(width)),
        )


def _phrases(source: Path, path: Path) -> dict[Phrase, list[dict[str, str]]]:
    """The rows of each phrase, one a box."""
    found: dict[Phrase, list[dict[str, str]]] = {}
    columns = (*COLUMNS, *["split"] * (not path.name.startswith(UNSPLIT)))
    for row in tables.rows(path, columns, NAME):
        if not row["dicom_id"]:
            raise UserError(f"{NAME}: {path.name}: a row names no image; repair it or fetch the file again")
        found.setdefault((row["dicom_id"], row["category_name"], row["label_text"]), []).append(row)
    return found


def _finding(category: str, where: str) -> str:
    finding = "_".join(category.lower().split())
    if finding not in schema.CHEXPERT:
        raise UserError(f"{where}: category_name {category!r} is no finding of CheXpert's")
    return finding


def _split(row: Mapping[str, str], where: str) -> str:
    """The table's split, all for testing in the version that has none."""
    name = row.get("split", labelled.TEST)
    if name not in SPLIT_NAMES:
        raise UserError(f"{where}: split {name!r} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name]
