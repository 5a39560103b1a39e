"""Tiny fakes of RSNA, SIIM-ACR, VinDr-CXR, PadChest, MS-CXR and CXR-Align in their layouts; all of it is made up."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import dicoms
import mimic
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 48


def scan(path: Path, seed: int, view: str = "PA", size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A DICOM file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)
    path.write_bytes(dicoms.content(dicoms.dataset(noise, ViewPosition=view, PatientSex="F", PatientAge="045Y")))


def table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


RSNA = tuple(f"{number:08x}-4c5d-4f3a-9b1e-{number * 7919:012x}" for number in range(1, 9))
RSNA_BOXES = {RSNA[0]: ((4.0, 5.0, 10.0, 20.0), (30.0, 6.0, 8.0, 12.0)), RSNA[3]: ((2.0, 2.0, 20.0, 30.0),)}


def rsna(root: Path) -> Path:
    """Eight images: two with pneumonia, of which one has two boxes, three normal, three neither."""
    targets: list[Sequence[object]] = []
    classes = []
    for number, image in enumerate(RSNA):
        scan(root / "stage_2_train_images" / f"{image}.dcm", number)
        boxes = RSNA_BOXES.get(image, ())
        targets += [(image, *box, 1) for box in boxes] or [(image, "", "", "", "", 0)]
        name = "Lung Opacity" if boxes else "Normal" if number % 2 else "No Lung Opacity / Not Normal"
        classes += [(image, name)] * max(1, len(boxes))
    table(root / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), targets)
    table(root / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
    return root


SIIM = tuple(f"1.2.276.0.7230010.3.1.4.8323329.{number}.1517875162.80{number}" for number in range(101, 109))
# Of 40 rows: 3 pixels of column 0 from row 10, the same of column 1; and 2 of column 30 from row 5.
SIIM_RUNS = {SIIM[1]: ("10 3 37 3", "1205 2"), SIIM[4]: ("400 20",)}


def siim_acr(root: Path) -> Path:
    """Eight images: two with pneumothorax, of which one has two masks."""
    rows = []
    for number, image in enumerate(SIIM):
        folder = root / "dicom-images-train" / image.replace("4.8323329", "2.8323329")
        scan(folder / image.replace("4.8323329", "3.8323329") / f"{image}.dcm", number)
        rows += [(image, f" {runs}") for runs in SIIM_RUNS.get(image, ("-1",))]
    table(root / "train-rle.csv", ("ImageId", " EncodedPixels"), rows)
    return root


VINDR_COLUMNS = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation"),
    *("Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst"),
    *("Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    *("Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis"),
    *("Other diseases", "No finding"),
)
VINDR = tuple(f"{number * 40503 % 2**16:04x}{number * 2654435761 % 2**32:08x}" for number in range(1, 9))
VINDR_BOXES = {
    VINDR[0]: (("Cardiomegaly", 8.5, 12.0, 30.0, 28.0), ("Aortic enlargement", 20.0, 4.0, 30.0, 12.0)),
    VINDR[2]: (("Nodule/Mass", 3.0, 3.0, 7.0, 8.0), ("Rib fracture", 40.0, 3.0, 46.0, 9.0)),
    VINDR[5]: (("Pleural effusion", 0.0, 30.0, 12.0, 40.0),),
}


def vindr_cxr(root: Path) -> Path:
    """Eight test images: three with findings, five normal."""
    labels, boxes = [], []
    for number, image in enumerate(VINDR):
        scan(root / "test" / f"{image}.dicom", number)
        shown = {name for name, *_ in VINDR_BOXES.get(image, ())} or {"No finding"}
        labels.append((image, *(int(name in shown) for name in VINDR_COLUMNS)))
        boxes += [(image, *box) for box in VINDR_BOXES.get(image, (("No finding", "", "", "", ""),))]
    table(root / "annotations" / "image_labels_test.csv", ("image_id", *VINDR_COLUMNS), labels)
    corners = ("x_min", "y_min", "x_max", "y_max")
    table(root / "annotations" / "annotations_test.csv", ("image_id", "class_name", *corners), boxes)
    return root


PADCHEST_COLUMNS = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Rows_DICOM", "Columns_DICOM"),
    *("ReportID", "Report", "MethodLabel", "Labels", "Localizations", "LabelsLocalizationsBySentence", "labelCUIS"),
)
PADCHEST = (  # patient, projection, method, labels
    ("101", "PA", "Physician", "['normal']"),
    ("101", "L", "Physician", "['normal']"),
    ("102", "AP_horizontal", "Physician", "['pleural effusion', 'costophrenic angle blunting', 'pacemaker']"),
    ("103", "PA", "RNN_model", "['pneumonia']"),
    ("104", "PA", "Physician", "['unchanged', 'cardiomegaly ']"),
    ("105", "AP", "Physician", "['kerley lines', 'scoliosis']"),
    ("106", "PA", "Physician", "['exclude']"),
    ("107", "PA", "Physician", "[\"pulmonary edema\", 'sternotomy']"),
    ("108", "PA", "Physician", "['unchanged']"),
    ("109", "PA", "Physician", "['bronchiectasis']"),
    ("109", "PA", "Physician", "['sternotomy', 'suboptimal study']"),
)


def padchest_image(number: int) -> str:
    """The name of an image."""
    return f"{216840111366964012768025509942010041122452 + number * 1009}_00-{number + 10}-{number + 100}.png"


def padchest(root: Path) -> Path:
    """Eleven images in two of the folders, of every fate there is."""
    rows = []
    for number, (patient, view, method, labels) in enumerate(PADCHEST):
        path = root / str(number % 2) / padchest_image(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 2**16, (HEIGHT, WIDTH)).astype(np.uint16)
        Image.fromarray(noise).save(path)
        facts = (number, path.name, path.parent.name, 20140915, f"S{number // 2}{patient}", patient, 1939, "F", "PA")
        shown = (view, "Manual review of DICOM fields", "No", HEIGHT, WIDTH, 4765777 + number, "sin hallazgos")
        rows.append((*facts, *shown, method, labels, "['loc right']", "[['normal']]", "[]"))
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST_COLUMNS, rows)
    return root


MS_CXR_COLUMNS = (
    *("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "dicom_id", "split"),
)
MS_CXR = (  # number of the shot, category, phrase, boxes
    (0, "Cardiomegaly", "Moderate cardiomegaly", ((10, 12, 25, 20),)),
    (0, "Pleural Effusion", "Small bilateral effusions", ((0, 25, 10, 15), (38, 25, 10, 15))),
    (2, "Pleural Effusion", "Left pleural effusion", ((30, 20, 15, 18),)),
    (3, "Pneumothorax", "Tiny apical pneumothorax on the right", ((2, 0, 12, 6),)),
    (5, "Lung Opacity", "Patchy opacity at the base", ((5, 22, 9, 9),)),
    (8, "Atelectasis", "Right basilar atelectasis", ((4, 28, 14, 9),)),
)
MS_CXR_SPLITS = {"train": "train", "validate": "val", "test": "test"}


def ms_cxr(root: Path) -> Path:
    """Six phrases on five images, one with two boxes, beside a fake of MIMIC-CXR-JPG in ``mimic``."""
    mimic.fake(root / "mimic")
    rows = []
    for number, category, phrase, boxes in MS_CXR:
        shot = mimic.SHOTS[number]
        path = mimic.image_path(root / "mimic", shot).relative_to(root / "mimic")
        facts = (WIDTH, HEIGHT, shot.image, MS_CXR_SPLITS[shot.split])
        rows += [(category, phrase, path, *box, *facts) for box in boxes]
    table(root / "MS_CXR_Local_Alignment_v1.1.0.csv", MS_CXR_COLUMNS, rows)
    return root


CXR_ALIGN = {
    0: ("There is cardiomegaly. Lungs are clear.", "There is no cardiomegaly. Lungs are clear.", "Lungs are clear."),
    2: ("A small left pleural effusion.", "No left pleural effusion.", ""),
    5: ("Mild edema. No fracture.", "No edema. No fracture.", "No fracture."),
    8: ("Right atelectasis. Normal heart.", "No atelectasis. Normal heart.", "Normal heart."),
}
CXR_ALIGN_CHOSEN = {0: "cardiomegaly", 2: "Pleural Effusion", 5: "edema", 8: "basilar atelectasis"}
CXR_ALIGN_FILE = "cxr_align.json"


def cxr_align(root: Path) -> Path:
    """Four items of MIMIC-CXR and one of another source, beside a fake of MIMIC-CXR-JPG in ``mimic``."""
    mimic.fake(root / "mimic")
    items = {
        mimic.SHOTS[number].image: {
            **dict(zip(("report", "negation", "omitted"), texts, strict=True)),
            **{"chosen": CXR_ALIGN_CHOSEN[number], "location": "left"},
        }
        for number, texts in CXR_ALIGN.items()
    }
    other = {"report": "Edema.", "negation": "No edema.", "omitted": "", "chosen": "edema", "location": ""}
    (root / CXR_ALIGN_FILE).write_text(json.dumps({"mimic": items, "openi": {"CXR1": other}}, indent=1))
    return root
