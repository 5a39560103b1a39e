"""A tiny fake of MIMIC-CXR-JPG and of MIMIC-CXR's reports, in exactly their layout; every word of it is made up."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clinicclip.data.releases import mimic_cxr
from clinicclip.data.schema import Drop, Study

METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv.gz"
NEGBIO = "mimic-cxr-2.0.0-negbio.csv.gz"
GOLD = "mimic-cxr-2.1.0-test-set-labeled.csv"
ZIP = "mimic-cxr-reports.zip"
LABELS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia"),
    *("Pneumothorax", "Support Devices"),
)
GOLD_LABELS = tuple(sorted("Airspace Opacity" if name == "Lung Opacity" else name for name in LABELS))


class Shot(NamedTuple):
    """One image of the fake."""

    patient: str
    study: str
    image: str
    view: str
    split: str


def _name(number: int) -> str:
    return "-".join(f"{number * 2654435761 % 2**32:08x}" for number in range(5 * number + 1, 5 * number + 6))


SHOTS = (
    Shot("10000032", "50414267", _name(0), "PA", "train"),
    Shot("10000032", "50414267", _name(1), "LATERAL", "train"),
    Shot("10000032", "53189527", _name(2), "AP", "train"),
    Shot("10000764", "57375967", _name(3), "AP", "validate"),
    Shot("10000764", "57375967", _name(4), "PA", "validate"),
    Shot("11000935", "50578979", _name(5), "PA", "test"),
    Shot("11000980", "50985099", _name(6), "LL", "train"),  # lateral alone
    Shot("12000980", "51967283", _name(7), "", "train"),  # no view
    Shot("12000980", "52967284", _name(8), "AP", "train"),
)
HEAD = " " * 33 + "FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  ___F with new cough  // eval\n\n"
TEXTS = {
    "50414267": HEAD
    + " FINDINGS: \n \n There is mild cardiomegaly.  No pleural effusion.\n \n IMPRESSION: \n \n Big heart.\n",
    "53189527": HEAD + " FINDINGS AND IMPRESSION:\n\n Small left pleural effusion, seen by Dr. ___.\n",
    "57375967": HEAD + " IMPRESSION:\n\n No pneumothorax.\n",
    "50578979": HEAD + " FINDINGS:\n\n The lungs are clear.\n",
    "50985099": HEAD + " IMPRESSION:\n\n Normal chest.\n",
    "51967283": HEAD + " IMPRESSION:\n\n Normal chest.\n",
    "52967284": HEAD + " IMPRESSION:\n\n Right basilar atelectasis.\n",
}

LEFT_OUT = {  # of the fake as it is
    "image 1": "not_frontal",
    "image 6": "not_frontal",
    "report 50985099": "report_without_frontal_image",
    "image 7": "view_unknown",
    "report 51967283": "report_without_frontal_image",
}


def fake(root: Path) -> Path:
    """The whole release below ``root``, with the zip of reports beside the tables."""
    for seed, shot in enumerate(SHOTS):
        path = image_path(root, shot)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (40, 48))
        Image.fromarray(noise.astype(np.uint8)).save(path, quality=95)
    columns = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows")
    write(
        root / METADATA,
        (*columns, "Columns", "StudyDate", "StudyTime"),
        ((s.image, s.patient, s.study, "CHEST (PA AND LAT)", s.view, 40, 48, 21800506, 213014.531) for s in SHOTS),
    )
    write(
        root / SPLIT,
        ("dicom_id", "study_id", "subject_id", "split"),
        ((s.image, s.study, s.patient, s.split) for s in SHOTS),
    )
    patients = {shot.study: shot.patient for shot in SHOTS}
    write(root / CHEXPERT, ("subject_id", "study_id", *LABELS), label_rows(patients, Cardiomegaly="1.0"))
    write(root / NEGBIO, ("subject_id", "study_id", *LABELS), label_rows(patients, Edema="-1.0"))
    ones = ["1.0" if name == "Airspace Opacity" else "0.0" if name == "Edema" else "" for name in GOLD_LABELS]
    write(root / GOLD, ("study_id", *GOLD_LABELS), [("50578979", *ones)])
    write_zip(root / ZIP)
    return root


def image_path(root: Path, shot: Shot) -> Path:
    """Where the release keeps an image."""
    return root / "files" / f"p{shot.patient[:2]}" / f"p{shot.patient}" / f"s{shot.study}" / f"{shot.image}.jpg"


def label_rows(patients: dict[str, str], **values: str) -> Iterable[Sequence[str]]:
    """One row of report labels a study: ``values`` of the first, of the others none."""
    for i, (study, patient) in enumerate(patients.items()):
        yield (patient, study, *(values.get(name, "") if i == 0 else "" for name in LABELS))


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table, gzipped where its name says so."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Changes the text of a table."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        text = file.read()
    with opener(path, "wt", newline="") as file:
        file.write(change(text))


def write_zip(path: Path, **changes: str | bytes | None) -> None:
    """The zip of reports; ``changes`` by study: another text, or None for none."""
    patients = {shot.study: shot.patient for shot in SHOTS} | {"59999999": "19999999"}
    texts = TEXTS | {study.removeprefix("s"): text for study, text in changes.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("files/", "")
        for study, text in texts.items():
            if text is not None:
                patient = patients[study]
                archive.writestr(f"files/p{patient[:2]}/p{patient}/s{study}.txt", text)


def read(root: Path, **options: Any) -> tuple[dict[str, Study], dict[str, str]]:
    """{image: study} and {"kind id": reason}, ids of images by their place in the fake."""
    numbers = {shot.image: str(i) for i, shot in enumerate(SHOTS)}
    items = list(mimic_cxr.read(root, **options))
    studies = {numbers[item.image_id]: item for item in items if isinstance(item, Study)}
    drops = {f"{d.kind} {numbers.get(d.id, d.id)}": d.reason for d in items if isinstance(d, Drop)}
    return studies, drops
