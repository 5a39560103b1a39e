"""The launchers: what they would run, and, of the local one, how real processes live and end together."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import local
import pytest

from clinicclip import cli
from clinicclip.training import processes

LOCAL = Path(local.__file__)
# Each process appends its place to FILE.INDEX; what it does then is said by its index or the number of lines there.
NOTED = f"VARIABLES = {processes.VARIABLES}"
NOTED += """
import os, signal, sys, time
index = int(os.environ.get("JAX_PROCESS_ID", 0))
with open(f"{sys.argv[1]}.{index}", "a") as file:
    file.write(" ".join(os.environ.get(name, "-") for name in VARIABLES) + chr(10))
attempt = sum(1 for _ in open(f"{sys.argv[1]}.{index}"))
"""


def launch(tmp_path: Path, does: str, *flags: str, count: int = 2) -> subprocess.Popen:
    command = [sys.executable, "-c", NOTED + does, str(tmp_path / "seen")]
    return subprocess.Popen([sys.executable, LOCAL, f"--processes={count}", *flags, "--", *command])


def seen(tmp_path: Path, index: int) -> list[list[str]]:
    """Where a process found itself, start by start."""
    path = tmp_path / f"seen.{index}"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_each_process_knows_its_place_and_all_end_with_0(tmp_path: Path) -> None:
    assert launch(tmp_path, "", count=3).wait(60) == 0
    places = [seen(tmp_path, index)[0] for index in range(3)]
    assert [place[1:] for place in places] == [["3", "0"], ["3", "1"], ["3", "2"]]
    assert len({place[0] for place in places}) == 1 and places[0][0].startswith("127.0.0.1:")


def test_a_process_alone_is_told_nothing(tmp_path: Path) -> None:
    assert launch(tmp_path, "", count=1).wait(60) == 0
    assert seen(tmp_path, 0) == [["-", "-", "-"]]


def test_what_can_go_on_is_started_again_until_it_is_done(tmp_path: Path) -> None:
    assert local.AGAIN == cli.PREEMPTED
    killed = "index and attempt == 2 and os.kill(os.getpid(), 9)"  # the others notice, and end with 76
    assert launch(tmp_path, f"{killed}; sys.exit([75, 76, 0][attempt - 1])").wait(60) == 0
    assert [len(seen(tmp_path, index)) for index in range(2)] == [3, 3]


@pytest.mark.parametrize("code", [local.AGAIN, local.LOST])
def test_75_and_76_without_end_are_given_up(tmp_path: Path, code: int) -> None:
    assert launch(tmp_path, f"sys.exit({code})", "--max_restarts=1").wait(60) == code
    assert len(seen(tmp_path, 0)) == 2


@pytest.mark.parametrize(("dies", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 128 + 9)])
def test_one_that_dies_ends_the_others_and_is_not_started_again(tmp_path: Path, dies: str, code: int) -> None:
    began = time.monotonic()
    assert launch(tmp_path, f"{dies} if index else time.sleep(600)", "--grace=0.3").wait(60) == code
    assert time.monotonic() - began < 30
    assert len(seen(tmp_path, 0)) == 1


STOPPABLE = "signal.signal(15, lambda *heard: sys.exit(75)); open(f'{sys.argv[1]}.{index}.on', 'w'); time.sleep(600)"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_being_asked_to_stop_is_passed_on_and_nothing_is_started_again(tmp_path: Path, stop: signal.Signals) -> None:
    launched = launch(tmp_path, STOPPABLE)
    while not all((tmp_path / f"seen.{index}.on").exists() for index in range(2)):
        time.sleep(0.05)
    launched.send_signal(stop)
    assert launched.wait(30) == 75
    assert [len(seen(tmp_path, index)) for index in range(2)] == [1, 1]


def test_a_second_signal_ends_those_that_do_not_listen(tmp_path: Path) -> None:
    launched = launch(tmp_path, STOPPABLE.replace("sys.exit(75)", "None"))
    while not all((tmp_path / f"seen.{index}.on").exists() for index in range(2)):
        time.sleep(0.05)
    for _ in range(2):
        launched.terminate()
        time.sleep(0.2)
    assert launched.wait(30) == 128 + 9


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([75, 75], 75),
        ([75, 0], 75),
        ([75, 1], 1),
        ([-9, 75, 134], 137),
        ([0, 1], 1),
        ([-9, 76, 75], 76),
        ([76, -9], 76),
        ([1, 76], 1),
        ([-11, 76], 128 + 11),
    ],
)
def test_the_first_failure_counts_and_75_and_76_only_without_one(codes: list[int], code: int) -> None:
    assert local.overall(codes) == code


def test_a_dry_run_prints_a_line_for_each_process_and_runs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["touch", str(tmp_path / "a file")]
    assert local.main(["--processes=2", "--dry_run", "--", *command]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 3)[2:] for line in lines] == [
        ["JAX_NUM_PROCESSES=2", f"JAX_PROCESS_ID={index} touch '{tmp_path}/a file'"] for index in range(2)
    ]
    assert not (tmp_path / "a file").exists()
    for line in lines:  # a shell could run it
        assert subprocess.run(["bash", "-c", line], check=False).returncode == 0
    assert (tmp_path / "a file").exists()
