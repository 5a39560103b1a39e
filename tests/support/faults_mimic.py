"""What can be wrong with MIMIC-CXR-JPG, its reports and RadGraph's file of them."""

import json
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mimic
from judging import Fake, Sheet
from planting import Plant, cells, content, gone, put, text, write

_REPORT = "50414267"


def _zip(**changes: str | bytes | None) -> Plant:
    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        mimic.write_zip(root / mimic.ZIP, **changes)
        studies = [study.removeprefix("s") for study in changes]
        return (*studies, *(shot.image for shot in mimic.SHOTS if shot.study in studies))

    return plant


def _report_twice(root: Path, chance: random.Random) -> Sequence[str]:
    with zipfile.ZipFile(root / mimic.ZIP, "a") as archive:
        archive.writestr(f"copy/p10/p10000032/s{_REPORT}.txt", "IMPRESSION: Clear.")
    return (f"s{_REPORT}",)


def _all(sheet: str, column: str, value: str, where: str, name: str) -> Plant:
    """Writes a value into a column of all rows of which a cell is ``where``."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        header, *rows = cells(root, sheet)
        for row in rows:
            if where in row:
                row[header.index(column)] = value
        write(root, sheet, [header, *rows])
        return (name,)

    return plant


_GRAPHS = "MIMIC-CXR_graphs.json"


def _mimic(root: Path) -> Path:
    """The fake with RadGraph's file, which has a graph of two words of every report."""
    mimic.fake(root)
    studies = {shot.study: f"p{shot.patient[:2]}/p{shot.patient}/s{shot.study}.txt" for shot in mimic.SHOTS}
    words = {
        "1": {"tokens": "small", "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": [["modify", "2"]]},
        "2": {"tokens": "effusion", "label": "OBS-DP", "start_ix": 1, "end_ix": 1, "relations": []},
    }
    entries = {name: {"text": "small effusion", "entities": words} for name in studies.values()}
    (root / _GRAPHS).write_text(json.dumps(entries, indent=1))
    return root


def _entry(change: Callable[[dict[str, Any]], object]) -> Plant:
    """Changes the graph of a study that is used."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        entries = json.loads((root / _GRAPHS).read_text())
        change(next(entry for name, entry in entries.items() if _REPORT in name))
        (root / _GRAPHS).write_text(json.dumps(entries))
        return (_REPORT, f"s{_REPORT}")

    return plant


def _frontal(row: Mapping[str, str]) -> bool:
    return row["ViewPosition"] in ("PA", "AP")


MIMIC: Mapping[str, Plant] = {
    "images missing": gone("files"),
    "reports missing": gone(mimic.ZIP),
    "zip cut short": content(mimic.ZIP, lambda old: old[: len(old) // 2]),
    "zip flipped": content(
        mimic.ZIP, lambda old: old[:300] + bytes(b ^ 85 for b in old[300:340]) + old[340:], *mimic.TEXTS
    ),
    "report missing": _zip(s50414267=None),
    "report blank": _zip(s50414267="", s57375967=" \n"),
    "report without sections": _zip(s50414267="FINDINGS:\n\nIMPRESSION:\n"),
    "report not UTF-8": _zip(s50414267=b"FINDINGS: \xff\xfe clear"),
    "report of nobody": _zip(s59999999="IMPRESSION: Clear."),
    "report twice": _report_twice,
    "lateral without view": put(mimic.METADATA, "", "ViewPosition", where=_frontal, name="dicom_id"),
    "view unknown": put(mimic.METADATA, "XA", "ViewPosition", where=_frontal, name="dicom_id"),
    "study in two splits": put(
        mimic.SPLIT, "test", "split", where=lambda row: row["study_id"] == _REPORT, name="subject_id"
    ),
    "patient in two splits": _all(mimic.SPLIT, "split", "test", "53189527", "10000032"),
    "study of two patients": _all(mimic.METADATA, "subject_id", "10009999", "53189527", "image"),
    "graphs missing": gone(_GRAPHS),
    "graphs empty": content(_GRAPHS, lambda old: b""),
    "graphs cut short": content(_GRAPHS, lambda old: old[: len(old) // 2]),
    "graphs not UTF-8": content(_GRAPHS, lambda old: old.replace(b"small", b"sm\xffll", 1)),
    "graphs a list": text(_GRAPHS, lambda old: f"[{old}]"),
    "graphs of others": text(_GRAPHS, lambda old: old.replace("/s", "/s9")),
    "graph of nobody": text(_GRAPHS, lambda old: old.replace(f"/s{_REPORT}", "/s59999999"), "59999999"),
    "graph twice": text(_GRAPHS, lambda old: old.replace("53189527", _REPORT), _REPORT),
    "graph without words": _entry(lambda entry: entry.pop("entities")),
    "graph of an unknown label": _entry(lambda entry: entry["entities"]["1"].update(label="OBS")),
    "graph beyond its text": _entry(lambda entry: entry["entities"]["2"].update(end_ix=9)),
    "graph to nowhere": _entry(lambda entry: entry["entities"]["1"].update(relations=[["modify", "7"]])),
    "graph of words": _entry(lambda entry: entry["entities"]["1"].update(start_ix="first")),
}

FAKES: Mapping[str, Fake] = {
    "mimic_cxr": Fake(
        _mimic,
        (
            Sheet(mimic.METADATA, "dicom_id", {}, columns=("subject_id", "study_id", "ViewPosition")),
            Sheet(mimic.SPLIT, "dicom_id", {"split": "dev"}, columns=("subject_id", "study_id", "split")),
            Sheet(mimic.CHEXPERT, "study_id", {"Edema": "2.0", "Fracture": "yes"}, columns=("subject_id", "Edema")),
            Sheet(mimic.GOLD, "study_id", {"Edema": "7"}, needed=False, columns=("Edema", "Airspace Opacity")),
        ),
        folder="files/p10/p10000032/s50414267",
        options=(f"--radgraph={{root}}/{_GRAPHS}",),
        special=MIMIC,
    ),
}
