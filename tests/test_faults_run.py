"""Faults are told in one line: a sample of what `bench/faults_run.py` plants, and how it judges."""

import json
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import run_fault_cases
from run_faults import Fault, judged

BENCH = Path(__file__).parents[1] / "bench" / "faults_run.py"
LINE = "error: weather: expected rain\n"


def test_a_sample_of_planted_faults_stops_with_a_line_that_names_each() -> None:
    line = [sys.executable, BENCH, "--quick", "--seed=3", "--only=inputs,hosts,data,commands,settings"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=300)
    *table, last = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(last)
    assert result["name"] == "faults_run" and result["value"] == result["goal"] == 1.0
    row = next(line for line in table if line.startswith("all"))
    assert row.split()[1] == str(result["detail"]["planted"]) == "24"


@pytest.mark.parametrize(
    ("code", "err", "goes_on", "how"),
    [
        (1, LINE, False, "stopped"),
        (2, LINE, False, "stopped"),
        (1, "error: rain\n", False, "unnamed"),
        (0, "", False, "silent"),
        (1, "weather\n", False, "silent"),
        (0, "weather\n", True, "went on"),
        (0, "rain\n", True, "silent"),
        (1, LINE + LINE, False, "traceback"),
        (1, f"Traceback (most recent call last):\n{LINE}", False, "traceback"),
        (1, f"F1201 client.h] Terminating\n{LINE}", False, "traceback"),
        (-6, LINE, False, "traceback"),
        (70, LINE, False, "traceback"),
        (None, LINE, False, "late"),
    ],
)
def test_the_judge_takes_nothing_but_one_line_that_names_the_fault(
    code: int | None, err: str, goes_on: bool, how: str
) -> None:
    fault = Fault("commands", "", "doctor", (), ("weather",), goes_on=goes_on)
    told = judged(fault, forked.Ended(code, "", err))
    assert told.how == how and told.handled == (how in ("stopped", "went on"))


def test_hundreds_of_faults_are_planted_at_every_place() -> None:
    planted = {place: len({fault.kind for fault in run_fault_cases.of(place)}) for place in run_fault_cases.PLACES}
    assert sum(planted.values()) > 600 and min(planted.values()) >= 10
    assert all(len(list(run_fault_cases.of(place))) == count for place, count in planted.items()), planted
