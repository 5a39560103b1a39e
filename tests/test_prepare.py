"""Preparing a release: records, manifest, splits, and what the program tells."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preparing import call, complaint, everything, pairs

from clinicclip import account, cli, prepare
from clinicclip.data import builder, images, negation, records, schema, shards
from clinicclip.data.generators import templates
from clinicclip.data.manifest import MANIFEST, read_manifest
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Study

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs(tmp_path_factory.mktemp("release") / "in", 60)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "out"
    builder.write("folder", output, source=source, shorter_side=32)
    return output


def run(script: str, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **options)


# What is stored


def test_a_record_holds_the_pair_and_its_language(prepared: Path) -> None:
    record = everything(prepared)["0.png"]
    assert set(record) == {"image", *records.TEXT, *records.TEXTS, *records.NUMBER, *records.NUMBERS, *records.TENSORS}
    assert (record["height"], record["width"], record["patient"], record["study"]) == (40, 48, "p0", "0.png")
    assert images.decode(record["image"]).shape == (32, 38)
    assert record["findings"].startswith("The heart") and record["impression"] == "Cardiomegaly."
    stated = {
        (finding, polarity)
        for finding, polarity in zip(record["sentence_finding"], record["sentence_polarity"], strict=True)
    }
    assert (schema.INDEX["cardiomegaly"], schema.PRESENT) in stated
    assert len(record["sentences"]) == len(record["sentence_finding"]) == len(record["sentence_laterality"])
    assert record["sentence_severity"].shape == record["sentence_laterality"].shape
    assert record["labels"].dtype == np.int8 and record["labels"][schema.CHEXPERT.index("pleural_effusion")] == 1
    assert record["normal"] == 0 and record["boxes"].shape == (0, 4) and record["gold_names"] == []


def test_altered_reports_are_the_training_generators_by_seed_and_image(prepared: Path) -> None:
    for record in everything(prepared).values():
        columns = ("sentences", "sentence_finding", "sentence_polarity", "sentence_laterality")
        sentences = [
            schema.Sentence(text, int(finding), int(polarity), int(side))
            for text, finding, polarity, side in zip(*(record[name] for name in columns), strict=True)
        ]
        expected = negation.alter(sentences, seed=0, key=record["image_id"], generator=templates.TRAIN)
        stored = tuple(record[name] for name in ("negated", "omitted", "altered", "not_negated"))
        assert stored == expected
        assert record["negated_by"] == ("train" if expected.finding >= 0 else "")


def test_the_releases_own_labels_beat_the_text() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20)).astype(np.uint8)
    study = Study("p", "s", "i", "train", noise, "The lungs are clear.", "", labels={"edema": 1, "pneumonia": -1})
    record = records.make(study, Recipe())
    assert isinstance(record, dict)
    assert record["labels"][schema.CHEXPERT.index("edema")] == 1
    assert record["labels"][schema.CHEXPERT.index("pneumonia")] == -1
    assert record["labels"][schema.CHEXPERT.index("fracture")] == schema.UNKNOWN
    assert record["normal"] == 0


def test_phantom_truth_is_stored_with_graph_boxes_and_gold(tmp_path: Path) -> None:
    options = {"level": "easy", "studies": 24, "size": 64}
    manifest = builder.write("phantom", tmp_path / "out", options=options)
    assert manifest["reports"] == manifest["images"] == {"used": 24}
    stored = list(everything(tmp_path / "out").values())
    assert all(record["gold_names"] and record["gold_source"] == "phantom" for record in stored)
    assert all(len(record["graph_spans"]) == len(record["graph_types"]) > 0 for record in stored)
    assert any(len(record["boxes"]) == len(record["box_names"]) > 0 for record in stored)


def test_preparing_imports_neither_tensorflow_nor_jax(source: Path, tmp_path: Path) -> None:
    script = """
import sys
from clinicclip import cli, prepare
code = cli.call(prepare.main, prepare.parser(), sys.argv[1:])
assert not {"tensorflow", "jax"} & set(sys.modules)
sys.exit(code)
"""
    done = run(script, "folder", f"--source={source}", f"--output={tmp_path / 'out'}", "--limit=4")
    assert done.returncode == 0, done.stderr


# The source


def test_a_source_joins_splits_and_survives_pickling(prepared: Path) -> None:
    counts = {split: n["records"] for split, n in read_manifest(prepared)["splits"].items()}
    both = pickle.loads(pickle.dumps(builder.open_source(prepared, "train + validation")))
    train = builder.open_source(prepared, "train")
    assert (len(train), len(both)) == (counts["train"], counts["train"] + counts["validation"])
    assert both[len(train) - 1]["image_id"] == train[len(train) - 1]["image_id"]
    assert both[len(train)]["image_id"] == builder.open_source(prepared, "validation")[0]["image_id"]
    assert len(builder.open_source(prepared, "train[:5]")) == 5
    with pytest.raises(IndexError):
        both[len(both)]


def test_an_unknown_split_is_named_beside_those_there_are(prepared: Path) -> None:
    message = complaint(lambda: builder.open_source(prepared, "trian"))
    assert "'trian'" in message and "train" in message and "validation" in message


# Splits and the account


def test_no_patient_is_in_two_splits(prepared: Path) -> None:
    manifest = read_manifest(prepared)
    patients = {
        split: {record["patient"] for record in builder.open_source(prepared, split)} for split in manifest["splits"]
    }
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 30
    assert {split: len(ids) for split, ids in patients.items()} == {
        split: n["patients"] for split, n in manifest["splits"].items()
    }


def test_a_limit_takes_the_first_pairs_and_counts_the_rest(source: Path, tmp_path: Path) -> None:
    manifest = builder.write("folder", tmp_path / "out", source=source, limit=7)
    assert manifest["images"] == manifest["reports"] == {"used": 7, "beyond_limit": 53}
    assert set(everything(tmp_path / "out")) == {f"{i}.png" for i in range(7)}


def test_a_dry_run_counts_the_same_and_writes_nothing(source: Path, prepared: Path, tmp_path: Path) -> None:
    told = builder.write("folder", tmp_path / "out", source=source, shorter_side=32, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert not told.pop("examples")  # nothing is dropped
    assert told | {"files": read_manifest(prepared)["files"]} == read_manifest(prepared)


# Order and workers


def test_a_runner_without_beam_names_the_extra(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    flags = ["folder", f"--source={source}", f"--output={tmp_path / 'out'}"]
    for more, code, words in (
        (["--runner=DirectRunner"], 1, "clinicclip[beam]"),
        (["--runner=DirectRunner", "--dry_run"], 2, "leave out --dry_run"),
        (["--runner=DirectRuner"], 2, "did you mean DirectRunner?"),
        (
            ["--beam_options=--region=x --temp_location=gs://b/t"],
            2,
            "belongs to --runner",
        ),  # Beam's own may be a bucket
        (["--runner=SparkRunner", "--beam_options='x"], 2, "--beam_options"),
    ):
        assert cli.call(prepare.main, prepare.parser(), [*flags, *more]) == code
        told = capsys.readouterr().err
        assert words in told and told.count("\n") == 1, told


def test_records_do_not_depend_on_the_number_of_workers(
    source: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.write("folder", tmp_path / "two", source=source, shorter_side=32, workers=2)
    assert read_manifest(tmp_path / "two") == read_manifest(prepared)  # names, sha256 and all
    monkeypatch.setattr(shards, "RECORDS_PER_SHARD", 7)
    builder.write("folder", tmp_path / "small", source=source, shorter_side=32)
    assert len(read_manifest(tmp_path / "small")["files"]) > len(read_manifest(prepared)["files"])
    one, other = everything(prepared), everything(tmp_path / "small")
    assert list(one) == list(other)
    for image_id, record in one.items():
        np.testing.assert_equal(other[image_id], record)


def test_the_seed_decides_the_altered_reports(source: Path, prepared: Path, tmp_path: Path) -> None:
    builder.write("folder", tmp_path / "out", source=source, shorter_side=32, seed=1)
    one, other = everything(prepared), everything(tmp_path / "out")
    assert any(one[image_id]["negated"] != other[image_id]["negated"] for image_id in one)
    assert all(one[image_id]["sentences"] == other[image_id]["sentences"] for image_id in one)


def test_a_finished_folder_is_left_alone(source: Path, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    manifest = builder.write("folder", prepared, source=source, shorter_side=32)
    assert "complete already" in capsys.readouterr().out
    assert manifest == read_manifest(prepared)
    assert before == {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}


def test_a_finished_folder_of_other_settings_is_refused(source: Path, prepared: Path) -> None:
    message = complaint(lambda: builder.write("folder", prepared, source=source, shorter_side=48, seed=4))
    assert "shorter_side=32" in message and "seed=0" in message


# The program


def test_the_program_prints_the_account(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("folder", f"--source={source}", f"--output={tmp_path / 'out'}", "--limit=10", "--shorter_side=32")
    assert call(*args, "--dry_run") == 0
    assert "would hold" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert call(*args) == 0
    printed = capsys.readouterr().out
    assert "60 images found: 10 used" in printed and "50 not read (--limit)" in printed
    assert "10 records: 7 with a negated report (generator train)\n           3 without: normal" in printed
    assert call(*args) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("folder", "--output=out"), 2, "folder needs --source"),
        (("phantom", "--source=x", "--output=out"), 2, "phantom takes no --source"),
        (("openi", "--source=x", "--output=out", "--studies=3"), 2, "--studies is not a setting of openi"),
        (("openi", "--source=nowhere", "--output=out"), 1, "no folder nowhere"),
        (("openi", "--sorce=x", "--output=out"), 2, "did you mean --source?"),
        (("openi", "--source=x"), 2, "--output"),
        (("mimic", "--source=x", "--output=out"), 2, "mimic"),
        (("phantom", "--output=out", "--level=simple"), 1, "simple"),
        (("phantom", "--output=out", "--workers=-1"), 2, "0 to 256"),
        (("phantom", "--output=out", "--shorter_side=2"), 2, "16 or more"),
    ],
)
def test_the_program_tells_faults_in_one_line(
    argv: tuple[str, ...], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*argv) == code
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1
    assert not (tmp_path / "out" / MANIFEST).exists()


# Graphs


def test_reports_without_a_graph_get_one_by_rules_and_the_account_says_so(source: Path, prepared: Path) -> None:
    stored = everything(prepared)
    assert {record["graph_by"] for record in stored.values()} == {"rules"}
    assert all(records.stored_graph(record).spans for record in stored.values())
    counts = read_manifest(prepared)["language"]
    assert counts["records_with_graph_by_rules"] == 60 and counts["graphs_over_budget"] == 0
    assert counts["graph_nodes"] == sum(len(record["graph_spans"]) for record in stored.values())
    assert counts["graph_edges"] == sum(len(record["graph_edges"]) for record in stored.values())
    assert "60 report graphs (60 by rules)" in account.told(read_manifest(prepared))
