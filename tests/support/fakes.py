"""Tiny fakes of Open-I, a plain folder, CheXpert and ChestX-ray14 in their layouts; every word of them is made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clinicclip.data import schema

NIH = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
CHEXPERT_LABELS = tuple(name.replace("_", " ").title() for name in schema.CHEXPERT)
CHEXPERT_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS)
NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NIH_ROWS = (
    ("00000001_000.png", "Cardiomegaly|Effusion", "1", "57", "M", "PA"),
    ("00000001_001.png", "No Finding", "1", "58", "M", "AP"),
    ("00000002_000.png", "Infiltration", "2", "80", "F", "PA"),
    ("00000003_000.png", "Pleural_Thickening", "3", "17", "F", "PA"),
    ("00000004_000.png", "No Finding", "4", "414", "F", "PA"),
    ("00000005_000.png", "Hernia", "5", "41", "F", "PA"),
)
NIH_TESTED = ("00000002_000.png", "00000003_000.png")


def picture(path: Path, seed: int = 0) -> None:
    """A small gray image of noise, in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (40, 48))
    Image.fromarray(noise.astype(np.uint8)).save(path)


def report_xml(uid: str, findings: str, impression: str, *images: str) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><IUXRId id="{uid}"/><MedlineCitation><Abstract>'
        '<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Cough</AbstractText>'
        f'<AbstractText Label="FINDINGS">{findings}</AbstractText>'
        f'<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract></MedlineCitation>'
        + "".join(f'<parentImage id="{image}"><caption>Chest</caption></parentImage>' for image in images)
        + "</eCitation>"
    )


def openi(root: Path) -> Path:
    """Six reports and six images in the layout of the release, one of each fate."""
    texts = {
        "1": ("The heart is enlarged. No pleural effusion.", "Cardiomegaly."),
        "2": ("Lungs are clear XXXX.", ""),
        "3": ("No pneumothorax.", "Normal chest."),  # lateral view alone
        "4": ("Clear lungs.", ""),  # no image at all
        "5": ("", " "),  # neither section, no image
        "10": ("", ""),  # neither section, with an image
    }
    views = {
        "CXR1_1_IM-0001-3001": "lateral",
        "CXR1_1_IM-0001-4001": "frontal",
        "CXR2_IM-0652-1001": "frontal",
        "CXR2_IM-0652-2001": "frontal",
        "CXR3_IM-1384-2001": "lateral",
        "CXR10_IM-0002-1001": "frontal",
    }
    (root / "ecgen-radiology").mkdir(parents=True)
    for uid, sections in texts.items():
        own = (name for name in views if name.startswith(f"CXR{uid}_"))
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(report_xml(uid, *sections, *own))
    for seed, name in enumerate(views):
        picture(root / "images" / f"{name}.png", seed)
    rows = [f"{name},{name[3:].split('_')[0]},{view}" for name, view in views.items()]
    (root / "projections.csv").write_text("\n".join(["image,uid,view", *rows]) + "\n")
    ones = ",".join("1" if name == "Cardiomegaly" else "0" for name in NIH)
    (root / "labels.csv").write_text(f"uid,split,{','.join(NIH)},normal\n1,train,{ones},0\n")
    return root


def folder(root: Path, *changes: Mapping[str, Any], pairs: int = 4) -> Path:
    rows = [{"image": f"images/{i}.png", "text": f"FINDINGS: Clear {i}.", "patient": f"p{i}"} for i in range(pairs)]
    for i, row in enumerate(rows):
        picture(root / row["image"], i)
    for number, change in enumerate(changes):
        rows[number] |= change
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def chexpert_line(path: str, view: str = "Frontal", ap: str = "AP", blank: str = "", **values: str) -> str:
    labels = (values.get(name.replace(" ", "_"), blank) for name in CHEXPERT_LABELS)
    return ",".join([path, "Female", "57", view, ap if view == "Frontal" else "", *labels])


def chexpert(source: Path) -> Path:
    """Eleven training images of seven patients, one for validation, two to test on."""
    prefix = "CheXpert-v1.0-small/"
    train = [
        chexpert_line(f"{prefix}train/patient0000{i}/study1/view1_frontal.jpg", **{name.replace(" ", "_"): "1.0"})
        for i, name in enumerate(FIVE, 1)
    ]
    train += [
        chexpert_line(f"{prefix}train/patient00001/study1/view2_lateral.jpg", view="Lateral", Atelectasis="1.0"),
        chexpert_line(
            f"{prefix}train/patient00001/study2/view1_frontal.jpg", ap="PA", Edema="1.0", Cardiomegaly="-1.0"
        ),
        chexpert_line(f"{prefix}train/patient00006/study1/view1_frontal.jpg", Atelectasis="1.0", Edema="1.0"),
        chexpert_line(f"{prefix}train/patient00007/study1/view1_frontal.jpg", No_Finding="1.0"),
    ]
    valid = [chexpert_line(f"{prefix}valid/patient64541/study1/view1_frontal.jpg", blank="0.0", Edema="1.0")]
    tested = [
        ",".join(
            [
                f"test/patient64741/study1/view1_{view}.jpg",
                *("1" if name == "Edema" else "0" for name in CHEXPERT_LABELS),
            ]
        )
        for view in ("frontal", "lateral")
    ]
    for row in (*train, *valid, *tested):
        picture(source / row.split(",")[0].removeprefix(prefix), len(row))
    for name, columns, rows in (
        ("train.csv", CHEXPERT_COLUMNS, train),
        ("valid.csv", CHEXPERT_COLUMNS, valid),
        ("test_labels.csv", ("Path", *CHEXPERT_LABELS), tested),
    ):
        (source / name).write_text("\n".join([",".join(columns), *rows]) + "\n")
    return source


def chestxray14(source: Path) -> Path:
    """Six images of five patients, one of them with a box."""
    for number, (image, *_) in enumerate(NIH_ROWS):
        picture(source / f"images_00{1 + number % 2}" / "images" / image, number)
    lines = [
        f"{image},{names},0,{patient},{age},{sex},{view},2682,2749,0.143,0.143"
        for image, names, patient, age, sex, view in NIH_ROWS
    ]
    (source / "Data_Entry_2017_v2020.csv").write_text("\n".join([NIH_HEADER, *lines]) + "\n")
    trained = [image for image, *_ in NIH_ROWS if image not in NIH_TESTED]
    (source / "train_val_list.txt").write_text("\n".join(trained))
    (source / "test_list.txt").write_text("\n".join(NIH_TESTED) + "\n")
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000002_000.png,Infiltrate,5.5,7.0,26.7,29.1,,,\n"
    (source / "BBox_List_2017.csv").write_text(boxes)
    return source
