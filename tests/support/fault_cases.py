"""The fakes of all readers with the faults that only their releases can have."""

import json
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fakes
import fakes_labelled
import mimic
from faults import Fake, Plant, Sheet, cells, put, write

from clinicclip.data import schema
from clinicclip.data.releases import READERS

CHEXPERT = tuple(name.replace("_", " ").title() for name in schema.CHEXPERT)
RADIOGRAPHS = "mimic/files/p19/p19999999/s59999999"


def used_images(name: str, fake: Fake, root: Path) -> list[Path]:
    """The images of a fake that a reader uses, by their paths below it."""
    options = (option.removeprefix("--").format(root=root).split("=") for option in fake.options)
    studies = [item for item in READERS[name].read(root, **dict(options)) if isinstance(item, schema.Study)]
    used = [study for study in studies if study.findings or study.impression or not READERS[name].HAS_REPORTS]
    return sorted({Path(study.image).relative_to(root) for study in used})


def text(path: str, change: Callable[[str], str], *names: str) -> Plant:
    """Changes a text file; told is one of ``names`` or the file."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        before = (root / path).read_text()
        after = change(before)
        assert after != before, "nothing was planted"
        (root / path).write_text(after)
        return (Path(path).name, *names)

    return plant


def content(path: str, change: Callable[[bytes], bytes], *names: str) -> Plant:
    """Changes the bytes of a file; told is one of ``names`` or the file."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).write_bytes(change((root / path).read_bytes()))
        return (Path(path).name, *names)

    return plant


def gone(path: str, *names: str) -> Plant:
    """Removes a file or renames a folder; told is one of ``names`` or its name."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).rename(root.parent / "elsewhere")
        return (Path(path).name, *names)

    return plant


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

# MIMIC-CXR-JPG

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
    "image in both lists": text("test_list.txt", lambda old: old + fakes.NIH_ROWS[0][0], fakes.NIH_ROWS[0][0]),
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

# RSNA

_TARGETS, _CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"


def _boxed(row: Mapping[str, str]) -> bool:
    return row["Target"] == "1"


RSNA: Mapping[str, Plant] = {
    "images missing": gone("stage_2_train_images"),
    "box without Target": put(_TARGETS, "0", "Target", where=_boxed, name="patientId"),
    "Target without box": put(_TARGETS, "1", "Target", where=lambda row: not _boxed(row), name="patientId"),
    "box outside": put(_TARGETS, "900", "x", where=_boxed, name="patientId"),
    "box over the border": put(_TARGETS, "60", "width", where=_boxed),
    "box negative": put(_TARGETS, "-4", "height", where=_boxed, name="patientId"),
    "box not a number": put(_TARGETS, "nan", "y", where=_boxed, name="patientId"),
    "box half blank": put(_TARGETS, "", "width", where=_boxed, name="patientId"),
    "box twice": text(_TARGETS, lambda old: old + f"{fakes_labelled.RSNA[0]},4.0,5.0,10.0,20.0,1\n"),
    "Target twice": text(_TARGETS, lambda old: old + f"{fakes_labelled.RSNA[0]},,,,,0\n", fakes_labelled.RSNA[0]),
    "class of another": put(
        _CLASSES, "Lung Opacity", "class", where=lambda row: row["class"] == "Normal", name="patientId"
    ),
}

# SIIM-ACR

_RLE = "train-rle.csv"


def _masked(row: Mapping[str, str]) -> bool:
    return row["EncodedPixels"] != " -1"


SIIM: Mapping[str, Plant] = {
    "images missing": gone("dicom-images-train"),
    **{
        f"runs {kind}": put(_RLE, value, "EncodedPixels", where=_masked, name="ImageId")
        for kind, value in {
            **{"odd": "10 3 37", "of words": "10 three", "negative": "10 -3", "of nothing": "10 0"},
            **{"blank": "", "beyond the image": "10 3 9999 4", "of fractions": "1.5 2"},
        }.items()
    },
    "no mask and a mask": text(_RLE, lambda old: old + f"{fakes_labelled.SIIM[1]}, -1\n", fakes_labelled.SIIM[1]),
    "none twice": text(_RLE, lambda old: old + f"{fakes_labelled.SIIM[0]}, -1\n", fakes_labelled.SIIM[0]),
    "mask twice": text(_RLE, lambda old: old + f"{fakes_labelled.SIIM[4]}, 400 20\n"),
}

# VinDr-CXR

_VINDR_LABELS, _VINDR_BOXES = "annotations/image_labels_test.csv", "annotations/annotations_test.csv"


def _drawn(row: Mapping[str, str]) -> bool:
    return row["class_name"] not in ("No finding", "Aortic enlargement", "Rib fracture")


VINDR: Mapping[str, Plant] = {
    "images missing": gone("test"),
    "normal and a finding": put(
        _VINDR_LABELS, "1", "No finding", where=lambda row: row["No finding"] == "0", name="image_id"
    ),
    "column renamed": text(_VINDR_LABELS, lambda old: old.replace("Edema", "Oedema", 1)),
    "box outside": put(_VINDR_BOXES, "2000", "x_max", where=_drawn),
    "box far outside": text(
        _VINDR_BOXES, lambda old: old.replace("8.5,12.0,30.0,28.0", "80.5,12.0,99.0,28.0"), fakes_labelled.VINDR[0]
    ),
    "box upside down": put(_VINDR_BOXES, "0.5", "y_max", where=_drawn),
    "box not a number": put(_VINDR_BOXES, "inf", "x_min", where=_drawn, name="image_id"),
    "box blank": put(_VINDR_BOXES, "", "x_min", where=_drawn, name="image_id"),
    "normal with a box": put(_VINDR_BOXES, "3", "x_min", where=lambda row: row["class_name"] == "No finding"),
    "box twice": text(
        _VINDR_BOXES, lambda old: old + f"{fakes_labelled.VINDR[5]},Pleural effusion,0.0,30.0,12.0,40.0\n"
    ),
}

# PadChest

_PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def _kept(row: Mapping[str, str]) -> bool:
    silent = row["Labels"] in ("['unchanged']", "['exclude']")
    return row["Projection"] != "L" and row["MethodLabel"] == "Physician" and not silent


PADCHEST: Mapping[str, Plant] = {
    **{
        kind: put(_PADCHEST, value, column, where=_kept, name="ImageID")
        for kind, (column, value) in {
            "labels no list": ("Labels", "normal"),
            "labels cut": ("Labels", "['norm"),
            "labels a call": ("Labels", "[open('x')]"),
            "label unknown": ("Labels", "['influenza']"),
            "labels blank": ("Labels", ""),
            "labels none": ("Labels", "[]"),
            "lateral without view": ("Projection", ""),
            "lateral": ("Projection", "L"),
            "patient blank": ("PatientID", ""),
            "study blank": ("StudyID", ""),
        }.items()
    },
    "study of two patients": put(
        _PADCHEST, "S0101", "StudyID", where=lambda row: row["PatientID"] in ("105", "107", "102"), told="S0101"
    ),
}

# MS-CXR

_PHRASES = "MS_CXR_Local_Alignment_v1.1.0.csv"
_IN_MIMIC = ("--images={root}/mimic",)


def _alone(row: Mapping[str, str]) -> bool:
    return row["label_text"] != "Small bilateral effusions"


MS_CXR: Mapping[str, Plant] = {
    "images missing": gone("mimic/files"),
    "phrase blank": put(_PHRASES, "", "label_text", where=_alone, name="dicom_id"),
    "path of another image": put(_PHRASES, "files/p10/p10000032/s50414267/other.jpg", "path", name="dicom_id"),
    "box outside": put(_PHRASES, "300", "x", where=_alone, name="dicom_id"),
    "box over the border": put(_PHRASES, "80", "w", where=_alone),
    "box not a number": put(_PHRASES, "ten", "h", name="dicom_id"),
    "box empty": put(_PHRASES, "0", "w", name="dicom_id"),
    "image of another size": put(_PHRASES, "4000", "image_width", where=_alone, name="dicom_id"),
    "patient in two splits": put(
        _PHRASES,
        "test",
        "split",
        where=lambda row: row["split"] == "train" and "10000032" in row["path"],
        told="10000032",
    ),
    "box twice": text(_PHRASES, lambda old: old + old.splitlines()[-1] + "\n"),
}

# CXR-Align

_ITEMS = fakes_labelled.CXR_ALIGN_FILE


def _item(key: str, value: Any) -> Plant:
    """Changes a text of one of the items, chosen by chance; None removes it."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        found = json.loads((root / _ITEMS).read_text())
        image_id = chance.choice(sorted(found["mimic"]))
        found["mimic"][image_id] |= {key: value}
        if value is None:
            del found["mimic"][image_id][key]
        (root / _ITEMS).write_text(json.dumps(found))
        return (image_id,)

    return plant


def _unchanged(root: Path, chance: random.Random) -> Sequence[str]:
    first = json.loads((root / _ITEMS).read_text())["mimic"][mimic.SHOTS[0].image]
    return text(_ITEMS, lambda old: old.replace(first["negation"], first["report"]), mimic.SHOTS[0].image)(root, chance)


CXR_ALIGN: Mapping[str, Plant] = {
    "file missing": gone(_ITEMS, "JSON"),
    "file empty": content(_ITEMS, lambda old: b""),
    "file cut short": content(_ITEMS, lambda old: old[: len(old) // 2]),
    "file not UTF-8": content(_ITEMS, lambda old: old[:90] + b"\xff" + old[90:]),
    "file a list": text(_ITEMS, lambda old: f"[{old}]"),
    "file without MIMIC": text(_ITEMS, lambda old: old.replace('"mimic"', '"mimc"', 1)),
    "two files": lambda root, chance: [(root / "b.json").write_text("{}")] and ["JSON"],
    "item twice": text(_ITEMS, lambda old: old.replace(mimic.SHOTS[2].image, mimic.SHOTS[0].image)),
    "key twice": text(_ITEMS, lambda old: old.replace('"location"', '"chosen"', 1)),
    **{f"{key} missing": _item(key, None) for key in ("report", "negation", "omitted", "chosen")},
    "report a number": _item("report", 5),
    "omitted null": _item("omitted", []),
    "report blank": _item("report", " "),
    "negation blank": _item("negation", ""),
    "negation unchanged": _unchanged,
    "finding unknown": _item("chosen", "influenza"),
    "finding blank": _item("chosen", ""),
    "item of nobody": text(_ITEMS, lambda old: old.replace(mimic.SHOTS[0].image, "nobody"), "nobody"),
    "images missing": gone("mimic/files"),
    "metadata missing": gone(f"mimic/{mimic.METADATA}", "metadata"),
}


FAKES: Mapping[str, Fake] = {
    "mimic_cxr": Fake(
        mimic.fake,
        (
            Sheet(mimic.METADATA, "dicom_id", {}),
            Sheet(mimic.SPLIT, "dicom_id", {"split": "dev"}),
            Sheet(mimic.CHEXPERT, "study_id", {"Edema": "2.0", "Fracture": "yes"}),
            Sheet(mimic.GOLD, "study_id", {"Edema": "7"}, needed=False),
        ),
        special=MIMIC,
    ),
    "openi": Fake(
        fakes.openi,
        (
            Sheet("projections.csv", "image", {}),
            Sheet("labels.csv", "uid", {"Mass": "2", "normal": ""}, needed=False, listed=False),
        ),
        folder="images",
        special=OPENI,
    ),
    "chexpert": Fake(
        fakes.chexpert,
        (
            Sheet("train.csv", "Path", {"Edema": "2.0", "Pneumonia": "?"}, needed=False),
            Sheet("valid.csv", "Path", {"Edema": "maybe"}, needed=False),
            Sheet("test_labels.csv", "Path", {"Edema": "5"}, needed=False),
        ),
        folder="train/patient99999/study1",
        special=CHEXPERT_SPECIAL,
    ),
    "chestxray14": Fake(
        fakes.chestxray14,
        (
            Sheet(_ENTRY, "Image Index", {}),
            Sheet(_NIH_BOX, "Image Index", {"Bbox [x": "x", "w": "-3", "Finding Label": "Blob"}, False, listed=False),
        ),
        folder="images_002/images",
        special=NIH,
    ),
    "rsna": Fake(
        fakes_labelled.rsna,
        (
            Sheet(_TARGETS, "patientId", {"Target": "2"}),
            Sheet(_CLASSES, "patientId", {"class": "Abnormal"}, repeats=True),
        ),
        folder="stage_2_train_images",
        special=RSNA,
    ),
    "siim_acr": Fake(
        fakes_labelled.siim_acr,
        (Sheet(_RLE, "ImageId", {}),),
        folder="dicom-images-train/1/2",
        special=SIIM,
    ),
    "vindr_cxr": Fake(
        fakes_labelled.vindr_cxr,
        (
            Sheet(_VINDR_LABELS, "image_id", {"Edema": "2", "COPD": "x"}),
            Sheet(_VINDR_BOXES, "image_id", {"class_name": "Blob"}, listed=False),
        ),
        folder="test",
        special=VINDR,
    ),
    "padchest": Fake(
        fakes_labelled.padchest,
        (Sheet(_PADCHEST, "ImageID", {"MethodLabel": "Guess", "Projection": "AP_vertical"}),),
        folder="1",
        special=PADCHEST,
    ),
    "ms_cxr": Fake(
        fakes_labelled.ms_cxr,
        (Sheet(_PHRASES, "dicom_id", {"category_name": "Oedema", "split": "dev"}, listed=False),),
        options=_IN_MIMIC,
        special=MS_CXR,
    ),
    "cxr_align": Fake(
        fakes_labelled.cxr_align,
        (Sheet(f"mimic/{mimic.METADATA}", "dicom_id", {}, listed=False),),
        options=_IN_MIMIC,
        special=CXR_ALIGN,
    ),
    "folder": Fake(_folder, special=FOLDER),
}
