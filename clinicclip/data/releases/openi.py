"""Open-I (Indiana University): radiographs with official report XMLs; the frontal views are used.

Reads the official downloads (``ecgen-radiology/*.xml`` with ``NLMCXR_png/CXR*.png`` or ``NLMCXR_dcm/*/*.dcm``, or the
images loose) as well as smaller copies (``images/``), and optionally ``labels.csv``: findings coded by people, for
evaluation. Views come from a table, which the official download has not; without one, from the headers of DICOM files,
and PNG files have an unknown view, so that only ``views="all"`` uses them.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clinicclip.data import images as files
from clinicclip.data import schema, spellings
from clinicclip.data.releases import tables
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError, nearest

NAME = "openi"
TITLE = "Open-I (Indiana University chest X-rays)"
LICENCE = "CC BY-NC-ND 4.0"
CITATION = (
    "Demner-Fushman et al. Preparing a collection of radiology examinations for distribution and retrieval. "
    "J Am Med Inform Assoc 2016;23(2):304-310. doi:10.1093/jamia/ocv080"
)
OPEN = True
SPLITS = ("fold0", "fold1", "fold2", "fold3", "fold4")
HAS_REPORTS = True
GENERATED = False
OPTIONS: Mapping[str, Any] = {"views": "frontal"}
PUBLISHED: Mapping[str, int] = {"reports": 3_955, "images": 7_470}

REPORTS = "ecgen-radiology"
IMAGES = ("NLMCXR_png/*", "NLMCXR_dcm/*/*", "images/*", "*", "*/*.dcm")
VIEWS = ("projections.csv", "indiana_projections.csv")
FRONTAL = ("frontal", "pa", "ap")
ALL = "all"
GOLD_SOURCE = "openi_mesh"
SPELLING = spellings.by_spelling(spellings.NIH)  # of the findings in labels.csv
NOT_FINDINGS = ("uid", "split", "normal")

# "CXR7_2_IM-0001-4001" in the official download is "7_2_IM-0001-4001.dcm" in the public Kaggle copy, and the "2_" is
# in some of the places alone.
_IMAGE_NAME = re.compile(r"(?:CXR)?(?P<uid>\d+)_(?P<rest>.+?)(?:\.dcm)?")


class _Image(NamedTuple):
    path: Path | None  # None = named in the table or a report, absent on disk
    view: str  # "" = nothing says it


class Report(NamedTuple):
    """The text of one report, where a section that it lacks is empty, and the ids of its images."""

    uid: str
    findings: str
    impression: str
    images: tuple[str, ...] = ()


def count(source: Path, *, views: str = FRONTAL[0]) -> dict[str, int]:
    """How many reports and images there are: XML files, and images on disk or named in the table of views.

    Without such a table the images that the reports name are counted instead of those it names.
    """
    images = _images(source, views)
    return {"reports": len(_report_files(source)), "images": sum(map(len, images.values()))}


def read(source: Path, *, views: str = FRONTAL[0]) -> Iterator[Study | Drop]:
    """Every frontal image with its report; what is not used comes as a Drop with its reason.

    With ``views="all"`` all other images are used, too. Raises UserError for another choice, when a folder or column is
    missing, nothing says which images are frontal, or two reports share a uid.
    """
    images, coded = _images(source, views), gold(source)
    seen: dict[str, str] = {}
    for path in _report_files(source):
        report = _parse(path)
        uid = report.uid if report else path.stem
        if uid in seen:
            raise UserError(f"{NAME}: {path.name} and {seen[uid]} are both report {uid}; remove the wrong one")
        seen[uid] = path.name
        own = images.pop(uid, {})
        if report is None:
            yield Drop("report", uid, "report_unreadable")
            yield from (Drop("image", image_id, "report_unreadable") for image_id in own)
        else:
            yield from _pairs(report, own, coded.get(uid, {}), views)
    yield from (Drop("label", uid, "label_without_report") for uid in coded if uid not in seen)
    for own in images.values():
        yield from (Drop("image", image_id, "image_without_report") for image_id in own)


def reports(source: Path) -> Iterator[Report]:
    """The text of every report that can be read, with or without images."""
    yield from filter(None, map(_parse, _report_files(source)))


def _pairs(report: Report, images: Mapping[str, _Image], gold: Mapping[str, int], views: str) -> Iterator[Study | Drop]:
    used = False
    for image_id, image in sorted(images.items()):
        reason = _unused(image, views)
        if reason:
            yield Drop("image", image_id, reason)
            continue
        assert image.path is not None
        used = True
        yield Study(
            patient=report.uid,
            study=report.uid,
            image_id=image_id,
            split=SPLITS[schema.fold(report.uid)],
            image=image.path,
            findings=report.findings,
            impression=report.impression,
            view=image.view,
            gold=gold,
            gold_source=GOLD_SOURCE if gold else "",
        )
    if not used:
        yield Drop("report", report.uid, _unpaired(report, images))


def _unused(image: _Image, views: str) -> str:
    if views != ALL and image.view not in FRONTAL:
        return "not_frontal" if image.view else "view_unknown"
    return "" if image.path else "image_missing"


def _unpaired(report: Report, images: Mapping[str, _Image]) -> str:
    if not (report.findings or report.impression):
        return "report_without_sections"
    if any(image.path for image in images.values()):
        return "report_without_frontal_image"
    return "report_without_image"


def _report_files(source: Path) -> list[Path]:
    folder = source / REPORTS
    files = sorted(folder.glob("*.xml"), key=lambda path: (len(path.stem), path.stem))
    if not files:
        raise UserError(
            f"{NAME}: no report XMLs in {folder}; unpack NLMCXR_reports.tgz there, or point --source at the "
            f"folder that holds {REPORTS}/"
        )
    return files


def _parse(path: Path) -> Report | None:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError):
        return None
    identity = root.find("IUXRId")
    sections = {
        (node.get("Label") or "").strip().upper(): "".join(node.itertext()).strip()
        for node in root.iter("AbstractText")
    }
    uid = (identity.get("id") if identity is not None else None) or path.stem
    named = tuple(filter(None, (node.get("id") for node in root.iter("parentImage"))))
    return Report(uid, sections.get("FINDINGS", ""), sections.get("IMPRESSION", ""), named)


def _images(source: Path, views: str) -> dict[str, dict[str, _Image]]:
    """{uid: {image id: image}} over the union of the images on disk and those named elsewhere.

    Raises UserError where frontal ``views`` are wanted and nothing tells them.
    """
    if views not in (FRONTAL[0], ALL):
        raise UserError(f"{NAME}: views={views}: expected {FRONTAL[0]} or {ALL}{nearest(views, (FRONTAL[0], ALL))}")
    table, paths = tables.find(source, VIEWS), _image_files(source)
    if table is None and views != ALL and not any(map(_has_header, paths)):
        raise UserError(
            f"{NAME}: {source} has neither {' nor '.join(VIEWS)}, which tell frontal from lateral views (columns "
            "image,uid,view or uid,filename,projection), nor DICOM files, whose headers do; put one of them there, or "
            f"use all images with --views={ALL}"
        )
    named = _in_table(table) if table else _in_reports(source)
    found: dict[str, dict[str, _Image]] = {}
    for path in paths:
        uid, rest = _name(path.stem, path.parent.name, path.name)
        image_id, view = named.pop((uid, _tail(rest)), (f"CXR{uid}_{rest}", ""))
        if image_id in found.get(uid, {}):
            raise UserError(f"{NAME}: two files are image {image_id}; keep one")
        found.setdefault(uid, {})[image_id] = _Image(path, view or _view(path))
    for (uid, _), (image_id, view) in named.items():
        found.setdefault(uid, {})[image_id] = _Image(None, view)
    return found


def _has_header(path: Path) -> bool:
    return path.suffix.lower() in (".dcm", ".dicom")


def _view(path: Path) -> str:
    """The view that a DICOM header names; '' where there is none, or none that can be read."""
    try:
        return files.dicom_view(path).lower() if _has_header(path) else ""
    except files.ImageFault:
        return ""


def _image_files(source: Path) -> list[Path]:
    for pattern in IMAGES:
        found = sorted(path for path in source.glob(pattern) if path.suffix.lower() in files.SUFFIXES)
        if found:
            return found
    raise UserError(
        f"{NAME}: no {' or '.join(files.SUFFIXES)} images in {source} as {', '.join(IMAGES)}; unpack NLMCXR_png.tgz or "
        "NLMCXR_dcm.tgz, or correct --source"
    )


Named = dict[tuple[str, str], tuple[str, str]]  # {(uid, end of the name): (image id, view)}


def _in_reports(source: Path) -> Named:
    """The images that the reports name; their views are not said."""
    return {
        (uid, _tail(rest)): (f"CXR{uid}_{rest}", "")
        for path in _report_files(source)
        if (report := _parse(path))
        for uid, rest in (_name(image, path.name, image) for image in report.images)
    }


def _in_table(path: Path) -> Named:
    """The images that the table of views names."""
    kaggle = path.name.startswith(VIEWS[1])
    image, view = ("filename", "projection") if kaggle else ("image", "view")
    named: Named = {}
    for row in tables.rows(path, (image, "uid", view), NAME):
        name = row[image]
        rest = _name(name.removesuffix(Path(name).suffix if "." in name else ""), path.name, name)[1]
        key = row["uid"], _tail(rest)
        if key in named:
            raise UserError(f"{NAME}: {path.name} names image {name} twice; remove one of the rows")
        named[key] = f"CXR{row['uid']}_{rest}", row[view].lower()
    return named


def _tail(rest: str) -> str:
    """The part of an image's name that is the same everywhere."""
    return rest[max(rest.find("IM-"), 0) :]


def _name(stem: str, place: str, name: str) -> tuple[str, str]:
    match = _IMAGE_NAME.fullmatch(stem)
    if match is None:
        raise UserError(f"{NAME}: {place}: {name!r} is not an Open-I image name such as CXR1_1_IM-0001-4001")
    return match["uid"], match["rest"]


def gold(source: Path) -> dict[str, dict[str, int]]:
    """{uid: {finding or "normal": 0 or 1}} of ``labels.csv``; empty when there is none."""
    path = tables.find(source, ("labels.csv",))
    if path is None:
        return {}
    coded: dict[str, dict[str, int]] = {}
    names: dict[str, str] = {}
    for row in tables.rows(path, ("uid", "normal"), NAME):
        uid = row["uid"]
        if uid in coded:
            raise UserError(f"{NAME}: {path.name} has two rows of uid {uid}; remove one")
        names = names or _columns(path, row)
        for column in names:
            if row[column] not in ("0", "1"):
                raise UserError(f"{NAME}: {path.name} uid {uid}: {column} is {row[column]!r}, expected 0 or 1")
        coded[uid] = {name: int(row[column]) for column, name in names.items()}
    return coded


def _columns(path: Path, row: Mapping[str, str]) -> dict[str, str]:
    """{column: finding, or "normal"}. Raises UserError for other columns, or when one of the fourteen is not there."""
    names = {column: SPELLING.get(column, "") for column in row if column not in NOT_FINDINGS}
    missing = set(SPELLING.values()) - {"no_finding", *names.values()}
    for columns, kind in (
        ([column for column, finding in names.items() if not finding], "has the unknown"),
        (sorted(missing), "lacks a"),
    ):
        if columns:
            raise UserError(f"{NAME}: {path.name} {kind} column {', '.join(columns)}; expected NIH's fourteen findings")
    return names | {"normal": "normal"}
