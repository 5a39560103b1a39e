"""MIMIC-CXR-JPG: every planted fault is named, in the account or in one clear line."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mimic
import numpy as np
import pytest
from PIL import Image
from preparing import call

from clinicclip.data import builder
from clinicclip.data.manifest import DROPPED
from clinicclip.data.releases import mimic_cxr, reports
from clinicclip.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mimic").mkdir()
    return mimic.fake(tmp_path / "mimic")


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
    return mimic.LEFT_OUT | {
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
    assert mimic.read(root)[1] == mimic.LEFT_OUT | {"image dd": "metadata_missing"}


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


def test_a_report_longer_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_BYTES", 100)
    texts = {"s1.txt": " " * 100, "s2.txt": " " * 101}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
            (tmp_path / name).write_text(text)
    for place in (tmp_path / "a.zip", tmp_path):
        with reports.Reports(place, r"s\d.txt", "r") as found:
            assert [found.read(name) for name in texts] == [texts["s1.txt"], None]
