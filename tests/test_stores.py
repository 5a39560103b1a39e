"""Prepared data in a store are copied once, whole, and to nowhere else; what is wrong with them is one line."""

import contextlib
import errno
import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest

from clinicclip import config as config_files
from clinicclip import preflight
from clinicclip.data import stores
from clinicclip.errors import UserError

PLACE = "memory://bucket/set"
ODD, NEGATIVE = b'{"files": {"a": {"bytes": -1, "sha256": "0"}}}', b'{"files": {"a": {"bytes": "1", "sha256": "0"}}}'
CONTENT = {"set/1.2.0/a.array_record": b"a" * 100, "set/1.2.0/features.json": b"{}", "dropped.jsonl": b""}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., fsspec.AbstractFileSystem]:
    """Fills the store with the prepared folder that the manifest describes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fill(**changed: bytes | dict) -> fsspec.AbstractFileSystem:
        system = fsspec.filesystem("memory")
        system.store.clear()
        entries = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in CONTENT.items()}
        manifest = changed.get("manifest", json.dumps({"files": entries | changed.get("entries", {})}).encode())
        for name, content in {**CONTENT, "manifest.json": manifest}.items():
            system.pipe_file(f"/bucket/set/{name}", content)
        return system

    return fill


def test_a_folder_is_itself() -> None:
    assert stores.local("data/set") == Path("data/set")


def test_a_place_is_copied_once_and_again_when_it_changed(store: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    store()
    copy = stores.local(PLACE)
    assert {name: (copy / name).read_bytes() for name in CONTENT} == CONTENT
    with monkeypatch.context() as patch:
        patch.setattr(stores, "_copy_file", None)
        assert stores.local(f"{PLACE}/") == copy
    store(entries={"more": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}}).pipe_file("/bucket/set/more", b"")
    assert stores.local(PLACE) != copy


def test_a_copy_that_was_cut_off_goes_on_and_is_never_taken_for_whole(store: Callable) -> None:
    system = store()
    system.rm("/bucket/set/dropped.jsonl")
    with pytest.raises(UserError, match=f"{PLACE}/dropped.jsonl: not found"):
        stores.local(PLACE)
    system.pipe_file("/bucket/set/dropped.jsonl", b"")
    system.rm("/bucket/set/set/1.2.0/a.array_record")  # is here already
    assert (stores.local(PLACE) / "set/1.2.0/a.array_record").read_bytes() == b"a" * 100


@pytest.mark.parametrize("endless", [False, True])
def test_a_file_that_is_not_what_the_manifest_says_does_not_stay(
    store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endless: bool
) -> None:
    store().pipe_file("/bucket/set/set/1.2.0/a.array_record", b"b" * 100)
    if endless:
        monkeypatch.setattr(stores, "_chunks", lambda *place: itertools.repeat(b"a" * 50))
    with pytest.raises(UserError, match=r"a.array_record is not what its manifest says"):
        stores.local(PLACE)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(("a.array_record", "manifest"))]


def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(
    store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store()
    monkeypatch.setattr("shutil.disk_usage", lambda place: Mock(free=101))
    with pytest.raises(UserError, match=r"0\.0 GiB are to be copied"):
        stores.local(PLACE)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"lock"}


def test_a_copy_goes_without_a_lock_where_none_can_be_had(store: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    store()
    monkeypatch.setattr("fcntl.flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    assert (stores.local(PLACE) / "manifest.json").is_file()


@pytest.mark.parametrize("agree", [False, True])
def test_a_run_copies_when_all_have_come_and_agree(
    store: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agree: bool
) -> None:
    store()
    config = config_files.load("configs/dt_c.py:demo", [("data.dir", PLACE)])
    require = Mock(side_effect=None if agree else UserError("the 2 processes are not ready as one"))
    monkeypatch.setattr(preflight, "require", require)
    with contextlib.nullcontext() if agree else pytest.raises(UserError, match="not ready"):
        preflight.start(config, tmp_path / "run")
    assert require.call_args.args[0][0]["same"]["data"] == stores.digest(PLACE) != ""
    assert list(tmp_path.rglob("manifest.json")) == ([Path(config.data.dir, "manifest.json")] if agree else [])


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", "set/../../out"])
def test_no_file_leaves_the_folder_of_the_copy(store: Callable, tmp_path: Path, name: str) -> None:
    store(entries={name: {"bytes": 1, "sha256": "0"}})
    with pytest.raises(UserError, match="which is outside of it: nothing was copied"):
        stores.local(PLACE)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"lock"}


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"files": {"a": 1}}', b'{"files": {"a": {}}}', ODD, NEGATIVE]
)
def test_a_damaged_manifest_is_told(store: Callable, manifest: bytes) -> None:
    store(manifest=manifest)
    with pytest.raises(UserError, match=f"{PLACE}/manifest.json is damaged"):
        stores.local(PLACE)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("memory://bucket/other", "holds manifest.json"),
        ("nothing://bucket/set", "cannot be read (ValueError: Protocol not known: nothing"),
        ("gs://bucket/set", "not installed: pip install 'clinicclip[gs]'"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line(
    store: Callable, monkeypatch: pytest.MonkeyPatch, place: str, says: str
) -> None:
    store()
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    with pytest.raises(UserError) as told:
        stores.local(place)
    assert says in str(told.value) and str(told.value).startswith(place)
