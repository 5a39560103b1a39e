"""RSNA Pneumonia Detection Challenge (stage 2): frontal radiographs with boxes of opacities that suggest pneumonia.

``source`` is the unmodified download: ``stage_2_train_images/PATIENT_ID.dcm`` beside ``stage_2_train_labels.csv`` and
``stage_2_detailed_class_info.csv``. The images of stage 2's test have no labels, and are not read. All images come
from ChestX-ray14, several of a person: a model that was trained there has seen them. Whose they are is said by RSNA's
``pneumonia-challenge-dataset-mappings_2018.json``; where it lies in ``source``, patients are ChestX-ray14's.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data.releases import labelled, tables
from clinicclip.data.releases.labelled import Labelled
from clinicclip.data.schema import Box, Drop, Study
from clinicclip.errors import UserError

NAME = "rsna"
TITLE = "RSNA Pneumonia Detection Challenge"
LICENCE = "terms of the RSNA challenge: free for academic research and education, with the citation"
CITATION = (
    "Shih et al. Augmenting the National Institutes of Health chest radiograph dataset with expert annotations of "
    "possible pneumonia. Radiol Artif Intell 2019;1(1):e180041. doi:10.1148/ryai.2019180041"
)
OPEN = False
SPLITS = labelled.SPLITS
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {"split": labelled.TEST}
PUBLISHED = {"images": 26_684}

FILES = ("stage_2_train_images/*.dcm",)
TARGETS = ("stage_2_train_labels.csv",)
CLASSES = ("stage_2_detailed_class_info.csv",)
MAPPING = ("pneumonia-challenge-dataset-mappings_2018.json",)
SIDES = ("x", "y", "width", "height")
GOLD_SOURCE = "rsna_radiologists"
FINDING = "pneumonia"
# {class: (Target, whether the image is normal)}
MEANING = {"Lung Opacity": (1, 0), "No Lung Opacity / Not Normal": (0, 0), "Normal": (0, 1)}


def count(source: Path, *, split: str = labelled.TEST) -> dict[str, int]:
    """How many images there are, of the tables or the folder, and of how many patients where that is known."""
    found = _labelled(source, split)
    patients = {said.patient for said in found.values()} - {""}
    known = {"patients": len(patients)} if tables.find(source, MAPPING) else {}
    return labelled.count(found, labelled.files(source, FILES, NAME)) | known


def read(source: Path, *, split: str = labelled.TEST) -> Iterator[Study | Drop]:
    """Every image with pneumonia (Target) and normal (the detailed class) as gold, and its boxes.

    ``split`` says where they go: ``test`` all; to train, validation and test by ``hash`` of the patient, which needs
    RSNA's mapping, or of the ``image``, where a person may be in several. Raises UserError when a table or column is
    missing, a value is none, or the tables contradict each other.
    """
    yield from labelled.read(_labelled(source, split), labelled.files(source, FILES, NAME), GOLD_SOURCE)


def _labelled(source: Path, split: str) -> dict[str, Labelled]:
    targets, classes, patients = _targets(source), _classes(source), _patients(source)
    if split == labelled.HASH and patients is None:
        raise UserError(
            f"{NAME}: split={split} is by patient, and whose the images are is said by {MAPPING[0]} alone: put that "
            f"file of RSNA's into {source}, or split by {labelled.IMAGE}, a person's images being on several sides"
        )
    found = {}
    for image_id in targets.keys() | classes.keys():
        target, boxes = targets.get(image_id, (0, ()))
        unused = "target_missing" * (image_id not in targets) or "class_missing" * (image_id not in classes)
        meant, normal = MEANING[classes.get(image_id, "Normal")]
        if not unused and meant != target:
            raise UserError(f"{NAME}: image {image_id}: Target {target} and class {classes[image_id]!r} contradict")
        patient = image_id if patients is None else patients.get(image_id, "")
        found[image_id] = Labelled(
            patient=patient,
            split=labelled.split_of(split, NAME, hash=patient, image=image_id),
            gold={FINDING: target, "normal": normal},
            boxes=boxes,
            unused=unused,
        )
    return found


def _patients(source: Path) -> dict[str, str] | None:
    """{image: number of its patient in ChestX-ray14}; None where RSNA's mapping is not in ``source``."""
    path = tables.find(source, MAPPING)
    if path is None:
        return None
    try:
        entries = tables.objects(path.read_bytes())
        numbers = {entry["subset_img_id"]: str(int(entry["img_id"].partition("_")[0])) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{NAME}: {path.name} is not RSNA's list of {{subset_img_id, img_id}}, the latter such as "
            "00000001_000.png; fetch it again"
        ) from None
    return numbers


def _targets(source: Path) -> dict[str, tuple[int, tuple[Box, ...]]]:
    """{image: (Target, boxes)}: a row a box, or one row with none."""
    path = tables.need(source, TARGETS, NAME)
    found: dict[str, tuple[int, tuple[Box, ...]]] = {}
    for row in tables.rows(path, ("patientId", *SIDES, "Target"), NAME):
        image_id = row["patientId"]
        where = f"{NAME}: {path.name}: image {image_id}"
        if not image_id:
            raise UserError(f"{where}: a row names no image; repair it or fetch the file again")
        target = labelled.coded(row, "Target", where)
        if any(row[side] for side in SIDES) != bool(target):
            raise UserError(f"{where}: a box without Target 1, or Target 1 without a box; fetch the file again")
        if image_id in found and not (target and found[image_id][0]):
            raise UserError(f"{where} has two rows, and not a box in each; remove one of the rows")
        boxes = (labelled.box(FINDING, row, SIDES, where),) if target else ()
        found[image_id] = target, (*found.get(image_id, (0, ()))[1], *boxes)
    return found


def _classes(source: Path) -> dict[str, str]:
    """{image: class}: a row a box, all of one class."""
    path = tables.need(source, CLASSES, NAME)
    found: dict[str, str] = {}
    for row in tables.rows(path, ("patientId", "class"), NAME):
        image_id, name = row["patientId"], row["class"]
        if name not in MEANING:
            raise UserError(f"{NAME}: {path.name}: image {image_id}: {name!r} is none of {', '.join(MEANING)}")
        if found.setdefault(image_id, name) != name:
            raise UserError(f"{NAME}: {path.name}: image {image_id} is {found[image_id]!r} and {name!r}")
    return found
