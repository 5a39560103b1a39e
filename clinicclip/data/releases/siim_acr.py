"""SIIM-ACR Pneumothorax Segmentation: frontal radiographs with masks of pneumothoraces.

``source`` is the unmodified download: ``dicom-images-train/STUDY/SERIES/IMAGE_ID.dcm`` beside ``train-rle.csv``; of the
second stage ``stage_2_train.csv``, which labels the images of ``dicom-images-test``, too. The images come from
ChestX-ray14, several of a person: a model that was trained there has seen them, and nothing public says whose they are.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data import schema
from clinicclip.data.releases import labelled, tables
from clinicclip.data.releases.labelled import Labelled
from clinicclip.data.schema import Drop, Mask, Study
from clinicclip.errors import UserError

NAME = "siim_acr"
TITLE = "SIIM-ACR Pneumothorax Segmentation"
LICENCE = "terms of the SIIM-ACR challenge: non-commercial research and education"
CITATION = (
    "Society for Imaging Informatics in Medicine and American College of Radiology. SIIM-ACR Pneumothorax "
    "Segmentation. Kaggle 2019. https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation"
)
OPEN = False
SPLITS = labelled.SPLITS
HAS_REPORTS = False
GENERATED = False
OPTIONS: Mapping[str, Any] = {"split": labelled.TEST}
PUBLISHED = {"images": 12_089, "images_with_labels": 12_047}  # 10,712 of the first stage and 1,377

FILES = ("dicom-images-train/*/*/*.dcm", "dicom-images-test/*/*/*.dcm")
MASKS = ("stage_2_train.csv", "train-rle.csv")
GOLD_SOURCE = "siim_acr_radiologists"
FINDING = "pneumothorax"
NOTHING = "-1"


def count(source: Path, *, split: str = labelled.TEST) -> dict[str, int]:
    """How many images there are, of the table or the folders, and how many of them the table labels."""
    found = _labelled(source, split)
    return labelled.count(found, labelled.files(source, FILES, NAME)) | {"images_with_labels": len(found)}


def read(source: Path, *, split: str = labelled.TEST) -> Iterator[Study | Drop]:
    """Every image with pneumothorax as gold, and the boxes of the parts of its mask.

    ``split`` says where they go: ``test`` all, or by a hash of the ``image`` to train, validation and test, where a
    person may be in several. Raises UserError when a table or column is missing, a mask is none, or an image has a
    mask and is said to have none.
    """
    yield from labelled.read(_labelled(source, split), labelled.files(source, FILES, NAME), GOLD_SOURCE)


def _labelled(source: Path, split: str) -> dict[str, Labelled]:
    path = tables.need(source, MASKS, NAME)
    masks: dict[str, tuple[Mask, ...]] = {}
    for row in tables.rows(path, ("ImageId", "EncodedPixels"), NAME):
        image_id, encoded = row["ImageId"], row["EncodedPixels"]
        where = f"{NAME}: {path.name}: image {image_id}"
        if not image_id:
            raise UserError(f"{where}: a row names no image; repair it or fetch the file again")
        own = () if encoded == NOTHING else (Mask(FINDING, _runs(encoded, where)),)
        if image_id in masks and not (own and masks[image_id]):
            raise UserError(f"{where} has two rows, and not a mask in each; remove one of the rows")
        masks[image_id] = (*masks.get(image_id, ()), *own)
    return {
        image_id: Labelled(
            patient=image_id,
            split=labelled.split_of(split, NAME, image=image_id),
            gold={FINDING: schema.PRESENT if own else schema.ABSENT},
            masks=own,
        )
        for image_id, own in masks.items()
    }


def _runs(encoded: str, where: str) -> tuple[tuple[int, int], ...]:
    """Runs down the columns: each begins so many pixels behind the end of the one before."""
    words = encoded.split()
    if not words or len(words) % 2 or not all(word.isdecimal() for word in words):
        raise UserError(
            f"{where}: EncodedPixels is neither {NOTHING} nor pairs of gap and length; fetch the file again"
        )
    found, end = [], 0
    for gap, length in zip(map(int, words[::2]), map(int, words[1::2]), strict=True):
        if not length:
            raise UserError(f"{where}: EncodedPixels has a run of no pixel; fetch the file again")
        found.append((end + gap, length))
        end += gap + length
    return tuple(found)
