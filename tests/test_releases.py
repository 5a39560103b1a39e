"""Readers: every report and image of a release is used or dropped by name of reason; faults are told in a line."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dicoms
import fakes
import numpy as np
import pytest
from PIL import Image

from clinicclip.data import builder, schema
from clinicclip.data.releases import READERS, folder, openi
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError


def read(reader: Any, root: Path) -> tuple[list[Study], list[Drop]]:
    items = list(reader.read(root))
    return [i for i in items if isinstance(i, Study)], [i for i in items if isinstance(i, Drop)]


def fates(drops: Iterable[Drop]) -> dict[str, str]:
    return {f"{drop.kind} {drop.id}": drop.reason for drop in drops}


def complaint(reader: Any, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(reader.read(root))
    message = str(caught.value)
    assert message.startswith(reader.NAME) and "\n" not in message
    return message


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize("name", READERS)
def test_a_reader_says_what_it_is(name: str) -> None:
    reader = READERS[name]
    assert name == reader.NAME and reader.TITLE and reader.LICENCE and isinstance(reader.OPEN, bool)
    assert len(set(reader.SPLITS)) == len(reader.SPLITS) >= 1


# Open-I


def test_openi_pairs_frontal_images_with_their_reports(tmp_path: Path) -> None:
    studies, _ = read(openi, fakes.openi(tmp_path))
    kept = {study.image_id: study for study in studies}
    assert set(kept) == {
        "CXR1_1_IM-0001-4001",
        "CXR2_IM-0652-1001",
        "CXR2_IM-0652-2001",
        "CXR10_IM-0002-1001",
    }
    one = kept["CXR1_1_IM-0001-4001"]
    assert (one.patient, one.study, one.view) == ("1", "1", "frontal")
    assert (one.findings, one.impression) == ("The heart is enlarged. No pleural effusion.", "Cardiomegaly.")
    assert kept["CXR2_IM-0652-1001"].findings == "Lungs are clear XXXX."  # removed words stay as released


def test_openi_gives_all_known_views_when_asked(tmp_path: Path) -> None:
    studies = list(openi.read(fakes.openi(tmp_path), views="all"))
    views = {study.image_id: study.view for study in studies if isinstance(study, Study)}
    assert len(views) == 6 and list(views.values()).count("lateral") == 2
    with pytest.raises(UserError, match="openi: views=al: expected frontal or all; did you mean all"):
        list(openi.read(tmp_path, views="al"))


def test_openi_reads_the_official_pngs_whose_views_nothing_says(tmp_path: Path) -> None:
    root = fakes.openi(tmp_path)
    (root / "projections.csv").unlink()
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    assert "--views=all" in complaint(openi, root)
    (root / "CXR3_IM-1384-2001.png").unlink()
    items = list(openi.read(root, views="all"))
    assert {item.view for item in items if isinstance(item, Study)} == {""}
    assert fates(item for item in items if isinstance(item, Drop)) == {
        "image CXR3_IM-1384-2001": "image_missing",
        "report 3": "report_without_image",
        "report 4": "report_without_image",
        "report 5": "report_without_sections",
    }
    assert openi.count(root, views="all") == {"reports": 6, "images": 6}


def test_openi_takes_views_from_the_headers_of_the_official_dicom_files(tmp_path: Path) -> None:
    root = fakes.openi(tmp_path)
    (root / "projections.csv").unlink()
    for path in (root / "images").iterdir():
        uid, _, rest = path.stem.removeprefix("CXR").partition("_")
        folder = root / "NLMCXR_dcm" / uid
        folder.mkdir(parents=True, exist_ok=True)
        view = {"1_IM-0001-3001": "LL", "1_IM-0001-4001": "PA", "IM-0652-1001": "AP"}.get(rest, "")
        made = dicoms.dataset(np.asarray(Image.open(path)), ViewPosition=view)
        (folder / f"{uid}_{rest.removeprefix('1_')}.dcm").write_bytes(dicoms.content(made))
        path.unlink()
    (root / "NLMCXR_dcm" / "10" / "10_IM-0002-1001.dcm").write_bytes(b"no DICOM")
    studies, drops = read(openi, root)
    assert {study.image_id: study.view for study in studies} == {"CXR1_1_IM-0001-4001": "pa", "CXR2_IM-0652-1001": "ap"}
    assert {drop.id: drop.reason for drop in drops if drop.kind == "image"} == {
        "CXR1_1_IM-0001-3001": "not_frontal",
        **dict.fromkeys(("CXR2_IM-0652-2001", "CXR3_IM-1384-2001", "CXR10_IM-0002-1001"), "view_unknown"),
    }


def test_openi_folds_follow_the_uid_alone(tmp_path: Path) -> None:
    studies, _ = read(openi, fakes.openi(tmp_path))
    assert all(study.split == f"fold{schema.fold(study.patient)}" for study in studies)


def test_openi_gold_is_the_coded_table_and_blank_without_a_row(tmp_path: Path) -> None:
    studies, _ = read(openi, fakes.openi(tmp_path))
    gold = {study.patient: (study.gold, study.gold_source) for study in studies}
    assert gold["2"] == ({}, "")
    values, source = gold["1"]
    assert source == "openi_mesh" and set(values) - {"normal"} <= set(schema.FINDINGS)
    assert (values["cardiomegaly"], values["pleural_effusion"], values["normal"], len(values)) == (1, 0, 0, 15)


def test_openi_accounts_for_every_report_and_image(tmp_path: Path) -> None:
    root = fakes.openi(tmp_path / "source")
    manifest = builder.write("openi", tmp_path / "out", source=root, shorter_side=32)
    assert manifest["source"] == {"reports": 6, "images": 6}
    assert manifest["reports"] == {
        "used": 2,
        "report_without_frontal_image": 1,
        "report_without_image": 1,
        "report_without_sections": 2,
    }
    assert manifest["images"] == {"used": 3, "not_frontal": 2, "report_without_sections": 1}


def test_openi_drops_are_named_one_by_one(tmp_path: Path) -> None:
    root = fakes.openi(tmp_path)
    (root / openi.REPORTS / "2.xml").unlink()
    (root / openi.REPORTS / "3.xml").write_text("<eCitation><IUXRId id=")
    (root / "images" / "CXR1_1_IM-0001-4001.png").unlink()
    rewrite(root / "projections.csv", lambda text: text.replace("CXR10_IM-0002-1001,10,frontal\n", ""))
    assert fates(read(openi, root)[1]) == {
        "image CXR1_1_IM-0001-3001": "not_frontal",
        "image CXR1_1_IM-0001-4001": "image_missing",
        "report 1": "report_without_frontal_image",
        "report 3": "report_unreadable",
        "image CXR3_IM-1384-2001": "report_unreadable",
        "report 4": "report_without_image",
        "report 5": "report_without_sections",
        "image CXR10_IM-0002-1001": "view_unknown",
        "report 10": "report_without_sections",
        "image CXR2_IM-0652-1001": "image_without_report",
        "image CXR2_IM-0652-2001": "image_without_report",
    }


def test_openi_reads_the_public_copy_and_the_official_download_alike(tmp_path: Path) -> None:
    plain, copy, official = (fakes.openi(tmp_path / name) for name in ("plain", "copy", "official"))
    expected = read(openi, plain)
    rows = ["uid,filename,projection"]
    for line in (copy / "projections.csv").read_text().splitlines()[1:]:
        image, uid, view = line.split(",")
        rows.append(f"{uid},{image.removeprefix('CXR')}.dcm.png,{view.title()}")
    (copy / "projections.csv").unlink()
    with gzip.open(copy / "indiana_projections.csv.gz", "wt") as file:
        file.write("\r\n".join(rows))
    for path in (copy / "images").iterdir():
        path.rename(path.with_name(path.name.removeprefix("CXR").replace(".png", ".dcm.png")))
    (official / "images").rename(official / "NLMCXR_png")
    (copy / "images" / "1_1_IM-0001-4001.dcm.png").rename(copy / "images" / "1_IM-0001-4001.dcm.png")
    for root in (copy, official):
        studies, drops = read(openi, root)
        assert [study.image_id for study in studies] == [study.image_id for study in expected[0]]
        assert drops == expected[1]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "projections.csv").unlink(), ("projections.csv", "frontal")),
        (lambda root: rewrite(root / "projections.csv", lambda t: t.replace("view", "vew", 1)), ("column view",)),
        (lambda root: rewrite(root / "labels.csv", lambda t: t.replace("normal", "nrmal")), ("column normal",)),
        (lambda root: rewrite(root / "labels.csv", lambda t: t.replace("Mass", "Mess")), ("labels.csv", "Mess")),
        (lambda root: rewrite(root / "labels.csv", lambda t: t.replace(",0\n", ",\n")), ("uid 1", "normal")),
        (
            lambda root: rewrite(root / "labels.csv", lambda t: t.replace(",Hernia", "").replace(",0\n", "\n")),
            ("labels.csv lacks a column hernia",),
        ),
        (lambda root: rewrite(root / "labels.csv", lambda t: t + t.splitlines()[1]), ("two rows of uid 1",)),
        (lambda root: rewrite(root / "labels.csv", lambda t: t + "7,train\n"), ("labels.csv line 3",)),
        (lambda root: (root / "labels.csv").write_bytes(b"uid\xff\xfe"), ("labels.csv", "not a whole table")),
        (lambda root: (root / "labels.csv").write_bytes(b""), ("columns uid, normal", "no header")),
        (lambda root: rewrite(root / "projections.csv", lambda t: t + t.splitlines()[2]), ("twice",)),
        (lambda root: (root / "images").rename(root / "pictures"), ("images/*", "NLMCXR_png.tgz")),
        (lambda root: [path.unlink() for path in (root / openi.REPORTS).iterdir()], ("no report XMLs",)),
        (
            lambda root: (root / openi.REPORTS / "9.xml").write_text(fakes.report_xml("2", "A.", "B.")),
            ("2.xml", "9.xml"),
        ),
        (lambda root: fakes.picture(root / "images" / "scan.png"), ("scan.png",)),
        (lambda root: fakes.picture(root / "images" / "CXR2_IM-0652-1001.jpg"), ("two files", "CXR2_IM-0652-1001")),
    ],
)
def test_openi_faults_stop_with_one_clear_line(
    tmp_path: Path, damage: Callable[[Path], Any], words: tuple[str, ...]
) -> None:
    root = fakes.openi(tmp_path)
    damage(root)
    message = complaint(openi, root)
    assert all(word in message for word in words), message


# A plain folder


def test_folder_pairs_are_read_with_their_sections_and_labels(tmp_path: Path) -> None:
    change = {
        "text": "FINDINGS: The heart is enlarged.\nIMPRESSION: Cardiomegaly.",
        "labels": {"Cardiomegaly": 1, "Pleural Effusion": 0, "edema": -1, "Pneumonia": None},
        "split": "val",
        "study": "s1",
        "view": "PA",
        "sex": "Female",
    }
    study = read(folder, fakes.folder(tmp_path, change))[0][0]
    assert (study.findings, study.impression) == ("The heart is enlarged.", "Cardiomegaly.")
    assert study.labels == {"cardiomegaly": 1, "pleural_effusion": 0, "edema": -1, "pneumonia": schema.UNKNOWN}
    assert (study.split, study.study, study.view, study.patient) == ("validation", "s1", "PA", "p0")
    assert study.sex == "F"
    assert study.gold == {}


def test_folder_splits_by_patient_hash_about_eighty_ten_ten(tmp_path: Path) -> None:
    rows = [{"image": f"{i}.png", "text": "Clear.", "patient": f"p{i // 2}"} for i in range(2000)]
    (tmp_path / folder.PAIRS).write_text("\n".join(map(json.dumps, rows)))
    studies, _ = read(folder, tmp_path)
    splits = {study.patient: study.split for study in studies}
    assert all(splits[study.patient] == study.split for study in studies)
    shares = {split: n / len(splits) for split, n in Counter(splits.values()).items()}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.03)


def test_folder_duplicates_are_dropped_and_counted(tmp_path: Path) -> None:
    again = {"image": "images/0.png", "study": "other"}
    root = fakes.folder(tmp_path / "in", {"study": "s"}, {"study": "s", "patient": "p0"}, again)
    manifest = builder.write("folder", tmp_path / "out", source=root, shorter_side=32)
    assert manifest["images"] == {"used": 2, "duplicate_image": 1, "duplicate_study": 1, "not_listed": 1}
    assert manifest["reports"] == {"used": 2, "duplicate_image": 1}


def test_folder_images_that_the_list_does_not_name_are_in_the_account(tmp_path: Path) -> None:
    root = fakes.folder(tmp_path, {"image": "./images/0.png"})
    fakes.picture(root / "more" / "x.JPG")
    studies, drops = read(folder, root)
    assert len(studies) == 4 and drops == [Drop("image", "more/x.JPG", "not_listed")]
    assert folder.count(root) == {"reports": 4, "images": 5}


def test_folder_images_of_one_study_share_its_report(tmp_path: Path) -> None:
    shared = {"study": "s", "patient": "p", "text": "Clear."}
    studies, drops = read(folder, fakes.folder(tmp_path, shared, shared))
    assert len(studies) == 4 and not drops
    assert folder.count(tmp_path) == {"reports": 3, "images": 4}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("empty",)),
        ("{", ("line 1", "not JSON")),
        ("[]", ("line 1", "not an object")),
        ('{"image": "a.png", "patient": "p"}', ("line 1", "lacks text")),
        ('{"image": "a.png", "text": "x", "patient": null}', ("lacks patient",)),
        ('{"image": "a.png", "text": "x", "patient": "p", "lables": {}}', ("lables", "did you mean labels?")),
        ('{"image": "a.png", "text": "x", "patient": "p", "split": "dev"}', ("split 'dev'", "validation")),
        ('{"image": "a.png", "text": "x", "patient": "p", "labels": [1]}', ("labels",)),
        ('{"image": "a.png", "text": "x", "patient": "p", "sex": "w"}', ("line 1", "sex 'w'", "female")),
        ('{"image": "a.png", "text": "x", "patient": "p", "labels": {"Oedema": 1}}', ("Oedema", "edema")),
        ('{"image": "a.png", "text": "x", "patient": "p", "labels": {"Edema": 2}}', ("Edema", "2")),
    ],
)
def test_folder_faults_name_the_line(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    (tmp_path / folder.PAIRS).write_text(content)
    message = complaint(folder, tmp_path)
    assert all(word in message for word in words), message


def test_folder_without_its_list_says_what_is_needed(tmp_path: Path) -> None:
    assert "pairs.jsonl" in complaint(folder, tmp_path)
