"""How processes join, tell each other what they find, and stop together where they cannot be one run."""

import json
import platform
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import jax
import local
import processes
import pytest

from clinicclip.errors import LOST, UserError
from clinicclip.training import processes as joined

# What two processes have to say to each other, where the second can fail.
NOTES = """
import json, signal, sys
from pathlib import Path
import jax, numpy as np
from clinicclip import host
from clinicclip.errors import UserError
from clinicclip.training import processes
heard = []
processes.join({"settings": '"' * 5000}, heard.extend)
index, folder = jax.process_index(), Path(sys.argv[1])
file = folder / "note"
def faulty():
    if index == 1:
        raise UserError("disk full: é " + "x" * 2000)
def broken():
    if index == 0:
        raise KeyError("secret")
def written():
    if processes.first():
        file.write_text("by 0")
    return file.read_text()
def fault(work):
    try:
        processes.everywhere(work)
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"
def stopped(asked, way):
    "Who came to which place, where one process is asked to stop in what it does."
    reached = []
    def work(*rows):
        reached.append("begun")
        if jax.process_index() == asked:
            signal.raise_signal(signal.SIGTERM)
        reached.append("done")
        return numbers
    try:
        with host.StopRequest(processes.anywhere) as stop:
            way(work) if way is not deferred else deferred(work, stop)
            reached.append("behind")
    except host.Stopped:
        return reached
def embed(work):
    processes.shared(work)(numbers)
def deferred(work, stop):
    with stop.deferred():
        embed(work)
numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
embedded = [processes.shared(lambda rows: rows + index)(numbers[:n]) - numbers[:n] for n in (1, 4, 5)]
words = processes.shared(lambda texts: np.array([[len(text)] for text in texts], np.float32))(["a", "bb", "ccc"])
(folder / f"{index}.json").write_text(json.dumps({
    "heard": [len(note["settings"]) for note in heard],
    "everywhere": processes.everywhere(lambda: {"index": index}),
    "anywhere": [processes.anywhere(index == 1), processes.anywhere(False)],
    "on_first": processes.on_first(lambda: "made"),
    "in_turn": processes.in_turn(written),
    "faults": [fault(faulty), fault(broken)],
    "embedded": [rows[:, 0].tolist() for rows in embedded],
    "words": words[:, 0].tolist(),
    "stopped": [stopped(0, processes.on_first), stopped(1, embed), stopped(1, deferred), stopped(0, processes.in_turn)],
}))
"""

# Two processes that work together until the one whose number is given is killed.
DIES = """
import os, signal, sys
import jax
from clinicclip.training import lost, processes
processes.join(heartbeat=2)
with lost.bound(2):
    for turn in range(9):
        dies = turn and jax.process_index() == int(sys.argv[1])
        processes.everywhere(lambda: os.kill(os.getpid(), signal.SIGKILL) if dies else None)
"""

# A program that only joins.
JOIN = """
import sys
from clinicclip import cli
from clinicclip.training import processes
parser = cli.Parser(program="join", description="", example="")
sys.exit(cli.call(lambda args: processes.join(), parser, []))
"""


def test_a_machine_with_other_code_stops_all_before_anything_is_made(tmp_path: Path) -> None:
    shutil.copytree(processes.ROOT / "clinicclip", tmp_path / "stale" / "clinicclip")
    with (tmp_path / "stale" / "clinicclip" / "train.py").open("a") as file:
        file.write("# an older one\n")

    def placed(port: int, count: int, index: int) -> dict[str, str]:
        return local.place(port, count, index) | ({"PYTHONPATH": str(tmp_path / "stale")} if index else {})

    flags = [f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'data'}"]
    # -P: not the package of the folder this is started in
    words = ["-P", "-m", "clinicclip.train", f"--config={processes.ROOT}/configs/dt_c.py:demo", *flags]
    ended = processes.start(words, tmp_path / "processes", processes=2, devices=1, placed=placed, timeout=60)
    assert [process.code for process in ended] == [1, 1], ended
    assert ended[0].err == ended[1].err
    line, head, *rows = ended[0].err.splitlines()
    assert line == "error: the 2 processes are not ready as one; mend what is listed and start again:"
    assert head.split() == ["what", "found", "process", "(host)"]
    assert [(row.split()[0], row.split()[-2]) for row in rows] == [("clinicclip", "0"), ("clinicclip", "1")]
    assert not (tmp_path / "run").exists() and not (tmp_path / "data").exists()


def test_doctor_finds_two_processes_of_unlike_devices(tmp_path: Path) -> None:
    def placed(port: int, count: int, index: int) -> dict[str, str]:
        devices = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={1 + index}"}
        return local.place(port, count, index) | devices

    words = ["-m", "clinicclip.doctor", "host", tmp_path]
    ended = processes.start(words, tmp_path / "processes", processes=2, devices=1, placed=placed, timeout=60)
    assert [process.code for process in ended] == [1, 1]
    assert "devices       OK  1 cpu" in ended[0].out and not ended[1].out
    for process in ended:
        assert "error: the processes have different devices" in process.err
        assert [" ".join(line.split()[:4]) for line in process.err.splitlines()[-2:]] == [
            "devices 1 cpu 0",
            "devices 2 cpu 1",
        ]


@pytest.mark.parametrize(
    ("placed", "says"),
    [
        (local.place, "error: process 1 of 2 did not come within 2 s"),
        (processes.by_slurm, "error: not all processes came within 2 s"),
    ],
)
def test_a_process_that_does_not_come_is_told_in_time(
    tmp_path: Path, placed: Callable[[int, int, int], dict[str, str]], says: str
) -> None:
    def first_of_two(port: int, count: int, index: int) -> dict[str, str]:
        return placed(port, 2, 0) | {joined.JOIN_SECONDS: "2"}

    (ended,) = processes.start(["-c", JOIN], tmp_path, processes=1, devices=1, placed=first_of_two, timeout=60)
    assert ended.code == 1 and ended.err.startswith(says) and ended.err.count("\n") == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_others_soon_with_a_line_that_names_it(tmp_path: Path, victim: int) -> None:
    ended = processes.start(["-c", DIES, victim], tmp_path, processes=2, devices=1, timeout=20)
    left = ended[1 - victim]
    assert (left.code, ended[victim].code) == (LOST, -signal.SIGKILL)
    (line,) = [line for line in left.err.splitlines() if not line.startswith("[Gloo]")]
    assert line.startswith(f"error: process {victim} of 2 ({platform.node()}) went away: see in its log")


def test_processes_tell_each_other_what_they_found_and_what_failed(tmp_path: Path) -> None:
    ended = processes.start(["-c", NOTES, tmp_path], tmp_path, processes=2, devices=2, placed=processes.by_slurm)
    assert [process.code for process in ended] == [0, 0], [process.err for process in ended]
    found = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert [one.pop("on_first") for one in found] == ["made", None]
    begun, through = ["begun"], ["begun", "done"]
    assert [one.pop("stopped") for one in found] == [
        [begun, through, through, begun],
        [[], begun, through, []],
    ]
    (told, own), (cause, other) = (one.pop("faults") for one in found)
    assert told.startswith("UserError: disk full: \u00e9 xxx") and cause.startswith(told)
    assert own == "KeyError: 'secret'" and other == "UserError: process 0: KeyError"
    assert (
        found[0]
        == found[1]
        == {
            "heard": [5000, 5000],
            "everywhere": [{"index": 0}, {"index": 1}],
            "anywhere": [True, False],
            "in_turn": "by 0",
            "embedded": [[0], [0, 0, 1, 1], [0, 0, 0, 1, 1]],
            "words": [1, 2, 3],
        }
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (("host:1234", "", ""), "JAX_COORDINATOR_ADDRESS set without JAX_NUM_PROCESSES, JAX_PROCESS_ID"),
        (("", "2", "0"), "without JAX_COORDINATOR_ADDRESS"),
        (("host:1234", "2", "2"), "JAX_PROCESS_ID=2"),
        (("host:1234", "two", "0"), "JAX_NUM_PROCESSES=two"),
        (("host", "2", "0"), "expected HOST:PORT"),
    ],
)
def test_variables_that_cannot_join_are_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...], says: str
) -> None:
    for name, value in zip(joined.VARIABLES, variables, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=says):
        joined.join()


def test_a_single_machine_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in joined.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in joined.LAUNCHED:
        monkeypatch.setenv(name, "1")
    joined.join()
    assert not jax.distributed.is_initialized()
