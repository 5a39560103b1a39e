"""NIH ChestX-ray14: images and labels without reports, as they are downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import planted
import pytest
from preparing import call

from clinicclip.data import builder, schema
from clinicclip.data.releases import chestxray14
from clinicclip.data.schema import Box, Drop
from clinicclip.evals import sets, suites
from clinicclip.evals.base import EmbedFns


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fakes.chestxray14(tmp_path / "nih")


def test_images_come_with_their_labels_boxes_and_facts(root: Path) -> None:
    studies = {study.image_id: study for study in chestxray14.read(root)}
    first = studies["00000001_000.png"]
    assert {name for name, value in first.gold.items() if value} == {"cardiomegaly", "pleural_effusion"}
    assert (first.patient, first.view, first.sex, first.age_band) == ("1", "PA", "M", "40-59")
    assert studies["00000001_001.png"].gold["normal"] == 1 and first.gold["normal"] == 0
    assert set(first.gold) - {"normal"} <= set(schema.FINDINGS) and len(first.gold) == 15
    assert studies["00000002_000.png"].boxes == (Box("infiltration", 5.5, 7.0, 26.7, 29.1),)
    assert studies["00000004_000.png"].age_band == ""


def test_the_official_test_list_is_the_test_split(root: Path) -> None:
    splits = {study.image_id: study.split for study in chestxray14.read(root)}
    assert [image for image, split in splits.items() if split == "test"] == list(fakes.NIH_TESTED)
    assert splits["00000001_000.png"] == splits["00000001_001.png"] in ("train", "validation")


def test_records_without_reports_are_evaluated_by_suites_of_images_alone(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    manifest = builder.write("chestxray14", output, source=root, shorter_side=32)
    assert manifest["source"] == {"images": 6, "patients": 5} and manifest["images"] == {"used": 6}
    assert "reports" not in manifest and manifest["dropped"] == {}
    record = builder.open_source(output, "test")[0]
    assert record["findings"] == "" and record["sentences"] == [] and record["negated"] == ""
    assert (record["labels"] == schema.UNKNOWN).all() and record["boxes"].shape == (1, 4)
    evalset = sets.open_set("nih", output, "test", image_size=32)
    axes = np.eye(4, dtype=np.float32)
    embed = EmbedFns(
        images=planted.marked(lambda images: axes[[int(image.sum()) % 4 for image in images]]),
        texts=lambda texts: axes[[len(text) % 4 for text in texts]],
    )
    found = suites.run_suites(embed, [evalset], suites.USUAL, draws=10)
    scored = {result.metric.partition("/")[0] for result in found.results}
    assert {"zero_shot", "pair_strict", "subgroups"} <= scored and scored.isdisjoint(suites.OF_REPORTS)


def test_what_is_missing_is_named_in_the_account(root: Path, tmp_path: Path) -> None:
    (root / "images_001" / "images" / fakes.NIH_ROWS[0][0]).unlink()
    (root / "train_val_list.txt").write_text(fakes.NIH_ROWS[0][0] + "\n" + fakes.NIH_ROWS[4][0])
    path = root / "images_001" / "images" / fakes.NIH_ROWS[4][0]
    path.write_bytes(path.read_bytes()[:300])
    manifest = builder.write("chestxray14", tmp_path / "out", source=root, shorter_side=32)
    assert manifest["images"] == {"used": 2, "image_missing": 1, "image_unreadable": 1, "split_missing": 2}


def test_images_that_the_lists_alone_name_are_in_the_account(root: Path) -> None:
    (root / "test_list.txt").write_text("\n".join((*fakes.NIH_TESTED, "00000009_000.png")))
    assert chestxray14.count(root) == {"images": 7, "patients": 5}
    assert Drop("image", "00000009_000.png", "labels_missing") in list(chestxray14.read(root))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("Data_Entry_2017_v2020.csv", None, ("Data_Entry_2017_v2020.csv", "--source")),
        (
            "Data_Entry_2017_v2020.csv",
            lambda text: text.replace("Finding Labels", "Labels"),
            ("column Finding Labels",),
        ),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("Hernia", "Herniation"), ("Herniation", "00000005")),
        (
            "Data_Entry_2017_v2020.csv",
            lambda text: text + text.splitlines()[1].replace("Effusion", "Mass"),
            ("00000001_000.png", "two rows"),
        ),
        ("train_val_list.txt", None, ("no train_val_list.txt",)),
        (
            "test_list.txt",
            lambda text: text + fakes.NIH_ROWS[0][0],
            ("test_list.txt", "00000001_000.png", "named before"),
        ),
        ("test_list.txt", lambda text: text + fakes.NIH_TESTED[1], ("00000003_000.png", "named before")),
        ("BBox_List_2017.csv", lambda text: text.replace(",7.0,", ",x,"), ("BBox_List_2017.csv", "no number")),
        ("BBox_List_2017.csv", lambda text: text.replace("Infiltrate", "Blob"), ("'Blob'",)),
    ],
)
def test_what_spoils_the_release_is_one_clear_line(
    root: Path, tmp_path: Path, name: str, change: Callable[[str], str] | None, words: tuple[str, ...], capsys: Any
) -> None:
    if change:
        (root / name).write_text(change((root / name).read_text()))
    else:
        (root / name).unlink()
    assert call("chestxray14", f"--source={root}", f"--output={tmp_path / 'out'}") == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and all(word in printed for word in ("chestxray14", *words)), printed


def test_no_images_at_all_is_one_line(root: Path, tmp_path: Path, capsys: Any) -> None:
    for folder in root.glob("images_*"):
        folder.rename(tmp_path / folder.name)
    assert call("chestxray14", f"--source={root}", f"--output={tmp_path / 'out'}") == 1
    printed = capsys.readouterr().err
    assert "images_0??/images/*.png" in printed and "unpack them" in printed
