"""Faults in settings, command lines and data are told in one line: a sample of what `bench/faults_run.py` plants."""

import json
import random
from pathlib import Path

import benches
import pytest
import run_fault_cases
import run_faults
from run_faults import Fault, Told

from clinicclip import doctor

SEED, EACH = 3, 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_faults.make(tmp_path_factory.mktemp("faults"), trained=False)


@pytest.mark.parametrize("place", ["settings", "commands", "data"])
def test_planted_faults_stop_with_a_line_that_names_them(place: str, whole: Path, tmp_path: Path) -> None:
    planted = [f for f in run_fault_cases.of(place, whole) if not any("{root}/run" in word for word in f.argv)]
    for fault in random.Random(SEED).sample(planted, EACH):
        told = run_faults.judge(fault, whole, tmp_path / "planted", random.Random(SEED))
        assert told.handled, f"{fault.kind}: {told.how}: {told.words}"


def test_the_judge_tells_what_is_silent_unnamed_or_a_traceback(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def how(names: tuple[str, ...], *argv: str, program: str = "doctor") -> str:
        fault = Fault("commands", "", program, argv, names)
        return run_faults.judge(fault, whole, tmp_path / "planted", random.Random(0)).how

    assert how(("weather",), "weather") == "stopped"
    assert how(("rain",), "weather") == "unnamed"
    assert how(("nothing",), *run_faults.training(where="new"), program="train") == "silent"
    monkeypatch.setattr(doctor, "main", lambda args: {}["weather"])
    assert how(("host",), "host") == "traceback"
    assert not Told("late", "").handled and Told("went on", "").handled


def test_the_bench_ends_in_a_line_of_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = benches.load("faults_run")
    monkeypatch.setattr(bench, "QUICK", 3)
    monkeypatch.setattr(run_faults, "make", lambda root: root.mkdir() or root)
    assert bench.main(bench.parser().read(["--only=settings", "--quick"])) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["name"] == "faults_run" and result["value"] == result["goal"] == 1.0
    assert table[-1].split()[:2] == ["all", str(result["detail"]["planted"])] == ["all", "3"]
