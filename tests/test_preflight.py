"""What a run looks at before it starts: machines that differ, or cannot do their part, are told in one table."""

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip import cli, doctor, preflight
from clinicclip import config as config_files
from clinicclip.errors import UserError


def note(host: str = "a", clock: float = 0.0, faults: dict[str, str] | None = None, **same: str) -> dict[str, Any]:
    equal = {"clinicclip": "1", "jax": "0.10", "config": "abc", "data": "def"}
    return {"host": host, "clock": clock, "faults": faults or {}, "same": equal | same}


def test_machines_that_agree_are_let_through() -> None:
    preflight.require([note()])
    preflight.require([note("a"), note("b", clock=preflight.CLOCKS), note("a")])


@pytest.mark.parametrize("what", ["clinicclip", "jax", "config", "data"])
def test_what_differs_is_told_with_who_has_which(what: str) -> None:
    notes = [note("a"), note("b"), note("c", **{what: "other"}), note("a")]
    common = notes[0]["same"][what]
    assert preflight.problems(notes) == [[what, common, "0-1, 3 (a, b)"], [what, "other", "2 (c)"]]
    with pytest.raises(UserError, match="the 4 processes are not ready as one") as told:
        preflight.require(notes)
    assert [line.split()[0] for line in told.value.table] == ["what", what, what]


def test_a_clock_that_is_off_is_told() -> None:
    notes = [note("a", clock=1000.0), note("b", clock=1000.2), note("c", clock=1090.0)]
    assert preflight.problems(notes) == [["clock", "+90 s from the others'", "2 (c)"]]


def test_a_fault_of_one_machine_is_told_to_all() -> None:
    notes = [note("a"), note("b", faults={"disk": "3 MiB free"})]
    assert preflight.problems(notes) == [["disk", "3 MiB free", "1 (b)"]]


def test_other_devices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "devices_of_all", lambda: ["4 TPU v4", "4 TPU v4", "1 cpu"])
    with pytest.raises(UserError, match="different devices") as told:
        preflight.require_same_devices(["a", "b", "c"])
    assert told.value.table[-1].split() == ["devices", "1", "cpu", "2", "(c)"]


def test_many_hosts_are_named_in_a_row_that_stays_readable() -> None:
    notes = [note(f"h{index:03}", jax="old" if index % 2 else "new") for index in range(64)]
    rows = preflight.problems(notes)
    assert len(rows) == 2 and "and 24 more" in rows[0][2]


def test_this_machine_is_looked_at_in_less_than_a_second(tmp_path: Path) -> None:
    config = config_files.load("configs/dt_c.py:demo", [("data.dir", str(tmp_path))])
    began = time.process_time()
    preflight.start(config, tmp_path / "runs" / "one")
    assert time.process_time() - began < 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("free", [400, 399])
def test_a_disk_must_have_room_for_the_checkpoints_of_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: Mock(free=free))
    state = {"step": np.zeros(10, np.float32), "params": {"a": jnp.zeros((8, 5))}}
    with contextlib.nullcontext() if free == 400 else pytest.raises(UserError, match="2 checkpoints take"):
        preflight.require_room(tmp_path, state)


def test_the_configuration_counts_but_for_what_is_a_machines_own(tmp_path: Path) -> None:
    def noted(host: str, **changes: object) -> dict[str, Any]:
        pairs = [(key.replace("__", "."), str(value)) for key, value in changes.items()]
        return note(host, **preflight.settings(config_files.load("configs/dt_c.py:demo", pairs)))

    notes = [noted("a"), noted("b", data__dir="/elsewhere", data__workers=7)]
    preflight.require(notes)
    assert preflight.problems([*notes, noted("c", seed=1)]) == [
        ["config seed", "0", "0-1 (a, b)"],
        ["config seed", "1", "2 (c)"],
    ]


def test_a_changed_file_of_the_package_changes_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__init__.py", "a.py", "readme.txt"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(preflight.clinicclip, "__file__", str(tmp_path / "__init__.py"))
    before = preflight.code_digest()
    (tmp_path / "readme.txt").write_text("y")
    assert preflight.code_digest() == before
    (tmp_path / "a.py").write_text("y")
    assert preflight.code_digest() != before


def test_a_disk_that_is_nearly_full_and_a_folder_that_cannot_be_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert preflight.note(tmp_path)["faults"] == {}
    monkeypatch.setattr(preflight, "LEAST_FREE", 2**60)
    faults = preflight.note(tmp_path / "file" / "runs")["faults"]
    assert "cannot be written (Not a directory)" in faults["run folder"] and "are needed" in faults["disk"]


def test_doctor_tells_of_this_machine_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(doctor.main, doctor.parser(), ["host", str(tmp_path)]) == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert all(re.search(r"  OK  ", line) for line in rows.values())
    assert f"jax {jax.__version__}" in rows["packages"] and "8 cpu" in rows["devices"]
    assert str(tmp_path) in rows["run folder"]


def test_doctor_tells_a_problem_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.call(doctor.main, doctor.parser(), ["host", str(tmp_path / "file")]) == 1
    assert re.search(r"run folder +PROBLEM +.*cannot be written", capsys.readouterr().out)


def test_an_accelerator_that_jax_does_not_see_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).write_text("")
    found = preflight.accelerators(tmp_path)
    assert [os.path.basename(path) for path in found] == ["nvidia0", "nvidia1"]
    monkeypatch.setattr(preflight, "accelerators", lambda: found)
    (row,) = [row for row in preflight.facts(preflight.note(tmp_path)) if row[1] == preflight.PROBLEM]
    assert row[0] == "devices" and "pip install" in row[2]
