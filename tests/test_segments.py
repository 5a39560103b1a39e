"""Records of steps in segments: no gap, no double wherever a run is killed, nor where nothing can be appended to."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from clinicclip.errors import UserError
from clinicclip.training import segments
from clinicclip.training.metrics import MetricWriter
from clinicclip.training.segments import Segments

STEPS, EVERY = 9, 3  # of a run, and between its checkpoints


class Killed(BaseException):
    """The process is gone."""


class Store(MemoryFileSystem):
    """A stand-in for S3: files are put whole; nothing can be appended to."""

    protocol, store, pseudo_dirs = ("s3",), {}, [""]

    def _open(self, path: str, mode: str = "rb", **options: object) -> object:
        assert mode in ("rb", "wb")
        return super()._open(path, mode, **options)


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> epath.Path:
    """Where the first segment lies; segments are short."""
    monkeypatch.setattr(segments, "LONGEST", 2)
    monkeypatch.setitem(_registry, "s3", Store)
    Store.store.clear()
    return epath.Path(tmp_path if request.param == "folder" else "s3://bucket/run") / "metrics.jsonl"


def run(place: epath.Path, saved: list[int]) -> None:
    """What a run that goes on at its newest checkpoint writes; every third step has two records, then a checkpoint."""
    writer = Segments(place, saved[-1])
    for step in range(saved[-1] + 1, STEPS + 1):
        for part in range(2 if step % EVERY == 0 else 1):
            writer.add({"step": step, "part": part})
        if step % EVERY == 0:
            saved.append(step)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_segment_that_is_missing_before_another_is_told(place: epath.Path, lost: int) -> None:
    run(place, [0])
    (place.parent / "metrics.kept.jsonl").write_text("no segment\n")
    assert len(segments.read(place)) == 12
    gone = place.parent / (f"metrics.{lost}.jsonl" if lost else place.name)
    gone.unlink()
    for reads in (segments.read, Segments):
        with pytest.raises(UserError, match=f"{gone} is missing: restore it"):
            reads(place)


@pytest.mark.parametrize("second", [0, 1, 2, 5])
def test_killed_at_any_moment_records_are_there_once(
    place: epath.Path, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [99]

    def mortal(work: Callable[..., None]) -> Callable[..., None]:
        def worked(*parts: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            work(*parts)

        return worked

    run(place, [0])
    expected = segments.read(place)
    assert [r["step"] for r in expected] == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]
    monkeypatch.setattr(segments, "_write", mortal(segments._write))
    monkeypatch.setattr(type(place), "unlink", mortal(type(place).unlink))
    for first in range(12):
        saved = [0]
        for left[0] in (first, second):
            with pytest.raises(Killed):
                run(place, saved)
            there = segments.read(place)
            assert there == expected[: len(there)]
        left[0] = 99
        run(place, saved)
        assert segments.read(place) == expected


def test_a_folder_that_went_away_is_told_in_one_line(tmp_path: Path) -> None:
    writer = MetricWriter(tmp_path / "run", 0)
    shutil.rmtree(tmp_path / "run")
    for write, file in ((lambda: writer.write(1, {}, {}), "metrics.jsonl"), (lambda: writer.fault({}), "fault.json")):
        with pytest.raises(UserError, match=f"{file} cannot be written .No such file or directory"):
            write()


def test_events_that_cannot_be_written_leave_no_thread_and_wait_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = MetricWriter(tmp_path, 0)
    monkeypatch.setattr(writer._board.file_writer.event_writer, "flush", full)
    with pytest.raises(UserError, match=r"cannot be written .No space left"):
        writer.close()
    assert not writer._thread.is_alive()
    writer._events.close()  # as at the end of the process: nothing is tried again
    with pytest.raises(UserError, match=r"tensorboard cannot be written .Input/output"):
        writer.write(1, {str(number): 0.0 for number in range(99)}, {})


def test_what_is_no_record_is_told_and_the_rest_of_a_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert segments.read(path) == []
    path.write_text('{"step": 1}\n{"st')
    assert segments.read(path) == [{"step": 1}]
    Segments(path, 1).add({"step": 2})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    for line in ("<!DOCTYPE html>", "[1]", '{"step": "1"}', "{}", "1", "[" * 9999):
        path.write_text(f'{{"step": 1}}\n{line}\n')
        with pytest.raises(UserError, match=r"metrics.jsonl line 2 is no record of a step; move the file away"):
            Segments(path, 1)
