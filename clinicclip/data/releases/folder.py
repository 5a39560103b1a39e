"""A plain folder: ``pairs.jsonl`` beside images, the door for everybody else's data.

One JSON object a line: ``image`` (path, relative to the folder), ``text`` (the report) and ``patient``;
optional ``study``, ``split`` (train, validation, test), ``labels`` ({CheXpert finding: 1, 0 or -1}, for
training), ``view``, ``sex`` (F, M or O).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema, text
from clinicclip.data.images import SUFFIXES
from clinicclip.data.releases import tables
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError, nearest

NAME = "folder"
TITLE = "a folder of image-report pairs"
LICENCE = "as its owner says"
CITATION = ""
OPEN = False
SPLITS = ("train", "validation", "test")
HAS_REPORTS = True
GENERATED = False
OPTIONS: Mapping[str, Any] = {}
PUBLISHED: Mapping[str, int] = {}

PAIRS = "pairs.jsonl"
REQUIRED = ("image", "text", "patient")
OPTIONAL = ("study", "split", "labels", "view", "sex")
SPLIT_NAMES = {name: name for name in SPLITS} | dict.fromkeys(("val", "valid", "validate"), "validation")
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "o": "O", "other": "O"}
LABEL_VALUES = (schema.PRESENT, schema.ABSENT, schema.UNCERTAIN)


def count(source: Path) -> dict[str, int]:
    """How many reports (distinct studies) and images (lines) the list names; images it does not name count, too."""
    studies, images = set(), []
    for _, row in _rows(source):
        studies.add(row.get("study", row["image"]))
        images.append(row["image"])
    return {"reports": len(studies), "images": len(images) + len(_unlisted(source, images))}


def read(source: Path) -> Iterator[Study | Drop]:
    """Every pair of the list; a repeated image, a study's second, different report and unlisted images are dropped.

    Raises UserError when the list is missing or empty, or naming the line that cannot be understood.
    """
    images: set[str] = set()
    reports: dict[str, bytes] = {}
    unpaired: dict[str, str] = {}
    for line, row in _rows(source):
        study = row.get("study", row["image"])
        report = hashlib.sha256(row["text"].encode()).digest()
        if row["image"] in images:
            reason = "duplicate_image"
        elif reports.setdefault(study, report) != report:
            reason = "duplicate_study"
        else:
            yield _study(source, line, row, study)
            reason = ""
        if reason:
            yield Drop("image", row["image"], reason)
            unpaired[study] = reason
        images.add(row["image"])
    yield from (Drop("report", study, reason) for study, reason in unpaired.items() if study not in reports)
    yield from (Drop("image", image, "not_listed") for image in _unlisted(source, images))


def _unlisted(source: Path, listed: Iterable[str]) -> list[str]:
    """The images below the folder that the list does not name, by their paths."""
    known = {os.path.normpath(image) for image in listed}
    files = (Path(folder, name) for folder, _, names in os.walk(source) for name in names)
    found = (str(file.relative_to(source)) for file in files if file.suffix.lower() in SUFFIXES)
    return sorted(name for name in found if name not in known)


def _study(source: Path, line: int, row: Mapping[str, Any], study: str) -> Study:
    findings, impression = text.report_sections(row["text"])
    return Study(
        patient=row["patient"],
        study=study,
        image_id=row["image"],
        split=_split(line, row),
        image=source / row["image"],
        findings=findings,
        impression=impression,
        view=row.get("view", ""),
        labels=_labels(line, row["labels"]) if "labels" in row else None,
        sex=_sex(line, row["sex"]) if "sex" in row else "",
    )


def _split(line: int, row: Mapping[str, Any]) -> str:
    if "split" not in row:
        return (*("train",) * 8, "validation", "test")[schema.fold(row["patient"], 10)]
    if row["split"] not in SPLIT_NAMES:
        raise _fault(line, f"split {row['split']!r} is none of {', '.join(SPLITS)}")
    return SPLIT_NAMES[row["split"]]


def _sex(line: int, said: str) -> str:
    sex = said.strip().lower()
    if sex and sex not in SEXES:
        raise _fault(line, f"sex {said!r} is none of {', '.join(SEXES)}")
    return SEXES.get(sex, "")


def _labels(line: int, labels: Any) -> dict[str, int]:
    if not isinstance(labels, dict):
        raise _fault(line, "labels is not an object of finding: 1, 0 or -1")
    known: dict[str, int] = {}
    for name, value in labels.items():
        finding = "_".join(name.lower().replace("-", " ").split())
        if finding not in schema.CHEXPERT:
            raise _fault(line, f"{name!r} is no CheXpert finding{nearest(finding, schema.CHEXPERT)}")
        if value is not None and value not in LABEL_VALUES:
            raise _fault(line, f"label {name!r} is {value!r}; expected 1, 0, -1 or null")
        known[finding] = schema.UNKNOWN if value is None else int(value)
    return known


def _rows(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    path = source / PAIRS
    if not path.is_file():
        raise UserError(f"{NAME}: no {PAIRS} in {source}; python -m clinicclip.prepare --help shows its form")
    empty = True
    with path.open("rb") as file:
        for line, content in enumerate(file, 1):
            if content.strip():
                empty = False
                yield line, _row(line, content)
    if empty:
        raise UserError(f"{NAME}: {path} is empty; expected one pair a line")


def _row(line: int, content: bytes) -> dict[str, Any]:
    try:
        row = tables.objects(content)
    except ValueError as fault:
        raise _fault(line, str(fault)) from None
    if not isinstance(row, dict):
        raise _fault(line, 'not an object such as {"image": ..., "text": ..., "patient": ...}')
    row = {key: value for key, value in row.items() if value is not None}
    missing = [key for key in REQUIRED if key not in row or (key != "text" and not str(row[key]).strip())]
    if missing:
        raise _fault(line, f"lacks {', '.join(missing)}")
    for key in row:
        if key not in REQUIRED + OPTIONAL:
            raise _fault(line, f"unknown key {key!r}{nearest(key, REQUIRED + OPTIONAL)}")
        if key != "labels":
            row[key] = _word(line, key, row[key])
    return row


def _word(line: int, key: str, value: Any) -> str:
    """A value as text; numbers may stand for ids."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _fault(line, f"{key} is not text")
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise _fault(line, f"{key} holds half a character (a lone surrogate), which is no text") from None
    return str(value)


def _fault(line: int, message: str) -> UserError:
    return UserError(f"{NAME}: {PAIRS} line {line}: {message}")
