"""MIMIC-CXR-JPG: the official layout is read as it comes, and every planted fault is named."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mimic
import numpy as np
import pytest
from PIL import Image

from clinicclip import cli, prepare
from clinicclip.data import builder, schema
from clinicclip.data.manifest import DROPPED, PARTIAL, read_manifest
from clinicclip.data.releases import mimic_cxr
from clinicclip.data.schema import Drop, Study
from clinicclip.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mimic").mkdir()
    return mimic.fake(tmp_path / "mimic")


def read(root: Path, **options: Any) -> tuple[dict[str, Study], dict[str, str]]:
    """{image: study} and {"kind id": reason}, ids of images by their place in the fake."""
    numbers = {shot.image: str(i) for i, shot in enumerate(mimic.SHOTS)}
    items = list(mimic_cxr.read(root, **options))
    studies = {numbers[item.image_id]: item for item in items if isinstance(item, Study)}
    drops = {f"{d.kind} {numbers.get(d.id, d.id)}": d.reason for d in items if isinstance(d, Drop)}
    return studies, drops


LEFT_OUT = {
    "image 1": "not_frontal",
    "image 6": "not_frontal",
    "report 50985099": "report_without_frontal_image",
    "image 7": "view_unknown",
    "report 51967283": "report_without_frontal_image",
}


def test_frontal_images_are_paired_with_the_report_of_their_study(root: Path) -> None:
    studies, drops = read(root)
    assert sorted(studies) == ["0", "2", "3", "4", "5", "8"] and drops == LEFT_OUT
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


# Planted faults: named in the account


def plant(root: Path) -> dict[str, str]:
    """One fault of every kind that costs a study alone, and the fates they must meet."""
    shots, added = mimic.SHOTS, ("aa", "bb", "cc")
    mimic.image_path(root, shots[2]).unlink()
    path = mimic.image_path(root, shots[3])
    path.write_bytes(path.read_bytes()[:600])
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(mimic.image_path(root, shots[4]))
    rows = "".join(f"{name},10000032,5000000{i},CHEST,AP,40,48,1,1\n" for i, name in enumerate(added[:2]))
    mimic.rewrite(root / mimic.METADATA, lambda text: text + rows)
    mimic.rewrite(root / mimic.SPLIT, lambda text: text + "aa,50000000,10000032,train\ncc,50000002,10000032,train\n")
    blank = mimic.HEAD + " FINDINGS:\n\n IMPRESSION:\n"
    mimic.write_zip(root / mimic.ZIP, s50578979=blank, s52967284=b"FINDINGS: \xff\xfe", s59999999="IMPRESSION: Clear.")
    return LEFT_OUT | {
        "image 2": "image_missing",
        "image 3": "image_unreadable",
        "image 4": "image_constant",
        "image 5": "report_without_sections",
        "image 8": "report_unreadable",
        "image aa": "report_missing",
        "image bb": "split_missing",
        "image cc": "metadata_missing",
        "report 53189527": "image_missing",
        "report 57375967": "image_unreadable",
        "report 50578979": "report_without_sections",
        "report 52967284": "report_unreadable",
        "report 59999999": "report_without_image",
        **{f"label 5000000{i}": "label_missing" for i in range(3)},
    }


@pytest.mark.parametrize("dry_run", [False, True])
def test_every_planted_fault_is_in_the_account_under_its_name(root: Path, tmp_path: Path, dry_run: bool) -> None:
    planted = plant(root)
    output = tmp_path / "out"
    manifest = builder.write("mimic_cxr", output, source=root, shorter_side=32, dry_run=dry_run)
    assert manifest["source"] == {"reports": 8, "images": 12, "patients": 5}
    assert manifest["published"] == {"reports": 227_835, "images": 377_110, "patients": 65_379}
    for kind in ("image", "report"):
        reasons = [reason for name, reason in planted.items() if name.startswith(kind)]
        counts = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        assert manifest[f"{kind}s"] == {"used": 1, **counts}
    assert manifest["labels"] == {"label_missing": 3}
    assert output.exists() != dry_run
    if not dry_run:
        numbers = {shot.image: str(i) for i, shot in enumerate(mimic.SHOTS)}
        lines = (output / DROPPED).read_text()
        named = [json.loads(line) for line in lines.splitlines()]
        assert {f"{d['kind']} {numbers.get(d['id'], d['id'])}": d["reason"] for d in named} == planted
        assert "cardiomegaly" not in lines.lower()


def test_images_on_the_disk_that_no_table_names_are_in_the_account(root: Path) -> None:
    beside = mimic.image_path(root, mimic.SHOTS[0]).with_stem("dd")
    beside.write_bytes(b"")
    assert mimic_cxr.count(root)["images"] == len(mimic.SHOTS) + 1
    assert read(root)[1] == LEFT_OUT | {"image dd": "metadata_missing"}


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


def test_a_limit_takes_the_first_pairs_and_counts_the_rest(root: Path, tmp_path: Path) -> None:
    manifest = builder.write("mimic_cxr", tmp_path / "out", source=root, limit=2)
    assert manifest["images"] == {"used": 2, "not_frontal": 1, "beyond_limit": 6}
    assert manifest["reports"] == {"used": 2, "beyond_limit": 5}


# Planted faults: one clear line


def drop_column(name: str, column: str) -> Callable[[Path], None]:
    return lambda root: mimic.rewrite(root / name, lambda text: text.replace(column, f"{column}x", 1))


def repeat_row(name: str) -> Callable[[Path], None]:
    return lambda root: mimic.rewrite(root / name, lambda text: text + text.splitlines()[1] + "\n")


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: mimic.rewrite(root / name, lambda text: text.replace(old, new))


def cut(name: str) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, (root / name).stat().st_size // 2)


def twice_in_zip(root: Path) -> None:
    with zipfile.ZipFile(root / mimic.ZIP, "a") as archive:
        archive.writestr("copy/p10/p10000032/s50414267.txt", "Again.")


def no_reports_in_zip(root: Path) -> None:
    with zipfile.ZipFile(root / mimic.ZIP, "w") as archive:
        archive.writestr("readme.txt", "nothing here")


TABLES = (mimic.METADATA, mimic.SPLIT, mimic.CHEXPERT)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "files").rename(root / "pictures"), ("files/", "--source")),
        *(((lambda root, name=name: (root / name).unlink()), (name[:-3], "fetch")) for name in TABLES),
        *((cut(name), (name, "not a whole table")) for name in TABLES),
        *((drop_column(name, "study_id"), (name, "lacks the column study_id")) for name in (*TABLES, mimic.GOLD)),
        *((repeat_row(name), (name, "remove one")) for name in (*TABLES, mimic.GOLD)),
        (drop_column(mimic.METADATA, "ViewPosition"), ("ViewPosition", mimic.METADATA)),
        (drop_column(mimic.METADATA, "dicom_id"), ("dicom_id", mimic.METADATA)),
        (drop_column(mimic.SPLIT, "split"), ("lacks the column split",)),
        (drop_column(mimic.CHEXPERT, "Edema"), (mimic.CHEXPERT, "edema", "Edemax")),
        (drop_column(mimic.GOLD, "Airspace Opacity"), (mimic.GOLD, "unknown column Airspace Opacityx")),
        (replace(mimic.CHEXPERT, ",1.0,", ",2.0,"), ("study 50414267", "'2.0'")),
        (replace(mimic.SPLIT, "validate", "valid"), ("'valid'", "validate")),
        (replace(mimic.SPLIT, "53189527,10000032", "53189527,10000033"), ("another patient",)),
        (replace(mimic.METADATA, "10000764", ""), ("lacks its dicom_id, subject_id or study_id",)),
        (lambda root: (root / mimic.ZIP).unlink(), ("mimic-cxr-reports.zip", "--reports=ZIP")),
        (cut(mimic.ZIP), ("mimic-cxr-reports.zip", "not a whole zip")),
        (twice_in_zip, ("s50414267.txt twice",)),
        (no_reports_in_zip, ("no reports in",)),
    ],
)
def test_what_spoils_the_release_is_one_clear_line(
    root: Path, tmp_path: Path, damage: Callable[[Path], Any], words: tuple[str, ...], capsys: Any
) -> None:
    damage(root)
    assert call("mimic_cxr", f"--source={root}", f"--output={tmp_path / 'out'}") == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and all(word in printed for word in ("mimic_cxr", *words)), printed
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_study_or_patient_in_two_splits_is_refused(root: Path, tmp_path: Path) -> None:
    shot = mimic.SHOTS[4]
    mimic.rewrite(
        root / mimic.SPLIT,
        lambda text: text.replace(
            f"{shot.image},{shot.study},{shot.patient},validate", f"{shot.image},{shot.study},{shot.patient},test"
        ),
    )
    with pytest.raises(
        UserError, match=r"patient 10000764 is in two splits, (validation and test|test and validation)"
    ):
        builder.write("mimic_cxr", tmp_path / "out", source=root)


# The program


def call(*argv: object) -> int:
    return cli.call(prepare.main, prepare.parser(), [str(word) for word in argv])


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


def test_a_killed_run_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    script = """
import sys, time
from clinicclip import cli, prepare
from clinicclip.data import shards
shards.RECORDS_PER_SHARD = 1
make, pause = shards.make, float(sys.argv.pop(1))
shards.make = lambda task: (time.sleep(pause), make(task))[1]
sys.exit(cli.call(prepare.main, prepare.parser(), sys.argv[1:]))
"""
    output = tmp_path / "out"
    arguments = ["mimic_cxr", f"--source={root}", f"--output={output}"]
    with subprocess.Popen([sys.executable, "-c", script, "0.2", *arguments], cwd=ROOT) as started:
        while len(list((output / PARTIAL).glob("*.json"))) < 2:
            assert started.poll() is None
            time.sleep(0.005)
        os.kill(started.pid, signal.SIGKILL)
    finished = {path.stat().st_ino for path in (output / PARTIAL).glob("*.array_record")}
    done = subprocess.run([sys.executable, "-c", script, "0", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = {path.stat().st_ino for path in output.rglob("*.array_record-*")}
    assert len(finished & kept) >= 2
    assert len(builder.open_source(output, "train+validation+test")) == 6
