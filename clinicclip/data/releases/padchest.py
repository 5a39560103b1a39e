"""PadChest: 16-bit radiographs whose Spanish reports were labelled; frontal views with a physician's labels are used.

``source`` is the unmodified download: ``PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`` (or .gz) beside the
images, in the folders ``0`` to ``54`` of their zips, in ``images``, or loose. Labels by a neural network (three
quarters of them) are not taken for truth, and the reports, being Spanish, not for text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema, spellings
from clinicclip.data.images import age_band
from clinicclip.data.releases import labelled, tables
from clinicclip.data.releases.labelled import Labelled
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError

NAME = "padchest"
TITLE = "PadChest, labels by physicians"
LICENCE = "PadChest Dataset Research Use Agreement (BIMCV): research alone, not to be shared"
CITATION = (
    "Bustos et al. PadChest: a large chest x-ray image dataset with multi-label annotated reports. Med Image Anal "
    "2020;66:101797. doi:10.1016/j.media.2020.101797"
)
OPEN = False
SPLITS = labelled.SPLITS
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {"split": labelled.TEST}
PUBLISHED = {"images": 160_868, "patients": 67_625, "images_by_physicians": 39_053}

FILES = ("*/*.png", "*.png")
TABLES = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "PADCHEST_chest_x_ray_images_labels_160K.csv")
FACTS = ("PatientSex_DICOM", "PatientBirth", "StudyDate_DICOM")
COLUMNS = ("ImageID", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels", *FACTS)
GOLD_SOURCE = "padchest_physicians"
PHYSICIAN = "Physician"
METHODS = {PHYSICIAN: "", "RNN_model": "labels_not_by_physician"}
# {projection: why it is not used}
PROJECTIONS = {
    **dict.fromkeys(("PA", "AP", "AP_horizontal"), ""),
    **dict.fromkeys(("L", "COSTAL"), "not_frontal"),
    **{"EXCLUDE": "excluded_by_release", "": "view_unknown"},
}
NAMED = spellings.by_spelling(spellings.PADCHEST)
REASONS = {
    spelling: reason
    for reason, groups in spellings.WITHOUT_FINDING.items()
    for spelling in spellings.by_spelling({reason: groups["PADCHEST"]} if "PADCHEST" in groups else {})
}
# What a sign leaves uncertain.
SIGNS = {
    **dict.fromkeys(("costophrenic angle blunting", "empyema"), "pleural_effusion"),
    **dict.fromkeys(("heart insufficiency", "hilar congestion", "kerley lines"), "edema"),
    **dict.fromkeys(("vascular redistribution", "central vascular redistribution"), "edema"),
    "volume loss": "atelectasis",
}
SAYS_NOTHING = ("suboptimal study",)
HIDES_THE_REST = ("unchanged",)  # what an earlier report named is not repeated
EXCLUDED = ("exclude",)
NOT_ABNORMAL = (
    "a variant of anatomy, or what looks like a finding and is none",
    "a trace of treatment or an object that supports nothing",
    "no statement about the patient's state",
)

_LIST = re.compile(r"\[(?:\s*(?:'[^']*'|\"[^\"]*\")\s*(?:,|(?=\])))*\s*\]")
_ITEM = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def count(source: Path, *, split: str = labelled.TEST) -> dict[str, int]:
    """How many images there are, of the table or the folders, of how many patients, and labelled by physicians."""
    found = _labelled(source, split)
    patients = {said.patient for said in found.values()} - {""}
    rows = tables.rows(tables.need(source, TABLES, NAME), COLUMNS, NAME)
    ours = {row["ImageID"] for row in rows if row["MethodLabel"] == PHYSICIAN}
    images = labelled.count(found, labelled.files(source, FILES, NAME, suffix=True))
    return images | {"patients": len(patients), "images_by_physicians": len(ours)}


def read(source: Path, *, split: str = labelled.TEST) -> Iterator[Study | Drop]:
    """Every frontal image with labels by a physician: what they name, and its parents, is present, the rest absent.

    A sign of a finding leaves it uncertain; beside "unchanged" what is not named is unknown. ``split`` says where they
    go: ``test`` all, or by ``hash`` of the patient to train, validation and test. Raises UserError when the table or a
    column is missing, a value is unknown, or two rows of an image differ.
    """
    yield from labelled.read(_labelled(source, split), labelled.files(source, FILES, NAME, suffix=True), GOLD_SOURCE)


def _labelled(source: Path, split: str) -> dict[str, Labelled]:
    path = tables.need(source, TABLES, NAME)
    found: dict[str, Labelled] = {}
    for row in tables.rows(path, COLUMNS, NAME):
        image_id, patient, view = row["ImageID"], row["PatientID"], row["Projection"]
        where = f"{NAME}: {path.name}: image {image_id}"
        for column, known in (("MethodLabel", METHODS), ("Projection", PROJECTIONS)):
            if row[column] not in known:
                raise UserError(f"{where}: {column} is {row[column]!r}; expected {', '.join(filter(None, known))}")
        names = _names(row["Labels"], where)
        unused = (
            PROJECTIONS[view] or METHODS[row["MethodLabel"]] or _silent(names) or "study_missing" * (not row["StudyID"])
        )
        said = Labelled(
            patient=patient,
            study=row["StudyID"],
            split=labelled.split_of(split, NAME, hash=patient),
            gold={} if unused else _gold(names),
            view=view.partition("_")[0],
            sex=row["PatientSex_DICOM"],
            age_band=_age_band(row["PatientBirth"], row["StudyDate_DICOM"]),
            unused=unused,
        )
        labelled.add(found, image_id, said, path, NAME)
    return found


def _age_band(birth: str, date: str) -> str:
    """From the year of birth and the date of the study, 20140915; '' where one of them is not known."""
    birth, year = birth.removesuffix(".0"), date[:4]
    return age_band(f"{int(year) - int(birth)}Y") if birth.isdecimal() and year.isdecimal() else ""


def _names(written: str, where: str) -> frozenset[str]:
    """The labels of a Python list of strings. Raises UserError when it is none, or a label is unknown."""
    if written in ("", "nan"):
        return frozenset()
    if not _LIST.fullmatch(written):
        raise UserError(f"{where}: Labels is no list such as ['normal']; fetch the file again")
    names = {" ".join((one or other).split()) for one, other in _ITEM.findall(written)} - {""}
    unknown = sorted(name for name in names if name not in NAMED and name not in REASONS)
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is no label of PadChest")
    return frozenset(names)


def _implied(findings: Iterable[str]) -> list[str]:
    """The findings with their parents, in the order of the vocabulary."""
    found = {name for finding in findings for name in (finding, *schema.PARENTS.get(finding, ()))}
    return sorted(found, key=schema.INDEX.__getitem__)


def _silent(names: frozenset[str]) -> str:
    """Why the labels say nothing, if they do not."""
    if names.intersection(EXCLUDED):
        return "excluded_by_release"
    return "" if names.difference(SAYS_NOTHING, HIDES_THE_REST) else "labels_say_nothing"


def _gold(names: frozenset[str]) -> dict[str, int]:
    present = {NAMED[name] for name in names if name in NAMED} - {"no_finding"}
    abnormal = present.difference(schema.NOT_ABNORMAL) or any(
        REASONS[name] not in NOT_ABNORMAL for name in names if name in REASONS
    )
    hidden = not names.isdisjoint(HIDES_THE_REST)
    gold = {} if hidden else {finding: schema.ABSENT for finding in NAMED.values() if finding != "no_finding"}
    gold |= dict.fromkeys(_implied(SIGNS[name] for name in names if name in SIGNS), schema.UNCERTAIN)
    gold |= dict.fromkeys(_implied(present), schema.PRESENT)
    if abnormal or not hidden:
        gold["normal"] = int(not abnormal)
    return gold
