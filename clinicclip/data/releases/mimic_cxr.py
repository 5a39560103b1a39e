"""MIMIC-CXR-JPG (images, views, splits, labels) with the reports of MIMIC-CXR; frontal views (PA, AP) are used.

``source`` is the unmodified download of MIMIC-CXR-JPG 2.0 or 2.1: ``files/p10/p10000032/s50414267/DICOM_ID.jpg`` beside
its tables, plain or gzipped. The reports come from another PhysioNet project, as ``mimic-cxr-reports.zip`` or unpacked.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clinicclip.data import schema, text
from clinicclip.data.releases import mimic_labels, tables
from clinicclip.data.releases.reports import Reports
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError

NAME = "mimic_cxr"
TITLE = "MIMIC-CXR-JPG with the reports of MIMIC-CXR"
LICENCE = (
    "PhysioNet Credentialed Health Data License 1.5.0: credentialed access with a signed data use agreement; "
    "not to be shared, nor sent to services that are not covered by it"
)
CITATION = (
    "Johnson et al. MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs. "
    "arXiv:1901.07042 (2019). doi:10.13026/jsn5-t979. Johnson et al. MIMIC-CXR, a de-identified publicly available "
    "database of chest radiographs with free-text reports. Sci Data 2019;6:317. doi:10.1038/s41597-019-0322-0"
)
OPEN = False
SPLITS = ("train", "validation", "test")
HAS_REPORTS = True
GENERATED = False
OPTIONS: Mapping[str, Any] = {"reports": "", "labels": "chexpert"}
PUBLISHED = {"reports": 227_835, "images": 377_110, "patients": 65_379}

METADATA, SPLIT = mimic_labels.names("metadata"), mimic_labels.names("split")
REPORTS = ("mimic-cxr-reports.zip", "mimic-cxr-reports")
REPORT_PATTERN = r"p\d\d/p\d+/s\d+\.txt"
FRONTAL = ("PA", "AP")
SPLIT_NAMES = {"train": "train", "validate": "validation", "test": "test"}
GOLD_SOURCE = "mimic_cxr_test_labels"


class _Image(NamedTuple):
    patient: str
    study: str
    image_id: str
    view: str | None  # None = absent from the metadata: in the splits, or on the disk, alone
    split: str  # "" = absent from the table of splits


def report_key(patient: str, study: str) -> str:
    """Where a study's report lies among the reports, and the name RadGraph's files know it by."""
    return f"p{patient[:2]}/p{patient}/s{study}.txt"


def root(folder: Path | str, release: str = NAME) -> Path:
    """The folder of MIMIC-CXR-JPG. Raises UserError when it holds no ``files/``."""
    if not (Path(folder) / "files").is_dir():
        advice = "point --source at the download" if release == NAME else "name the download with --images=DIR"
        raise UserError(f"{release}: no folder files/ in {folder}; {advice} of MIMIC-CXR-JPG")
    return Path(folder)


def image_file(folder: Path, patient: str, study: str, image_id: str) -> Path:
    """Where MIMIC-CXR-JPG keeps an image."""
    return folder / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}" / f"{image_id}.jpg"


def count(source: Path, *, reports: str = "", labels: str = "chexpert") -> dict[str, int]:
    """How many reports there are, how many images the tables name or ``files/`` holds, and of how many patients."""
    images = _images(source)
    with _reports(source, reports) as texts:
        return {
            "reports": len(texts.names),
            "images": len(images),
            "patients": len({image.patient for image in images}),
        }


def read(source: Path, *, reports: str = "", labels: str = "chexpert") -> Iterator[Study | Drop]:
    """Every frontal image with its study's report; what is not used comes as a Drop with its reason.

    ``reports`` is the zip or folder of the reports ('' = beside the tables); ``labels`` whose training labels to take:
    ``chexpert``, ``negbio`` or ``text`` (read off the report, as for a study that the table lacks, which a Drop names),
    or the place of a table as CheXbert writes it, joined by ``study_id`` or, without one, by ``Report Impression``.
    The 2.1.0 test labels are taken as gold where their table is there. Raises UserError when a file, folder or column
    is missing, a row occurs twice, or two tables contradict each other.
    """
    labelled, (gold, uncoded) = mimic_labels.of_reports(source, labels), mimic_labels.gold(source)
    orphans = dict.fromkeys((*labelled[0], *gold))
    with _reports(source, reports) as texts:
        unused = dict(texts.names)
        for (patient, study), own in itertools.groupby(_images(source), key=lambda image: image[:2]):
            present = unused.pop(report_key(patient, study), None) is not None
            orphans.pop(study, None)
            yield from _pairs(source, list(own), texts, present, labelled, gold.get(study, mimic_labels.UNCODED))
        yield from (Drop("report", Path(key).stem[1:], "report_without_image") for key in unused)
        yield from (Drop("label", study, "label_without_image") for study in orphans)
        yield from (Drop("label", name, "gold_column_missing") for name in uncoded)


def _pairs(
    source: Path,
    images: list[_Image],
    texts: Reports,
    present: bool,
    labelled: mimic_labels.Labels,
    gold: mimic_labels.Values,
) -> Iterator[Study | Drop]:
    """One study's images, each with its report."""
    patient, study = images[0][:2]
    reasons = {image: _unused(image) for image in images}
    usable = [image for image in images if not reasons[image]]
    report = texts.read(report_key(patient, study)) if present and usable else None
    fault = "" if report is not None else "report_unreadable" if present else "report_missing"
    findings, impression = text.report_sections(report or "")
    trained, worded = labelled
    labels = trained.get(study, worded.get(" ".join(impression.split())))
    if labels is None and (trained or (worded and report is not None)):
        yield Drop("label", study, "label_missing")
    truth = {name: value for name, value in zip(schema.CHEXPERT, gold, strict=True) if value != schema.UNKNOWN}
    for image in images:
        reason = reasons[image] or fault
        if reason:
            yield Drop("image", image.image_id, reason)
            continue
        yield Study(
            patient=patient,
            study=study,
            image_id=image.image_id,
            split=image.split,
            image=image_file(source, patient, study, image.image_id),
            findings=findings,
            impression=impression,
            view=image.view or "",
            labels=None if labels is None else dict(zip(schema.CHEXPERT, labels, strict=True)),
            gold=truth,
            gold_source=GOLD_SOURCE if truth else "",
        )
    if present and (fault or not usable):
        yield Drop("report", study, fault if usable else "report_without_frontal_image")


def _unused(image: _Image) -> str:
    if image.view is None:
        return "metadata_missing"
    if not image.split:
        return "split_missing"
    if not image.view:
        return "view_unknown"
    if image.view not in FRONTAL:
        return "not_frontal"
    return ""


def _images(source: Path) -> list[_Image]:
    """Every image that the metadata or the splits name, or the disk holds, by patient and study."""
    root(source)
    splits = by_image(source, SPLIT, "split")
    found = []
    for image_id, (patient, study, view) in by_image(source, METADATA, "ViewPosition").items():
        said = splits.pop(image_id, None)
        if said and said[:2] != (patient, study):
            raise UserError(
                f"{NAME}: image {image_id} is of another patient or study in the splits than in the metadata"
            )
        found.append(_Image(patient, study, image_id, view.upper(), _split(image_id, said[2]) if said else ""))
    for image_id, (patient, study, split) in splits.items():
        found.append(_Image(patient, study, image_id, None, _split(image_id, split)))
    named = {image.image_id for image in found}
    found += [_Image(*ids, None, "") for ids in _on_disk(source) if ids[2] not in named]
    _check_splits(found)
    return sorted(found, key=lambda image: image[:3])


def _on_disk(source: Path) -> Iterator[tuple[str, str, str]]:
    """(patient, study, image) of every file where the release keeps its images."""
    for folder, _, names in os.walk(source / "files"):
        *_, patient, study = "", "", *Path(folder).parts
        yield from ((patient[1:], study[1:], name.removesuffix(".jpg")) for name in names if name.endswith(".jpg"))


def _check_splits(images: list[_Image]) -> None:
    """Raises UserError when a patient's images, used or not, are in two splits."""
    splits: dict[str, str] = {}
    for image in images:
        if image.split and splits.setdefault(image.patient, image.split) != image.split:
            raise UserError(
                f"{NAME}: patient {image.patient} is in two splits, {splits[image.patient]} and {image.split}; fetch "
                f"{SPLIT[0]} again"
            )


def _split(image_id: str, name: str) -> str:
    if name not in SPLIT_NAMES:
        raise UserError(f"{NAME}: image {image_id}: split {name!r} is none of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name]


def by_image(source: Path, names: tuple[str, ...], column: str) -> dict[str, tuple[str, str, str]]:
    """{image: (patient, study, value of ``column``)} of a table of images. Raises UserError when it is faulty."""
    path = tables.need(source, names, NAME)
    found: dict[str, tuple[str, str, str]] = {}
    for row in tables.rows(path, ("dicom_id", *mimic_labels.IDS, column), NAME):
        image_id = row["dicom_id"]
        if image_id in found:
            raise UserError(f"{NAME}: {path.name} names image {image_id} twice; remove one of the rows")
        if not (image_id and row["subject_id"] and row["study_id"]):
            raise UserError(f"{NAME}: {path.name}: a row lacks its dicom_id, subject_id or study_id; fetch it again")
        found[image_id] = row["subject_id"], row["study_id"], row[column]
    return found


def _reports(source: Path, reports: str) -> Reports:
    if reports:
        return Reports(Path(reports), REPORT_PATTERN, NAME)
    for name in REPORTS:
        if (source / name).exists():
            return Reports(source / name, REPORT_PATTERN, NAME)
    raise UserError(
        f"{NAME}: no {' or '.join(REPORTS)} in {source}; fetch the zip from PhysioNet's MIMIC-CXR project and name it "
        "with --reports=ZIP"
    )
