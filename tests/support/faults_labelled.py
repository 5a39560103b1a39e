"""What can be wrong with RSNA, SIIM-ACR, VinDr-CXR, PadChest, MS-CXR and CXR-Align alone."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fakes_labelled
import mimic
from judging import Fake, Sheet
from planting import Plant, content, gone, put, text

from clinicclip.data.releases import ms_cxr, padchest

# RSNA

_TARGETS, _CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"


def _boxed(row: Mapping[str, str]) -> bool:
    return row["Target"] == "1"


RSNA: Mapping[str, Plant] = {
    "images missing": gone("stage_2_train_images"),
    "box without Target": put(_TARGETS, "0", "Target", where=_boxed, name="patientId"),
    "Target without box": put(_TARGETS, "1", "Target", where=lambda row: not _boxed(row), name="patientId"),
    "box outside": put(_TARGETS, "900", "x", where=_boxed, name="patientId"),
    "box over the border": put(_TARGETS, "60", "width", where=_boxed, name="patientId"),
    "box negative": put(_TARGETS, "-4", "height", where=_boxed, name="patientId"),
    "box not a number": put(_TARGETS, "nan", "y", where=_boxed, name="patientId"),
    "box half blank": put(_TARGETS, "", "width", where=_boxed, name="patientId"),
    "box twice": text(
        _TARGETS, lambda old: old + f"{fakes_labelled.RSNA[0]},4.0,5.0,10.0,20.0,1\n", fakes_labelled.RSNA[0]
    ),
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
    "mask twice": text(_RLE, lambda old: old + f"{fakes_labelled.SIIM[4]}, 400 20\n", fakes_labelled.SIIM[4]),
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
    "rows that differ": text(_VINDR_LABELS, lambda old: old + old.splitlines()[1][:-1] + "1\n"),
    "column renamed": text(_VINDR_LABELS, lambda old: old.replace("Edema", "Oedema", 1)),
    "box outside": put(_VINDR_BOXES, "2000", "x_max", where=_drawn, name="image_id"),
    "box far outside": text(
        _VINDR_BOXES, lambda old: old.replace("8.5,12.0,30.0,28.0", "80.5,12.0,99.0,28.0"), fakes_labelled.VINDR[0]
    ),
    "box upside down": put(_VINDR_BOXES, "0.5", "y_max", where=_drawn),
    "box not a number": put(_VINDR_BOXES, "inf", "x_min", where=_drawn, name="image_id"),
    "box blank": put(_VINDR_BOXES, "", "x_min", where=_drawn, name="image_id"),
    "normal with a box": put(_VINDR_BOXES, "3", "x_min", where=lambda row: row["class_name"] == "No finding"),
    "box twice": text(
        _VINDR_BOXES,
        lambda old: old + f"{fakes_labelled.VINDR[5]},Pleural effusion,0.0,30.0,12.0,40.0\n",
        fakes_labelled.VINDR[5],
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
    "rows that differ": text(_PADCHEST, lambda old: old + old.splitlines()[1].replace("['normal']", "['mass']") + "\n"),
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
    "box over the border": put(_PHRASES, "80", "w", where=_alone, name="dicom_id"),
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
    "box twice": text(_PHRASES, lambda old: old + old.splitlines()[-1] + "\n", mimic.SHOTS[8].image),
}

# CXR-Align

_ITEMS = fakes_labelled.CXR_ALIGN_FILE


def _item(key: str, value: Any) -> Plant:
    """Changes a text of one of the items, chosen by chance; None removes it."""

    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        found = json.loads((root / _ITEMS).read_text())
        image_id = chance.choice(sorted(name for name, item in found["mimic"].items() if item[key] != value))
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
    "omitted blank": _item("omitted", ""),
    "negation unchanged": _unchanged,
    "finding unknown": _item("chosen", "influenza"),
    "finding blank": _item("chosen", ""),
    "item of nobody": text(_ITEMS, lambda old: old.replace(mimic.SHOTS[0].image, "nobody"), "nobody"),
    "images missing": gone("mimic/files"),
    "metadata missing": gone(f"mimic/{mimic.METADATA}", "metadata"),
}


FAKES: Mapping[str, Fake] = {
    "rsna": Fake(
        fakes_labelled.rsna,
        (
            Sheet(_TARGETS, "patientId", {"Target": "2"}, columns=("x", "y", "width", "height", "Target")),
            Sheet(_CLASSES, "patientId", {"class": "Abnormal"}, repeats=True, columns=("class",)),
        ),
        folder="stage_2_train_images",
        special=RSNA,
    ),
    "siim_acr": Fake(
        fakes_labelled.siim_acr,
        (Sheet(_RLE, "ImageId", {}, columns=("EncodedPixels",)),),
        folder="dicom-images-train/1/2",
        special=SIIM,
    ),
    "vindr_cxr": Fake(
        fakes_labelled.vindr_cxr,
        (
            Sheet(_VINDR_LABELS, "image_id", {"Edema": "2", "COPD": "x"}, columns=("Edema", "COPD", "No finding")),
            Sheet(_VINDR_BOXES, "image_id", {"class_name": "Blob"}, listed=False, columns=("class_name", "x_min")),
        ),
        folder="test",
        special=VINDR,
    ),
    "padchest": Fake(
        fakes_labelled.padchest,
        (
            Sheet(
                _PADCHEST,
                "ImageID",
                {"MethodLabel": "Guess", "Projection": "AP_vertical"},
                columns=padchest.COLUMNS[1:],
            ),
        ),
        folder="1",
        special=PADCHEST,
    ),
    "ms_cxr": Fake(
        fakes_labelled.ms_cxr,
        (
            Sheet(
                _PHRASES,
                "dicom_id",
                {"category_name": "Oedema", "split": "dev"},
                listed=False,
                columns=("split", *ms_cxr.COLUMNS[1:]),
            ),
        ),
        options=_IN_MIMIC,
        special=MS_CXR,
    ),
    "cxr_align": Fake(
        fakes_labelled.cxr_align,
        (Sheet(f"mimic/{mimic.METADATA}", "dicom_id", {}, listed=False, columns=("subject_id", "ViewPosition")),),
        options=_IN_MIMIC,
        special=CXR_ALIGN,
    ),
}
