"""The measurement of negated reports: its figures, and that it shows no text that may not be shown."""

import json
from pathlib import Path
from types import ModuleType

import benches
import pytest

from clinicclip import cli


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benches.load("negation")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    reports = [
        "Cardiomegaly. Clear lungs.",
        "The lungs are clear.",
        "Atelectasis or fracture is seen.",
        "Possible edema.",
    ]
    rows = [{"image": f"{i}.png", "text": text, "patient": f"p{i}"} for i, text in enumerate(reports)]
    for row in rows:
        (root / row["image"]).touch()
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_eligible_made_and_reasons_are_counted(
    bench: ModuleType, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(bench.main, bench.parser(), ["folder", f"--source={source}"]) == 0
    printed = capsys.readouterr().out
    line = json.loads(printed.splitlines()[-1])
    assert (line["name"], line["value"], line["goal"]) == ("negation", 0.5, 0.9)
    own = line["detail"]["train"]
    assert (line["detail"]["reports"], own["eligible"], own["made"], own["sound"]) == (4, 2, 1, 1)
    assert own["reasons"] == {"inseparable": 1} and own["findings"] == {"cardiomegaly": 1}
    assert "Clear lungs" not in printed and "fracture is seen" not in printed


def test_text_is_shown_of_open_data_alone(
    bench: ModuleType, source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.call(bench.main, bench.parser(), ["folder", f"--source={source}", "--show=2"]) == 2
    told = capsys.readouterr()
    assert "not marked as open" in told.err and not told.out
    monkeypatch.setattr(bench.releases.READERS["folder"], "OPEN", True)
    assert cli.call(bench.main, bench.parser(), ["folder", f"--source={source}", "--show=2"]) == 0
    printed = capsys.readouterr().out
    assert "- Cardiomegaly.\n  Clear lungs.\n+ " in printed
