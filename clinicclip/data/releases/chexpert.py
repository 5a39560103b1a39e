"""CheXpert v1.0 and v1.0-small: radiographs with labels, without reports; frontal views are used, for evaluation.

``source`` is the download, unmodified: ``train.csv`` and ``valid.csv`` beside ``train/patient00001/study1/*.jpg``, or
the batches of v1.0 (``CheXpert-v1.0 batch 2 (train 1)/patient00001/...``, the tables in batch 1), and where they are
there ``test_labels.csv`` (or ``groundtruth.csv``) with ``test/``. The 5x200 set, 200 images of each of five findings
that show it alone, is a table of paths with five columns, or drawn here by a rule and a seed.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clinicclip.data import schema
from clinicclip.data.images import age_band
from clinicclip.data.releases import tables
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError

NAME = "chexpert"
TITLE = "CheXpert"
LICENCE = "Stanford University Dataset Research Use Agreement: research alone, not to be shared"
CITATION = (
    "Irvin et al. CheXpert: a large chest radiograph dataset with uncertainty labels and expert comparison. "
    "AAAI 2019;33:590-597. doi:10.1609/aaai.v33i01.3301590"
)
OPEN = False
SPLITS = ("train", "validation", "test", "five_by_200")
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {"five_by_200": "", "draw_seed": 0}
PUBLISHED = {"images": 224_316, "patients": 65_240}  # train, validation and test

TABLES = {
    "train": ("train.csv", "train_labels.csv"),
    "validation": ("valid.csv", "val_labels.csv"),
    "test": ("test_labels.csv", "groundtruth.csv", "test.csv"),
}
FACTS = ("Sex", "Age", "Frontal/Lateral", "AP/PA")  # columns of the published tables; those of labels lack all four
WITH_FACTS = ("train.csv", "valid.csv")
FOLDERS = ("train", "valid", "val", "test")
BATCHES = {"train": "CheXpert-v1.0 batch * (train *)", "valid": "CheXpert-v1.0 batch * (validate *)"}  # full size alone
GOLD_SOURCE = {"validation": "chexpert_radiologists", "test": "chexpert_radiologists", "five_by_200": "chexpert_5x200"}
FIVE = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural_effusion")
EACH = 200
DRAW = "draw"
VIEWS = ("frontal", "lateral")
SEXES = {"male": "M", "female": "F"}
VALUES = {"1": schema.PRESENT, "0": schema.ABSENT, "-1": schema.UNCERTAIN, "": schema.UNKNOWN}


class _Image(NamedTuple):
    path: str  # "train/patient00001/study1/view1_frontal.jpg"
    split: str
    view: str  # PA, AP, FRONTAL or LATERAL
    sex: str
    age_band: str
    values: Mapping[str, int]

    @property
    def patient(self) -> str:
        """The folder of the patient."""
        return self.path.split("/")[1]


def count(source: Path, *, five_by_200: str = "", draw_seed: int = 0) -> dict[str, int]:
    """How many images the tables name or the folders hold, and of how many patients the tables do."""
    images = _images(source)
    unlabelled = _files(source).keys() - {image.path for image in images}
    return {"images": len(images) + len(unlabelled), "patients": len({image.patient for image in images})}


def read(source: Path, *, five_by_200: str = "", draw_seed: int = 0) -> Iterator[Study | Drop]:
    """Every frontal image; labels of the training images are the release's, those of the others are gold.

    ``five_by_200`` is a table, or ``draw``: the 200 of each finding whose paths hash lowest with ``draw_seed``, among
    frontal training images where it is present and the other four are neither present nor uncertain. All other images
    of its patients are left out. Raises UserError when a file or column is missing, a label is none, an image occurs
    twice, or too few are there to draw.
    """
    images, paths = _images(source), _files(source)
    five = _five(images, five_by_200, draw_seed) if five_by_200 else {}
    held = {image.patient for image in images if image.path in five}
    for image in images:
        at = paths.get(image.path, source / image.path)
        if image.view == "LATERAL":
            yield Drop("image", image.path, "not_frontal")
        elif image.path in five:
            yield _study(at, image._replace(split="five_by_200", values=five[image.path]))
        elif image.patient in held:
            yield Drop("image", image.path, "patient_in_five_by_200")
        else:
            yield _study(at, image)
    unlabelled = paths.keys() - {image.path for image in images}
    yield from (Drop("image", path, "labels_missing") for path in sorted(unlabelled))


def _files(source: Path) -> dict[str, Path]:
    """Every image on the disk, by its path as the tables have it."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        batches = sorted(source.glob(BATCHES[folder])) if folder in BATCHES else []
        for home in (source / folder, *batches, *(batch / folder for batch in batches)):
            found |= {f"{folder}/{path.relative_to(home).as_posix()}": path for path in home.glob("*/*/*.jpg")}
    return found


def _study(at: Path, image: _Image) -> Study:
    trained = image.split == "train"
    values = {name: schema.ABSENT if value == schema.UNKNOWN else value for name, value in image.values.items()}
    known = {name: value for name, value in image.values.items() if value != schema.UNKNOWN}
    return Study(
        patient=image.patient,
        study="/".join(image.path.split("/")[1:3]),
        image_id=image.path,
        split=image.split,
        image=at,
        findings="",
        impression="",
        view=image.view,
        labels=values if trained else None,  # a blank of the labeller is unmentioned, and counts as absent
        gold={} if trained else known,
        gold_source=GOLD_SOURCE.get(image.split, ""),
        sex=image.sex,
        age_band=image.age_band,
    )


def _images(source: Path) -> list[_Image]:
    found: dict[str, _Image] = {}
    places = (source, *sorted(source.glob(BATCHES["valid"])))
    for split, names in TABLES.items():
        path = next(filter(None, (tables.find(place, names) for place in places)), None)
        for row in _rows(path) if path else ():
            assert path is not None
            image = _image(path, split, row)
            if image.path in found:
                raise UserError(f"{NAME}: {path.name} names image {image.path}, which is named before; remove a row")
            found[image.path] = image
    if not found:
        raise UserError(f"{NAME}: no {', '.join(names[0] for names in TABLES.values())} in {source}; correct --source")
    return list(found.values())


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table. Raises UserError when it lacks its facts, or some of them alone."""
    header = next(tables.rows(path, ("Path",), NAME))
    whole = path.name.removesuffix(".gz") in WITH_FACTS or not header.keys().isdisjoint(FACTS)
    yield from tables.rows(path, ("Path", *FACTS * whole), NAME)


def _image(path: Path, split: str, row: Mapping[str, str]) -> _Image:
    name = _path(path, row["Path"])
    view = (row.get("Frontal/Lateral") or name.rpartition("_")[2].partition(".")[0]).lower()
    if view not in VIEWS:
        raise UserError(f"{NAME}: {path.name}: image {name} is {view!r}, neither {' nor '.join(VIEWS)}; repair the row")
    frontal = view == VIEWS[0]
    age = row.get("Age", "").removesuffix(".0")
    return _Image(
        path=name,
        split=split,
        view=(row.get("AP/PA") or "FRONTAL") if frontal else "LATERAL",
        sex=SEXES.get(row.get("Sex", "").lower(), ""),
        age_band=age_band(f"{age}Y"),
        values=_values(path, name, row, schema.CHEXPERT),
    )


def _path(table: Path, written: str) -> str:
    """A path below the source: releases write one or several folders in front of it."""
    parts = written.split("/")
    starts = [i for i, part in enumerate(parts) if part in FOLDERS and len(parts) - i == 4]
    if not starts:
        raise UserError(
            f"{NAME}: {table.name}: {written!r} is no path such as train/patient00001/study1/view1_frontal.jpg"
        )
    return "/".join(parts[starts[0] :])


def _values(table: Path, image: str, row: Mapping[str, str], findings: tuple[str, ...]) -> dict[str, int]:
    columns = {"_".join(column.lower().split()): column for column in row}
    missing = [name for name in findings if name not in columns]
    if missing:
        raise UserError(f"{NAME}: {table.name} lacks a column of {', '.join(missing)}; it has {', '.join(row)}")
    values = {}
    for name in findings:
        value = row[columns[name]]
        if value.removesuffix(".0") not in VALUES:
            raise UserError(f"{NAME}: {table.name}: {image}: {value!r} is no label; expected 1, 0, -1 or blank")
        values[name] = VALUES[value.removesuffix(".0")]
    return values


def _five(images: list[_Image], table: str, seed: int) -> dict[str, dict[str, int]]:
    """{path: gold} of the 5x200 set, each image with one of the five findings."""
    if table == DRAW:
        return _drawn(images, seed)
    path, frontal = Path(table), {image.path for image in images if image.view != "LATERAL"}
    if not path.is_file():
        raise UserError(f"{NAME}: no table {table}; --five_by_200 takes a csv of Path and five findings, or {DRAW}")
    found: dict[str, dict[str, int]] = {}
    for row in tables.rows(path, ("Path",), NAME):
        name = _path(path, row["Path"])
        if name in found:
            raise UserError(f"{NAME}: {path.name} names image {name} twice; remove one of the rows")
        found[name] = _values(path, name, row, FIVE)
        if sum(found[name].values()) != 1 or set(found[name].values()) != {0, 1}:
            raise UserError(f"{NAME}: {path.name}: {name} does not show exactly one of {', '.join(FIVE)}")
        if name not in frontal:
            raise UserError(f"{NAME}: {path.name}: {name} is no frontal image of {', '.join(TABLES)}")
    each = {finding: sum(gold[finding] for gold in found.values()) for finding in FIVE}
    if len(set(each.values())) > 1:
        told = ", ".join(f"{number} of {finding}" for finding, number in each.items())
        raise UserError(f"{NAME}: {path.name} names {told}; a set as this has as many of each: fetch it again")
    return found


def _drawn(images: list[_Image], seed: int) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for finding in FIVE:
        alone = [image.path for image in images if image.split == "train" and _shows_only(image, finding)]
        if len(alone) < EACH:
            raise UserError(f"{NAME}: {len(alone)} training images show {finding} alone, {EACH} are needed to draw")
        chosen = sorted(alone, key=lambda path: hashlib.sha256(f"{seed}:{path}".encode()).digest())[:EACH]
        found |= {path: {name: int(name == finding) for name in FIVE} for path in chosen}
    return found


def _shows_only(image: _Image, finding: str) -> bool:
    others = (image.values[name] for name in FIVE if name != finding)
    shown = image.values[finding] == schema.PRESENT and image.view != "LATERAL"
    return shown and not any(value in (schema.PRESENT, schema.UNCERTAIN) for value in others)
