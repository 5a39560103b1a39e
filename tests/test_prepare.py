"""Preparing a release: records, manifest, splits, resuming, and what is told when something is wrong."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clinicclip import account, cli, prepare
from clinicclip.data import builder, images, negation, records, schema, shards
from clinicclip.data.generators import templates
from clinicclip.data.manifest import DROPPED, MANIFEST, PARTIAL, read_manifest
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Study
from clinicclip.errors import UserError

REPORTS = (
    "FINDINGS: The heart is enlarged. There is a small left pleural effusion.\nIMPRESSION: Cardiomegaly.",
    "FINDINGS: The lungs are clear. No pneumothorax or pleural effusion.",
    "IMPRESSION: Left basilar atelectasis.",
)
ROOT = Path(__file__).parents[1]


def pairs(root: Path, count: int, *changes: Mapping[str, Any]) -> Path:
    """A folder release of ``count`` pairs of ``count // 2`` patients; ``changes`` go to the first rows."""
    root.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 255, (40, 48))
        Image.fromarray(noise.astype(np.uint8)).save(root / f"{i}.png")
        rows.append({"image": f"{i}.png", "text": REPORTS[i % 3], "patient": f"p{i // 2}"})
    for number, change in enumerate(changes):
        rows[number] |= change
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs(tmp_path_factory.mktemp("release") / "in", 60)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "out"
    builder.write("folder", output, source=source, shorter_side=32)
    return output


def everything(output: Path) -> dict[str, dict[str, Any]]:
    splits = "+".join(read_manifest(output)["splits"])
    return {record["image_id"]: record for record in builder.open_source(output, splits)}


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"split": "train"}, {"split": "test"}], ("patient p0", "two splits, train and test")),
        ([{"study": "s"}, {"study": "s", "text": REPORTS[0], "patient": "q"}], ("study s", "two patients, p0 and q")),
    ],
)
def test_a_leak_between_splits_stops_everything(
    tmp_path: Path, changes: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    root = pairs(tmp_path / "in", 4, *changes)
    message = complaint(lambda: builder.write("folder", tmp_path / "out", source=root))
    assert all(word in message for word in words), message
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_every_planted_fault_is_counted_under_its_name(tmp_path: Path) -> None:
    blank, silent = {"text": ""}, {"text": "FINDINGS:\nIMPRESSION: ."}
    root = pairs(tmp_path / "in", 12, {}, blank, silent)
    (root / "3.png").unlink()
    (root / "4.png").write_bytes((root / "5.png").read_bytes()[:900])
    Image.fromarray(np.full((30, 30), 9, np.uint8)).save(root / "6.png")
    output = tmp_path / "out"
    manifest = builder.write("folder", output, source=root)
    expected = {
        "report_without_sections": 1,
        "report_without_sentences": 1,
        "image_missing": 1,
        "image_unreadable": 1,
        "image_constant": 1,
    }
    assert manifest["images"] == manifest["reports"] == {"used": 7, **dict(sorted(expected.items()))}
    assert manifest["dropped"] == {reason: 2 for reason in sorted(expected)}
    lines = [json.loads(line) for line in (output / DROPPED).read_text().splitlines()]
    assert {(line["kind"], line["id"], line["reason"]) for line in lines} >= {
        ("image", "1.png", "report_without_sections"),
        ("image", "3.png", "image_missing"),
        ("report", "4.png", "image_unreadable"),
    }
    assert all(set(line) == {"kind", "id", "reason"} for line in lines)  # ids only, never text


def test_a_release_of_which_nothing_is_usable_is_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path / "in", 2, {"text": ""}, {"text": " "})
    message = complaint(lambda: builder.write("folder", tmp_path / "out", source=root))
    assert "nothing to prepare" in message and "report_without_sections" in message
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_limit_takes_the_first_pairs_and_counts_the_rest(source: Path, tmp_path: Path) -> None:
    manifest = builder.write("folder", tmp_path / "out", source=source, limit=7)
    assert manifest["images"] == manifest["reports"] == {"used": 7, "beyond_limit": 53}
    assert set(everything(tmp_path / "out")) == {f"{i}.png" for i in range(7)}


def test_a_dry_run_counts_the_same_and_writes_nothing(source: Path, prepared: Path, tmp_path: Path) -> None:
    told = builder.write("folder", tmp_path / "out", source=source, shorter_side=32, dry_run=True)
    assert not (tmp_path / "out").exists()
    assert told | {"files": read_manifest(prepared)["files"]} == read_manifest(prepared)


# Order, workers, resuming


def test_a_runner_without_beam_names_the_extra(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    flags = ["folder", f"--source={source}", f"--output={tmp_path / 'out'}"]
    for more, code, words in (
        (["--runner=DirectRunner"], 1, "clinicclip[beam]"),
        (["--runner=DirectRunner", "--dry_run"], 2, "leave out --dry_run"),
        (["--runner=DirectRuner"], 2, "did you mean DirectRunner?"),
        (["--beam_options=--region=x"], 2, "belongs to --runner"),
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


def test_a_shard_is_reused_until_its_input_or_settings_change(source: Path, tmp_path: Path) -> None:
    image = tmp_path / "0.png"
    image.write_bytes((source / "0.png").read_bytes())
    study = Study("p", "s", "i", "train", image, "The lungs are clear.", "")
    task = shards.Task(tmp_path, "train", 0, (study,), Recipe())
    first = shards.make(task)
    written = (tmp_path / first.file).stat().st_mtime_ns
    assert shards.make(task) == first and (tmp_path / first.file).stat().st_mtime_ns == written
    others = [
        task._replace(recipe=Recipe(seed=1)),
        task._replace(studies=(Study("p", "s", "i", "train", image, "The lungs are hazy.", ""),)),
    ]
    files = {first.file, *(shards.make(other).file for other in others)}
    image.write_bytes((source / "1.png").read_bytes())
    assert len(files | {shards.make(task).file}) == 4


def test_a_killed_run_continues_from_its_finished_shards(tmp_path: Path) -> None:
    root, output = pairs(tmp_path / "in", 600), tmp_path / "out"
    script = """
import sys
from clinicclip import cli, prepare
from clinicclip.data import shards
shards.RECORDS_PER_SHARD = 8
sys.exit(cli.call(prepare.main, prepare.parser(), sys.argv[1:]))
"""
    args = ["folder", f"--source={root}", f"--output={output}", "--workers=2"]
    with subprocess.Popen([sys.executable, "-c", script, *args], cwd=ROOT) as started:
        while len(list((output / PARTIAL).glob("*.json"))) < 4:
            assert started.poll() is None
            time.sleep(0.005)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(started.pid, signal.SIGKILL)
    finished = {path.stat().st_ino for path in (output / PARTIAL).glob("*.array_record")}
    assert "not finished: run the same" in complaint(lambda: builder.open_source(output, "train"))
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):  # no worker outlives its parent
        assert time.monotonic() < deadline
        time.sleep(0.02)
    done = run(script, *args)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    kept = {path.stat().st_ino for path in output.rglob("*.array_record-*")}
    assert len(finished & kept) >= 4
    assert not (output / PARTIAL).exists()
    assert len(everything(output)) == 600
    read_manifest(output, checksums=True)


def test_a_run_cut_off_while_it_publishes_is_finished_by_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for place in ("tensorflow_datasets.folder_dataset.write_metadata", "clinicclip.data.publish._entry"):
        with monkeypatch.context() as patch:
            patch.setattr(place, no_room)
            assert "run again" in complaint(lambda: builder.write("folder", tmp_path, source=source))
        assert not (tmp_path / MANIFEST).exists()
    builder.write("folder", tmp_path, source=source)
    read_manifest(tmp_path, checksums=True)


def test_two_runs_into_one_folder_do_not_mix(source: Path, tmp_path: Path) -> None:
    with builder._workshop(tmp_path):
        message = complaint(lambda: builder.write("folder", tmp_path, source=source))
    assert "another process" in message


# Faulty outputs


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_is_one_line_and_the_next_run_finishes(tmp_path: Path, workers: int) -> None:
    root, output = pairs(tmp_path / "in", 30), tmp_path / "out"
    script = """
import resource, sys
from clinicclip import cli, prepare
if sys.argv.pop(1) == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(cli.call(prepare.main, prepare.parser(), sys.argv[1:]))
"""
    args = ["folder", f"--source={root}", f"--output={output}", f"--workers={workers}"]
    full = run(script, "full", *args)
    assert full.returncode == 1 and full.stderr.count("\n") == 1, full.stderr
    assert str(output) in full.stderr and "File too large" in full.stderr
    assert not (output / MANIFEST).exists()
    assert run(script, "free", *args).returncode == 0
    assert len(everything(output)) == 30


def test_an_output_that_cannot_be_made_is_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = complaint(lambda: builder.write("folder", tmp_path / "file" / "out", source=source))
    assert "cannot write to" in message


def test_a_folder_with_other_things_in_it_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("keep")
    assert "not empty" in complaint(lambda: builder.write("folder", tmp_path, source=source))
    assert (tmp_path / "folder" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda out: (out / MANIFEST).unlink(), "holds no prepared data"),
        (lambda out: (out / MANIFEST).write_text("{"), "damaged"),
        (lambda out: (out / MANIFEST).write_text("{}"), "damaged"),
        (lambda out: next(out.rglob("*.array_record-*")).unlink(), "missing"),
        (lambda out: os.truncate(next(out.rglob("*.array_record-*")), 100), "was changed"),
        (lambda out: (out / DROPPED).write_text("more"), "was changed"),
    ],
)
def test_a_damaged_folder_is_refused(source: Path, tmp_path: Path, damage: Callable[[Path], Any], words: str) -> None:
    output = tmp_path / "out"
    builder.write("folder", output, source=source, limit=12)
    damage(output)
    assert words in complaint(lambda: builder.open_source(output, "train"))


def test_checksums_find_a_flipped_byte_of_the_same_size(source: Path, tmp_path: Path) -> None:
    builder.write("folder", tmp_path / "out", source=source, limit=6)
    shard = next((tmp_path / "out").rglob("*.array_record-*"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert "was changed" in complaint(lambda: read_manifest(tmp_path / "out", checksums=True))


def test_records_of_another_format_are_refused(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    builder.write("folder", output, source=source, limit=6)
    manifest = json.loads((output / MANIFEST).read_text())
    (output / MANIFEST).write_text(json.dumps(manifest | {"version": "1.0.0"}))
    assert "format 1.0.0" in complaint(lambda: builder.open_source(output, "train"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in complaint(lambda: builder.open_source(tmp_path / "nowhere", "train"))


# The program


def call(*argv: object) -> int:
    return cli.call(prepare.main, prepare.parser(), [str(word) for word in argv])


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


def test_records_of_another_format_are_refused_by_name(source: Path, tmp_path: Path) -> None:
    builder.write("folder", tmp_path / "out", source=source, shorter_side=16, limit=4)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest | {"version": "0.9.0"}))
    told = complaint(lambda: builder.open_source(tmp_path / "out", "train"))
    assert f"format 0.9.0, this version reads {records.FORMAT}" in told


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
