"""A run that stands still says where."""

import subprocess
import sys
from pathlib import Path

import pytest

from clinicclip.training.watch import Watch

STANDS_STILL = """
import sys, time
from pathlib import Path
from clinicclip.training.watch import Watch

def waits_for_data(seconds):
    time.sleep(seconds)

with Watch(Path(sys.argv[1]), 0.5, ends=len(sys.argv) > 2) as watched:
    for step in range(4):
        watched.step(step)
        waits_for_data(0.1)
    print("moving", file=sys.stderr, flush=True)
    waits_for_data(0.8)
time.sleep(0.8)
"""


def test_stacks_are_told_where_no_step_begins_and_nowhere_else(tmp_path: Path) -> None:
    line = [sys.executable, "-c", STANDS_STILL, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    before, after = done.stderr.split("moving")
    assert "Timeout" not in before
    assert after.count("Timeout") == 1 and "in waits_for_data" in after


def test_a_process_that_stands_still_can_be_ended(tmp_path: Path) -> None:
    line = [sys.executable, "-c", STANDS_STILL, str(tmp_path), "ends"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "in waits_for_data" in done.stderr.partition("moving")[2]


def test_without_patience_or_steps_to_trace_nothing_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Watch(tmp_path, 0.0) as watched:
        watched.step(0)
    assert not list(tmp_path.iterdir()) and not capfd.readouterr().err
