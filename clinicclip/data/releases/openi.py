"""Open-I (Indiana University): radiographs with official report XMLs; the frontal views are used.

Reads the official downloads (``NLMCXR_png/CXR*.png``, ``ecgen-radiology/*.xml``) as well as smaller copies
(``images/``), with a table of views, and optionally ``labels.csv``: findings coded by people, for evaluation.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clinicclip.data import schema, spellings
from clinicclip.data.images import SUFFIXES
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
IMAGES = ("NLMCXR_png", "images")
VIEWS = ("projections.csv", "indiana_projections.csv")
FRONTAL = ("frontal", "pa", "ap")
ALL = "all"
GOLD_SOURCE = "openi_mesh"
SPELLING = spellings.by_spelling(spellings.NIH)  # of the findings in labels.csv
NOT_FINDINGS = ("uid", "split", "normal")

# "CXR7_2_IM-0001-4001" in the official download is "7_2_IM-0001-4001.dcm" in the public Kaggle copy.
_IMAGE_NAME = re.compile(r"(?:CXR)?(?P<uid>\d+)_(?P<rest>.+?)(?:\.dcm)?")


class _Image(NamedTuple):
    path: Path | None  # None = named in the table, absent on disk
    view: str  # "" = on disk, absent from the table


class Report(NamedTuple):
    """The text of one report; a section that it lacks is empty."""

    uid: str
    findings: str
    impression: str


def count(source: Path, *, views: str = FRONTAL[0]) -> dict[str, int]:
    """How many reports and images there are: XML files, and images on disk or named in the table of views."""
    images = _images(source)
    return {"reports": len(_report_files(source)), "images": sum(map(len, images.values()))}


def read(source: Path, *, views: str = FRONTAL[0]) -> Iterator[Study | Drop]:
    """Every frontal image with its report; what is not used comes as a Drop with its reason.

    With ``views="all"`` the other known views are used, too. Raises UserError for another choice, when a folder, the
    table of views or a column is missing, or two reports share a uid.
    """
    if views not in (FRONTAL[0], ALL):
        raise UserError(f"{NAME}: views={views}: expected {FRONTAL[0]} or {ALL}{nearest(views, (FRONTAL[0], ALL))}")
    images, coded = _images(source), gold(source)
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
    if not image.view:
        return "view_unknown"
    if views != ALL and image.view not in FRONTAL:
        return "not_frontal"
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
    return Report(uid, sections.get("FINDINGS", ""), sections.get("IMPRESSION", ""))


def _images(source: Path) -> dict[str, dict[str, _Image]]:
    """{uid: {image id: image}} over the union of the images on disk and those named in the table of views."""
    views = _views(source)
    found: dict[str, dict[str, _Image]] = {}
    for path in _image_files(source):
        uid, rest = _name(path.stem, path.parent.name, path.name)
        image_id = f"CXR{uid}_{rest}"
        if image_id in found.get(uid, {}):
            raise UserError(f"{NAME}: two files are image {image_id}; keep one")
        found.setdefault(uid, {})[image_id] = _Image(path, views.pop((uid, rest), ""))
    for (uid, rest), view in views.items():
        found.setdefault(uid, {})[f"CXR{uid}_{rest}"] = _Image(None, view)
    return found


def _image_files(source: Path) -> list[Path]:
    for name in IMAGES:
        folder = source / name
        if folder.is_dir():
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            if files:
                return files
    raise UserError(
        f"{NAME}: no {' or '.join(SUFFIXES)} images in {' or '.join(f'{source}/{name}' for name in IMAGES)}; "
        "unpack NLMCXR_png.tgz, or correct --source"
    )


def _views(source: Path) -> dict[tuple[str, str], str]:
    path = tables.find(source, VIEWS)
    if path is None:
        raise UserError(
            f"{NAME}: {source} has neither {' nor '.join(VIEWS)}, which tell frontal from lateral views "
            "(columns image,uid,view or uid,filename,projection); put one there"
        )
    kaggle = path.name.startswith(VIEWS[1])
    image, view = ("filename", "projection") if kaggle else ("image", "view")
    views: dict[tuple[str, str], str] = {}
    for row in tables.rows(path, (image, "uid", view), NAME):
        name = row[image]
        key = row["uid"], _name(name.removesuffix(Path(name).suffix if "." in name else ""), path.name, name)[1]
        if key in views:
            raise UserError(f"{NAME}: {path.name} names image {name} twice; remove one of the rows")
        views[key] = row[view].lower()
    return views


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
    for row in tables.rows(path, ("uid", "normal"), NAME):
        uid = row["uid"]
        if uid in coded:
            raise UserError(f"{NAME}: {path.name} has two rows of uid {uid}; remove one")
        names = {column: _finding(column, path) for column in row if column not in NOT_FINDINGS}
        names["normal"] = "normal"
        for column in names:
            if row[column] not in ("0", "1"):
                raise UserError(f"{NAME}: {path.name} uid {uid}: {column} is {row[column]!r}, expected 0 or 1")
        coded[uid] = {name: int(row[column]) for column, name in names.items()}
    return coded


def _finding(column: str, path: Path) -> str:
    finding = SPELLING.get(column)
    if finding is None:
        raise UserError(f"{NAME}: {path.name} has the unknown column {column}; expected findings in NIH's spelling")
    return finding
