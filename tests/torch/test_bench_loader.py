"""bench/loader.py on a few small records: every way makes batches, and the last line says how much faster ours are."""

import json
from pathlib import Path

import benches
import pytest

from clinicclip import cli
from clinicclip.data import builder


def test_every_way_makes_batches_and_the_goal_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = benches.load("loader")
    builder.write("phantom", tmp_path / "data", options={"level": "easy", "studies": 40, "size": 64}, shorter_side=64)
    monkeypatch.setattr(bench, "BATCH", 4)
    monkeypatch.setattr(bench, "AHEAD", 1)

    def compare(data: object, workers: int, rounds: int) -> dict[str, list]:  # here: processes take seconds to start
        return {name: [bench.measured(way, data, 0)] * rounds for name, way in bench.WAYS.items()}

    monkeypatch.setattr(bench, "compare", compare)
    code = cli.call(bench.main, bench.parser(), [f"--data={tmp_path / 'data'}", "--quick"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "loader" and code == int(line["value"] < line["goal"])
    assert all(line["detail"][name]["wall"] > 0 for name in bench.WAYS)
