"""RSNA, SIIM-ACR, VinDr-CXR and PadChest: labelled images without reports, as they are downloaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakes_labelled as fakes
import pytest

from clinicclip.data import builder, schema, spellings
from clinicclip.data.releases import labelled, padchest, rsna, siim_acr, vindr_cxr
from clinicclip.data.schema import ABSENT, PRESENT, UNCERTAIN, Box, Drop, Mask, Study
from clinicclip.errors import UserError


def read(reader: Any, root: Path, **options: Any) -> tuple[dict[str, Study], dict[str, str]]:
    items = list(reader.read(root, **options))
    studies = {item.image_id: item for item in items if isinstance(item, Study)}
    assert list(studies) == sorted(studies)
    return studies, {item.id: item.reason for item in items if isinstance(item, Drop)}


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.padchest(tmp_path_factory.mktemp("padchest"))


# RSNA


def test_rsna_target_is_pneumonia_and_the_class_says_normal(tmp_path: Path) -> None:
    studies, drops = read(rsna, fakes.rsna(tmp_path))
    assert not drops and {study.split for study in studies.values()} == {"test"}
    for number, image in enumerate(fakes.RSNA):
        boxes = fakes.RSNA_BOXES.get(image, ())
        assert studies[image].gold == {"pneumonia": int(bool(boxes)), "normal": int(not boxes and number % 2)}
        assert studies[image].boxes == tuple(Box("pneumonia", *box) for box in boxes)
    assert rsna.count(tmp_path) == {"images": 8}


def test_rsna_names_images_that_only_one_of_its_lists_knows(tmp_path: Path) -> None:
    root = fakes.rsna(tmp_path)
    first, second, third = fakes.RSNA[1], fakes.RSNA[2], fakes.RSNA[4]
    for path, image in ((rsna.TARGETS[0], first), (rsna.CLASSES[0], second)):
        lines = (root / path).read_text().splitlines(keepends=True)
        (root / path).write_text("".join(line for line in lines if image not in line))
    (root / "stage_2_train_images" / f"{third}.dcm").unlink()
    fakes.scan(root / "stage_2_train_images" / "other.dcm", 9)
    assert read(rsna, root)[1] == {
        first: "target_missing",
        second: "class_missing",
        third: "image_missing",
        "other": "labels_missing",
    }
    manifest = builder.write("rsna", tmp_path / "out", source=root, shorter_side=16, dry_run=True)
    assert manifest["images"]["used"] == 5 and sum(manifest["images"].values()) == manifest["source"]["images"] == 9


def test_a_hash_of_the_patient_may_split_what_has_no_split(chests: Path) -> None:
    splits = {labelled.split_of("hash", "padchest", hash=f"p{i}") for i in range(60)}
    assert splits == set(padchest.SPLITS) == {"train", "validation", "test"}
    for study in read(padchest, chests, split="hash")[0].values():
        assert study.split == labelled.split_of("hash", "padchest", hash=study.patient)
    with pytest.raises(UserError, match=r"padchest: split=hsh: expected test or hash; did you mean hash\?"):
        padchest.count(chests, split="hsh")


def test_rsna_is_split_by_the_person_that_its_mapping_names_or_by_image(tmp_path: Path) -> None:
    root, number = fakes.rsna(tmp_path), {image: f"{i // 2:08d}" for i, image in enumerate(fakes.RSNA[:-1])}
    with pytest.raises(UserError, match=f"put that file of RSNA's into {root}, or split by image"):
        rsna.count(root, split="hash")
    assert {s.patient for s in read(rsna, root, split="image")[0].values()} == set(fakes.RSNA)
    entries = [{"subset_img_id": image, "img_id": f"{name}_003.png"} for image, name in number.items()]
    (root / rsna.MAPPING[0]).write_text(json.dumps(entries))
    studies, drops = read(rsna, root, split="hash")
    assert {image: s.patient for image, s in studies.items()} == {i: str(int(name)) for i, name in number.items()}
    assert drops == {fakes.RSNA[-1]: "patient_missing"} and rsna.count(root) == {"images": 8, "patients": 4}
    assert all(s.split == labelled.split_of("hash", "rsna", hash=s.patient) for s in studies.values())
    (root / rsna.MAPPING[0]).write_text('[{"subset_img_id": "x"}]')
    with pytest.raises(UserError, match=r"rsna: pneumonia-.*json is not RSNA's list of \{subset_img_id, img_id\}"):
        rsna.count(root)


# SIIM-ACR


def test_siim_runs_begin_where_the_run_before_them_ended(tmp_path: Path) -> None:
    studies, drops = read(siim_acr, fakes.siim_acr(tmp_path))
    assert not drops and len(studies) == 8
    assert siim_acr.count(tmp_path) == {"images": 8, "images_with_labels": 8}
    with pytest.raises(UserError, match="siim_acr: split=hash: expected test or image"):  # nobody knows the patients
        siim_acr.count(tmp_path, split="hash")
    image = studies[fakes.SIIM[1]]
    assert image.gold == {"pneumothorax": PRESENT}
    assert image.masks == (Mask("pneumothorax", ((10, 3), (50, 3))), Mask("pneumothorax", ((1205, 2),)))
    assert studies[fakes.SIIM[0]].gold == {"pneumothorax": ABSENT} and not studies[fakes.SIIM[0]].masks


def test_siim_masks_are_stored_as_boxes_in_the_pixels_of_the_file(tmp_path: Path) -> None:
    builder.write("siim_acr", tmp_path / "out", source=fakes.siim_acr(tmp_path / "in"), shorter_side=16)
    records = {record["image_id"]: record for record in builder.open_source(tmp_path / "out", "test")}
    # 40 rows: pixels 10-12 and 50-52 are rows 10-12 of columns 0 and 1, 1205 is row 5 of column 30.
    assert sorted(records[fakes.SIIM[1]]["boxes"].tolist()) == [[0, 10, 2, 3], [30, 5, 1, 2]]
    assert records[fakes.SIIM[4]]["boxes"].tolist() == [[10, 0, 1, 20]]
    assert records[fakes.SIIM[0]]["boxes"].shape == (0, 4) and records[fakes.SIIM[0]]["view"] == "PA"


def test_siim_takes_the_table_of_the_second_stage_where_it_is(tmp_path: Path) -> None:
    root = fakes.siim_acr(tmp_path)
    fakes.table(root / "stage_2_train.csv", ("ImageId", "EncodedPixels"), [(fakes.SIIM[0], "5 5"), ("new", "-1")])
    fakes.scan(root / "dicom-images-test" / "1" / "2" / "new.dcm", 3)
    studies, drops = read(siim_acr, root)
    assert set(studies) == {fakes.SIIM[0], "new"} and set(drops.values()) == {"labels_missing"}
    assert siim_acr.count(root) == {"images": 9, "images_with_labels": 2}
    assert studies[fakes.SIIM[0]].gold == {"pneumothorax": PRESENT}


# VinDr-CXR


def test_vindr_labels_and_boxes_are_named_by_the_vocabulary(tmp_path: Path) -> None:
    studies, drops = read(vindr_cxr, fakes.vindr_cxr(tmp_path))
    assert not drops and len(studies) == 8
    findings = {finding for name, finding in vindr_cxr.NAMED.items() if name != "No finding"}
    for image, study in studies.items():
        shown = {vindr_cxr.NAMED.get(name) for name, *_ in fakes.VINDR_BOXES.get(image, ())} - {None}
        assert set(study.gold) == findings | {"normal"}
        assert {name for name, value in study.gold.items() if value} == (shown or {"normal"})
    assert studies[fakes.VINDR[0]].boxes == (Box("cardiomegaly", 8.5, 12.0, 21.5, 16.0),)  # no box of the aorta
    names = [box.finding for box in studies[fakes.VINDR[2]].boxes]
    assert names == ["lung_lesion", "fracture"]


def test_vindr_reads_either_spelling_of_its_last_class(tmp_path: Path) -> None:
    root = fakes.vindr_cxr(tmp_path)
    path = root / "annotations" / "image_labels_test.csv"
    before = read(vindr_cxr, root)
    path.write_text(path.read_text().replace("Other diseases", "Other disease"))
    assert read(vindr_cxr, root) == before


# PadChest


def test_padchest_keeps_frontal_images_that_a_physician_labelled(chests: Path) -> None:
    studies, drops = read(padchest, chests)
    assert {int(image.split("-")[1]) - 10: reason for image, reason in drops.items()} == {
        1: "not_frontal",
        3: "labels_not_by_physician",
        6: "excluded_by_release",
        8: "labels_say_nothing",
    }
    assert len(studies) == 7 and {study.view for study in studies.values()} == {"PA", "AP"}
    assert {(study.sex, study.age_band) for study in studies.values()} == {("F", "60-79")}  # born 1939, taken 2014
    assert {study.patient for study in studies.values()} == {"101", "102", "104", "105", "107", "109"}


@pytest.mark.parametrize(
    ("number", "said", "normal"),
    [
        (0, {}, 1),
        (2, {"pleural_effusion": PRESENT, "support_devices": PRESENT}, 0),
        (5, {"edema": UNCERTAIN, "lung_opacity": UNCERTAIN, "scoliosis": PRESENT}, 0),
        (7, {"edema": PRESENT, "lung_opacity": PRESENT}, 0),
        (9, {}, 0),  # abnormal, in a way the vocabulary has no name for
        (10, {}, 1),  # a trace of treatment
    ],
)
def test_padchest_labels_are_present_and_the_rest_is_absent(
    chests: Path, number: int, said: Mapping[str, int], normal: int
) -> None:
    gold = read(padchest, chests)[0][fakes.padchest_image(number)].gold
    known = set(padchest.NAMED.values()) - {"no_finding"}
    assert gold == dict.fromkeys(known, ABSENT) | dict(said) | {"normal": normal}


def test_a_row_that_is_there_twice_is_told_and_used_once(tmp_path: Path) -> None:
    root = fakes.padchest(tmp_path)
    path = root / padchest.TABLES[0]
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    items = list(padchest.read(root))
    first = fakes.padchest_image(0)
    assert Drop("label", first, "row_repeated") in items
    assert [item.image_id for item in items if isinstance(item, Study)].count(first) == 1
    manifest = builder.write("padchest", tmp_path / "out", source=root, shorter_side=16, dry_run=True)
    assert manifest["labels"] == {"row_repeated": 1} and manifest["images"]["used"] == 7


def test_padchest_beside_unchanged_what_is_not_named_is_unknown(chests: Path) -> None:
    gold = read(padchest, chests)[0][fakes.padchest_image(4)].gold
    assert gold == {"cardiomegaly": PRESENT, "enlarged_cardiomediastinum": PRESENT, "normal": 0}
    assert list(gold) == ["enlarged_cardiomediastinum", "cardiomegaly", "normal"]  # in every process the same order


def test_padchest_stores_no_word_of_its_spanish_reports(chests: Path, tmp_path: Path) -> None:
    manifest = builder.write("padchest", tmp_path / "out", source=chests, shorter_side=16)
    assert "reports" not in manifest and manifest["source"] == {
        **{"images": 11, "patients": 9, "images_by_physicians": 10}
    }
    records = list(builder.open_source(tmp_path / "out", "test"))
    assert len(records) == 7 and not any("hallazgos" in str(record) for record in records)
    assert all(record["findings"] == "" for record in records)


def test_every_sign_and_reason_of_padchest_is_one_of_its_spellings() -> None:
    assert set(padchest.SIGNS) == {
        spelling for spelling, reason in padchest.REASONS.items() if reason.startswith("only a sign of a finding")
    }
    assert set(padchest.SIGNS.values()) <= set(schema.FINDINGS)
    assert set(padchest.NOT_ABNORMAL) <= set(spellings.WITHOUT_FINDING)
    silent = {*padchest.SAYS_NOTHING, *padchest.HIDES_THE_REST, *padchest.EXCLUDED}
    assert silent == {name for name, reason in padchest.REASONS.items() if reason.startswith("no statement")}
