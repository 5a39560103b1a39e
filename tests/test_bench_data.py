"""bench/prepare.py and bench/memory.py on little data: they run, and their exit code says whether the goal was met."""

import json
from types import ModuleType

import benches
import pytest

from clinicclip import cli


def measured(bench: ModuleType, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict]:
    code = cli.call(bench.main, bench.parser(), list(flags))
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_prepare_is_measured_against_pillow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches.load("prepare")
    monkeypatch.setattr(bench, "HEIGHT", 1100)
    monkeypatch.setattr(bench, "WIDTH", 1300)
    code, line = measured(bench, capsys, "--images=2")
    assert line["name"] == "prepare" and code == int(line["value"] < line["goal"])
    assert line["detail"]["gray_levels_apart"] <= 2 < line["detail"]["ours_images_per_second"]


def test_memory_of_prepare_is_measured_with_its_workers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches.load("memory")
    monkeypatch.setattr(bench, "STUDIES", 20_000)
    monkeypatch.setattr(bench, "IMAGES", 30_000)
    code, line = measured(bench, capsys, "--quick", "--workers=1")
    assert (code, line["name"]) == (0, "memory")
    assert 0.1 < line["value"] < line["goal"] and line["detail"]["workers"] == 1
