"""MIMIC-CXR-JPG: the official layout is read as it comes."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import mimic
import numpy as np
import pytest
from mimic import read
from preparing import call

from clinicclip.data import builder, schema, shards
from clinicclip.data.manifest import PARTIAL, read_manifest
from clinicclip.data.releases import mimic_cxr
from clinicclip.errors import UserError
from clinicclip.evals import sets, suites


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mimic").mkdir()
    return mimic.fake(tmp_path / "mimic")


def test_frontal_images_are_paired_with_the_report_of_their_study(root: Path) -> None:
    studies, drops = read(root)
    assert sorted(studies) == ["0", "2", "3", "4", "5", "8"] and drops == mimic.LEFT_OUT
    first = studies["0"]
    assert (first.patient, first.study, first.view, first.split) == ("10000032", "50414267", "PA", "train")
    assert first.image == mimic.image_path(root, mimic.SHOTS[0]) and first.image.is_file()
    assert "cardiomegaly" in first.findings and "Big heart" in first.impression
    assert "cough" not in first.findings + first.impression
    assert "left pleural effusion" in studies["2"].findings
    assert studies["3"].impression == studies["4"].impression == "No pneumothorax."


def test_the_official_split_is_kept(root: Path) -> None:
    studies, _ = read(root)
    assert {number: study.split for number, study in studies.items() if study.split != "train"} == {
        **{"3": "validation", "4": "validation", "5": "test"}
    }


@pytest.mark.parametrize(("source", "finding", "value"), [("chexpert", "cardiomegaly", 1), ("negbio", "edema", -1)])
def test_report_labels_are_those_of_the_table_and_blank_is_absent(
    root: Path, source: str, finding: str, value: int
) -> None:
    studies, _ = read(root, labels=source)
    assert studies["0"].labels == dict.fromkeys(schema.CHEXPERT, 0) | {finding: value}
    assert studies["2"].labels == dict.fromkeys(schema.CHEXPERT, 0)


@pytest.mark.parametrize("key", ["study_id", "Report Impression"])
def test_labels_may_come_from_a_table_of_chexberts(root: Path, tmp_path: Path, key: str) -> None:
    first = read(root)[0]["0"]
    named = {"study_id": first.study, "Report Impression": first.impression}[key]
    values = ["-1.0" if name == "Edema" else "" for name in mimic.LABELS]
    table = tmp_path / "labeled_reports.csv"
    table.write_text(f"{key},{','.join(mimic.LABELS)}\n{named},{','.join(values)}\n")
    studies, _ = read(root, labels=str(table))
    assert studies["0"].labels == dict.fromkeys(schema.CHEXPERT, 0) | {"edema": -1}
    assert studies["2"].labels is None
    table.write_text(f"{key},{','.join(mimic.LABELS[1:])}\n{named},{','.join(values[1:])}\n")
    with pytest.raises(UserError, match="lacks a column of atelectasis"):
        read(root, labels=str(table))


def test_labels_may_be_left_to_the_text(root: Path) -> None:
    mimic.rewrite(root / mimic.CHEXPERT, lambda text: "\n".join(text.splitlines()[:2]))
    assert {number for number, study in read(root)[0].items() if study.labels is None} == {"2", "3", "4", "5", "8"}
    (root / mimic.CHEXPERT).unlink()
    assert all(study.labels is None for study in read(root, labels="text")[0].values())


def test_test_labels_are_gold_and_never_training_labels(root: Path) -> None:
    studies, _ = read(root)
    gold = studies["5"]
    assert gold.gold == dict.fromkeys(schema.CHEXPERT, 0) | {"lung_opacity": 1}
    assert gold.gold_source and gold.labels == dict.fromkeys(schema.CHEXPERT, 0)
    assert not [number for number, study in studies.items() if study.gold and number != "5"]
    (root / mimic.GOLD).write_text("study_id,Edema,Airspace Opacity\n50578979,0.0,-1.0\n")  # fewer findings
    studies, drops = read(root)
    assert studies["5"].gold == {"edema": 0, "lung_opacity": -1}
    assert {name for name, reason in drops.items() if reason == "gold_column_missing"} == {
        f"label {mimic.GOLD}: {name}" for name in schema.CHEXPERT if name not in ("edema", "lung_opacity")
    }
    (root / mimic.GOLD).unlink()
    assert read(root)[0]["5"].gold == {} and not read(root)[0]["5"].gold_source


def test_order_and_content_depend_on_neither_form_nor_order_of_the_files(root: Path, tmp_path: Path) -> None:
    expected = list(mimic_cxr.read(root))

    def shuffle(text: str) -> str:
        header, *rows = text.splitlines()
        return "\r\n".join([header, *reversed(rows)])

    for name in (mimic.METADATA, mimic.SPLIT, mimic.CHEXPERT):
        mimic.rewrite(root / name, shuffle)
    plain = root / mimic.METADATA.removesuffix(".gz")
    plain.write_bytes(gzip.decompress((root / mimic.METADATA).read_bytes()))
    (root / mimic.METADATA).unlink()
    with zipfile.ZipFile(root / mimic.ZIP) as archive:
        archive.extractall(tmp_path / "unpacked")
    (root / mimic.ZIP).unlink()
    assert list(mimic_cxr.read(root, reports=str(tmp_path / "unpacked"))) == expected
    (tmp_path / "unpacked").rename(root / "mimic-cxr-reports")
    assert list(mimic_cxr.read(root)) == expected


def test_the_later_names_of_the_tables_are_found(root: Path) -> None:
    expected = list(mimic_cxr.read(root))
    for name in (mimic.METADATA, mimic.SPLIT, mimic.CHEXPERT):
        (root / name).rename(root / name.replace("2.0.0", "2.1.0"))
    assert list(mimic_cxr.read(root)) == expected


def test_records_hold_what_training_and_evaluation_read(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    builder.write("mimic_cxr", output, source=root, shorter_side=32, workers=2)
    train = builder.open_source(output, "train")
    assert [record["study"] for record in train] == ["50414267", "53189527", "52967284"]
    assert train[0]["labels"][schema.CHEXPERT.index("cardiomegaly")] == 1 and train[0]["gold_names"] == []
    test = builder.open_source(output, "test")[0]
    assert dict(zip(test["gold_names"], test["gold_values"], strict=True))["lung_opacity"] == 1
    assert test["view"] == "PA" and (test["height"], test["width"]) == (40, 48)
    manifest = read_manifest(output, checksums=True)
    assert not manifest["open"] and "credentialed" in manifest["licence"] and "Johnson" in manifest["citation"]


@pytest.mark.parametrize(
    ("labels", "source"), [("negbio", "labels by negbio (no gold labels)"), ("text", "report text (no gold labels)")]
)
def test_without_the_test_labels_the_table_asked_for_is_the_truth(
    root: Path, tmp_path: Path, labels: str, source: str
) -> None:
    (root / mimic.GOLD).unlink()
    builder.write("mimic_cxr", tmp_path / "out", source=root, options={"labels": labels}, shorter_side=32)
    evalset = sets.open_set("x", tmp_path / "out", "train", image_size=32)
    stored = [[_known(code) for code in record["labels"]] for record in builder.open_source(tmp_path / "out", "train")]
    columns = evalset.truth[:, : len(schema.CHEXPERT)]
    assert evalset.source == source and np.array_equal(columns, stored, equal_nan=True) is (labels == "negbio")
    assert ("table of labels" in suites.facts_of(evalset).truth) is (labels == "negbio")


def _known(code: int) -> float:
    return float(code) if code in (schema.PRESENT, schema.ABSENT) else np.nan


def test_a_limit_takes_the_first_pairs_and_counts_the_rest(root: Path, tmp_path: Path) -> None:
    manifest = builder.write("mimic_cxr", tmp_path / "out", source=root, limit=2)
    assert manifest["images"] == {"used": 2, "not_frontal": 1, "beyond_limit": 6}
    assert manifest["reports"] == {"used": 2, "beyond_limit": 5}


# The program


def test_the_program_says_what_was_found_of_what_is_published(root: Path, tmp_path: Path, capsys: Any) -> None:
    (root / mimic.ZIP).rename(tmp_path / "elsewhere.zip")
    arguments = (f"--source={root}", f"--reports={tmp_path / 'elsewhere.zip'}", f"--output={tmp_path / 'out'}")
    assert call("mimic_cxr", *arguments, "--labels=negbio") == 0
    printed = capsys.readouterr().out
    assert "9 images found of the 377,110 published: 6 used" in printed
    assert "5 patients found of the 65,379 published" in printed
    assert mimic_cxr.TITLE in printed and "signed data use agreement" in printed
    assert call("mimic_cxr", *arguments, "--labels=negbio") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert call("mimic_cxr", *arguments) == 1
    assert "labels=negbio" in capsys.readouterr().err


def test_a_whole_release_is_said_to_be_as_published(
    root: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mimic_cxr, "PUBLISHED", {"reports": 7, "images": 9, "patients": 5})
    assert call("mimic_cxr", f"--source={root}", f"--output={tmp_path / 'out'}", "--dry_run") == 0
    printed = capsys.readouterr().out
    for found in ("7 reports", "9 images", "5 patients"):
        assert f"{found} found, as published" in printed


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("--labels=chexbert",), 1, "did you mean chexpert?"),
        (("--reports=nowhere.zip",), 1, "nowhere.zip"),
        (("--level=easy",), 2, "--level is not a setting of mimic_cxr"),
    ],
)
def test_wrong_settings_are_one_line(
    root: Path, tmp_path: Path, argv: tuple[str, ...], code: int, words: str, capsys: Any
) -> None:
    assert call("mimic_cxr", f"--source={root}", f"--output={tmp_path / 'out'}", *argv) == code
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


def test_a_run_cut_off_goes_on_where_it_was(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, make, made = tmp_path / "out", shards.make, []
    monkeypatch.setattr(shards, "RECORDS_PER_SHARD", 1)

    def two(task: shards.Task) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(make(task))
        return made[-1]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "make", two)
        builder.write("mimic_cxr", output, source=root)
    finished = {path.stat().st_ino for path in (output / PARTIAL).glob("*.array_record")}
    builder.write("mimic_cxr", output, source=root)
    kept = {path.stat().st_ino for path in output.rglob("*.array_record-*")}
    assert len(finished) == 2 and finished <= kept
    assert len(builder.open_source(output, "train+validation+test")) == 6
