"""Files are whole or not there, and a full disk is told in one line."""

import errno
import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clinicclip import files, scoring
from clinicclip.data.releases import cxr_align, tables
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError

# A limit on the size of files stands for the full disk; Python ignores its signal, so writing raises.
FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from clinicclip import cli, files

def main(args):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    files.write_tensors(Path(sys.argv.pop()), {"a": np.zeros(100_000, np.float32)})

sys.exit(cli.call(main, cli.Parser(program="example", description="d", example="e"), []))
"""


@pytest.mark.parametrize("content", ["größer\r\nline\n", b"\x00\xff", ""])
def test_a_file_holds_what_was_written_and_nothing_else_stays(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.json"
    path.write_text("old and longer than the new content")
    files.write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_leaves_the_old_content_and_names_the_file(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_whole(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_an_interrupt_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_tensors_come_back_and_are_as_readable_as_other_files(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.safetensors", tmp_path / "plain"
    plain.touch()
    view = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    files.write_tensors(path, {"view": view, "scalar": np.array(2.5, np.float32)})
    found = load_file(path)
    assert found["view"].tolist() == view.tolist() and found["scalar"].shape == () and found["scalar"] == 2.5
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_full_disk_under_tensors_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: storage: File too large at ") and done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("read", [Tokenizer.load, cxr_align.count, lambda folder: tables.words(folder / "a.json", "r")])
def test_what_is_read_at_once_is_bounded_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    for name in ("vocab.txt", "a.json"):
        (tmp_path / name).write_text(" " * 101)
    monkeypatch.setattr(files, "MOST_JSON", 100)
    with pytest.raises(UserError, match=r"is damaged \(more than 100 bytes\)"):
        read(tmp_path)


def test_a_line_of_a_table_is_bounded_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_LINE", 100)
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(f"a,b\n{'1' * 60},2\n{'1' * 60},{'2' * 60}\n")
    rows = tables.rows(tmp_path / "a.csv.gz", ["a"], "r")
    assert next(rows)["b"] == "2"
    with pytest.raises(UserError, match="a line without end"):
        next(rows)


def test_a_file_that_claims_more_than_it_holds_is_no_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write_tensors(path, {"a": np.zeros(3, np.float32)})
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ValueError, match=f"says that {2**62} bytes describe"):
        files.map_tensors(path)


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"dtype": "F32", "shape": [3], "data_offsets": [-12, 0]}}',
        '{"a": {"dtype": "F32", "shape": [-3, -1], "data_offsets": [0, 12]}}',
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}}',
        '{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        "[" * 100_000,
    ],
)
def test_a_header_that_its_file_cannot_bear_out_is_no_whole_one(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(12))
    with pytest.raises(ValueError):
        files.map_tensors(path)


def test_what_is_asked_of_a_place_stands_after_the_last_at_sign_unless_the_path_has_it(tmp_path: Path) -> None:
    run = tmp_path / "me@home"
    run.mkdir()
    assert files.at(str(run)) == (str(run), "")
    assert files.at(f"{run}@30") == (str(run), "30")
    assert files.at("run") == ("run", "")
    named = scoring.places(f"mine:{run}@test,theirs:{run}")
    assert named == {"mine": scoring.Where(run, "test"), "theirs": scoring.Where(run)}
