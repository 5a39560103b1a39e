"""Preparing a release when something goes wrong: kills, full disks, other runs and damaged outputs."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from preparing import REPORTS, complaint, everything, pairs

from clinicclip.data import builder, records, shards
from clinicclip.data.manifest import DROPPED, MANIFEST, PARTIAL, read_manifest
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Study

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs(tmp_path_factory.mktemp("release") / "in", 12)


def run(script: str, *args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **options)


# The release


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


# Stopping and going on


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


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in complaint(lambda: builder.open_source(tmp_path / "nowhere", "train"))


def test_records_of_another_format_are_refused_by_name(source: Path, tmp_path: Path) -> None:
    builder.write("folder", tmp_path / "out", source=source, shorter_side=16, limit=4)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest | {"version": "0.9.0"}))
    told = complaint(lambda: builder.open_source(tmp_path / "out", "train"))
    assert f"format 0.9.0, this version reads {records.FORMAT}" in told
