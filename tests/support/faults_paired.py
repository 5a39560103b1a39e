"""What can be wrong with a folder of pairs, Open-I, CheXpert and ChestX-ray14 alone."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fakes
from judging import Fake, Sheet
from planting import Plant, content, gone, put, text

from clinicclip.data.releases import chestxray14, chexpert

# The plain folder

PAIRS = "pairs.jsonl"


def _pair(**changes: Any) -> Plant:
    """Changes one of the pairs, chosen by chance."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        rows = [json.loads(line) for line in (root / PAIRS).read_text().splitlines()]
        number = chance.randrange(1, len(rows))
        told = rows[number]["image"]
        for key, value in changes.items():
            value = rows[0][key] if value is SAME else value
            rows[number] = {k: v for k, v in rows[number].items() if k != key} | ({} if value is None else {key: value})
        (root / PAIRS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return (f"line {number + 1}", told, str(rows[number].get("image")))

    return plant


SAME = object()


def _line(change: Callable[[bytes], bytes]) -> Plant:
    """Spoils the bytes of one of the lines."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        lines = (root / PAIRS).read_bytes().splitlines()
        number = chance.randrange(len(lines))
        lines[number] = change(lines[number])
        (root / PAIRS).write_bytes(b"\n".join(lines))
        return (f"line {number + 1}",)

    return plant


def _folder(root: Path) -> Path:
    return fakes.folder(root, pairs=8)


FOLDER: Mapping[str, Plant] = {
    "list missing": gone(PAIRS),
    "list empty": content(PAIRS, lambda old: b""),
    "line cut": _line(lambda line: line[: len(line) // 2]),
    "line not UTF-8": _line(lambda line: line[:12] + b"\xff" + line[12:]),
    "line with zeros": _line(lambda line: line[:12] + bytes(8) + line[12:]),
    "line a list": _line(lambda line: b"[" + line + b"]"),
    "key twice": _line(lambda line: line[:-1] + b', "patient": "other"}'),
    "NaN": _line(lambda line: line[:-1] + b', "labels": {"Edema": NaN}}'),
    "key unknown": _pair(lable={}),
    "image key missing": _pair(image=None),
    "patient missing": _pair(patient=None),
    "patient blank": _pair(patient=" "),
    "text missing": _pair(text=None),
    "report blank": _pair(text="  "),
    "report of blanks": _pair(text="FINDINGS: ___"),
    "text a number": _pair(text=7.5),
    "split unknown": _pair(split="dev"),
    "sex unknown": _pair(sex="w"),
    "label unknown": _pair(labels={"Oedema": 1}),
    "label bad": _pair(labels={"Edema": 3}),
    "label a word": _pair(labels={"Edema": "yes"}),
    "labels a list": _pair(labels=[1]),
    "image twice": _pair(image=SAME),
    "two reports a study": _pair(study="images/0.png"),
    "half a character": _line(lambda line: line[:-1] + b', "view": "\\ud800"}'),
    "zero in a path": _pair(image="images/1\0.png"),
    "path too long": _pair(image="images/" + "1" * 300 + ".png"),
    "path of a folder": _pair(image="images"),
}

# Open-I

_XML = "ecgen-radiology/1.xml"
OPENI: Mapping[str, Plant] = {
    "reports missing": gone("ecgen-radiology"),
    "images missing": gone("images"),
    "report missing": gone(_XML, "CXR1_1_IM-0001-4001"),
    "report cut short": text(_XML, lambda old: old[:150], "1"),
    "report empty": text(_XML, lambda old: "", "1"),
    "report blank": text(_XML, lambda old: fakes.report_xml("1", "", " "), "1", "CXR1_1_IM-0001-4001"),
    "report not UTF-8": content(_XML, lambda old: old.replace(b"heart", b"he\xffrt"), "1"),
    "report of another": text(_XML, lambda old: old.replace('id="1"', 'id="2"'), "1", "2"),
    "report without id of its own": text(_XML, lambda old: old.replace('id="1"', 'id="77"'), "77"),
    "lateral without view": text("projections.csv", lambda old: old.replace("lateral", "", 1), "CXR1_1_IM-0001-3001"),
    "view unknown": text("projections.csv", lambda old: old.replace("frontal", "oblique", 1), "CXR1_1_IM-0001-4001"),
    "image twice": text("projections.csv", lambda old: old + "CXR2_IM-0652-1001,2,lateral\n"),
    "image of another name": text("projections.csv", lambda old: old.replace("CXR2_IM-0652-1001", "scan"), "scan"),
    "finding unknown": text("labels.csv", lambda old: old.replace("Mass", "Mess")),
    "labels of nobody": text("labels.csv", lambda old: old.replace("\n1,", "\n77,"), "77"),
}

# CheXpert

_TRAIN = "train.csv"
_FIRST = "patient00001/study1/view1_frontal.jpg"
_FIVE = "five.csv"


def _chexpert(root: Path) -> Path:
    """The fake with a table of the 5x200 set, of one image each."""
    fakes.chexpert(root)
    rows = [
        f"train/patient0000{i}/study1/view1_frontal.jpg,{','.join(str(int(name == other)) for other in fakes.FIVE)}"
        for i, name in enumerate(fakes.FIVE, 1)
    ]
    (root / _FIVE).write_text("\n".join([",".join(("Path", *fakes.FIVE)), *rows]) + "\n")
    return root


CHEXPERT_SPECIAL: Mapping[str, Plant] = {
    "path of another kind": put(_TRAIN, "scan.jpg", "Path"),
    "path without view": put(
        _TRAIN,
        "train/patient00006/study1/view1.jpg",
        "Path",
        where=lambda row: "00006/study1" in row["Path"],
        name="Path",
    ),
    "view unknown": put(_TRAIN, "Fontal", "Frontal/Lateral", name="Path"),
    "image in two tables": text(
        "valid.csv", lambda old: old + fakes.chexpert_line(f"train/{_FIRST}", blank="0.0") + "\n"
    ),
    "patient in two splits": text(
        "valid.csv",
        lambda old: old + fakes.chexpert_line("train/patient00001/study9/view1_frontal.jpg") + "\n",
        "patient00001",
    ),
    "5x200 of unlike numbers": text(_FIVE, lambda old: old.replace("1,0,0,0,0", "0,1,0,0,0")),
    "5x200 image twice": text(_FIVE, lambda old: old + old.splitlines()[1] + "\n", _FIRST),
    "5x200 image of two findings": text(_FIVE, lambda old: old.replace("1,0,0,0,0", "1,0,0,0,1"), _FIRST),
    "5x200 rows that differ": text(
        _FIVE, lambda old: old + old.splitlines()[1].replace("1,0,0,0,0", "0,1,0,0,0") + "\n", _FIRST
    ),
    "5x200 of an unlabelled image": text(
        _FIVE, lambda old: old.replace("patient00001", "patient00099"), "patient00099"
    ),
    "all tables missing": lambda root, chance: [(root / name).unlink() for name in TABLES] and ["train.csv"],
    "label column missing": text(_TRAIN, lambda old: old.replace("Edema", "Oedema", 1)),
}
TABLES = ("train.csv", "valid.csv", "test_labels.csv")

# ChestX-ray14

_ENTRY = "Data_Entry_2017_v2020.csv"
NIH: Mapping[str, Plant] = {
    "images missing": lambda root, chance: [f.rename(root / f"x{f.name}") for f in root.glob("i*")] and ["images"],
    "list missing": gone("test_list.txt"),
    "list empty": content("train_val_list.txt", lambda old: b""),
    "list not UTF-8": content("test_list.txt", lambda old: old + b"\xff\xfe"),
    "list with zeros": content("test_list.txt", lambda old: old + bytes(9)),
    "image in no list": text("test_list.txt", lambda old: old.replace(fakes.NIH_TESTED[0], ""), fakes.NIH_TESTED[0]),
    "image twice in a list": text("test_list.txt", lambda old: old + fakes.NIH_TESTED[0], fakes.NIH_TESTED[0]),
    "list names nobody": text("train_val_list.txt", lambda old: old + "\n00000009_000.png", "00000009_000.png"),
    "image in both lists": text("test_list.txt", lambda old: old + fakes.NIH_ROWS[0][0], fakes.NIH_ROWS[0][0]),
    "rows that differ": text(_ENTRY, lambda old: old + old.splitlines()[1].replace("Effusion", "Mass") + "\n"),
    "label unknown": put(_ENTRY, "Tumour", "Finding Labels", name="Image Index"),
    "label blank": put(_ENTRY, "", "Finding Labels", name="Image Index"),
    "normal and a finding": put(_ENTRY, "No Finding|Mass", "Finding Labels", name="Image Index"),
    "patient blank": put(_ENTRY, "", "Patient ID", name="Image Index"),
    "patient in two splits": put(
        _ENTRY, "1", "Patient ID", where=lambda row: row["Image Index"] in fakes.NIH_TESTED, told="patient 1"
    ),
    "lateral without view": put(_ENTRY, "", "View Position", name="Image Index"),
    "view unknown": put(_ENTRY, "LL", "View Position", name="Image Index"),
}
_NIH_BOX = "BBox_List_2017.csv"


FAKES: Mapping[str, Fake] = {
    "openi": Fake(
        fakes.openi,
        (
            Sheet("projections.csv", "image", {}, columns=("uid", "view")),
            Sheet(
                "labels.csv", "uid", {"Mass": "2", "normal": ""}, needed=False, listed=False, columns=("Mass", "normal")
            ),
        ),
        folder="images",
        special=OPENI,
    ),
    "chexpert": Fake(
        _chexpert,
        (
            Sheet(
                "train.csv",
                "Path",
                {"Edema": "2.0", "Pneumonia": "?"},
                needed=False,
                columns=(*chexpert.FACTS, "Edema"),
            ),
            Sheet("valid.csv", "Path", {"Edema": "maybe"}, needed=False, columns=(*chexpert.FACTS, "Edema")),
            Sheet("test_labels.csv", "Path", {"Edema": "5"}, needed=False, columns=("Edema",)),
            Sheet(_FIVE, "Path", {"Edema": "2"}, columns=("Edema",)),
        ),
        options=(f"--five_by_200={{root}}/{_FIVE}",),
        folder="train/patient99999/study1",
        special=CHEXPERT_SPECIAL,
    ),
    "chestxray14": Fake(
        fakes.chestxray14,
        (
            Sheet(_ENTRY, "Image Index", {}, columns=chestxray14.COLUMNS[1:]),
            Sheet(
                _NIH_BOX,
                "Image Index",
                {"Bbox [x": "x", "w": "-3", "Finding Label": "Blob"},
                needed=False,
                listed=False,
                columns=chestxray14.BOX_COLUMNS[1:],
            ),
        ),
        folder="images_002/images",
        special=NIH,
    ),
    "folder": Fake(_folder, folder="images", special=FOLDER),
}
