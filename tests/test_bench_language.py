"""The measurement of report language: it reads Open-I's layout, and tells what it found on a last line of JSON."""

import json
from pathlib import Path
from types import ModuleType

import benches
import pytest

from clinicclip import cli
from clinicclip.data.schema import fold

REPORT = """<eCitation><IUXRId id="{uid}"/><AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText></eCitation>"""
REPORTS = [  # findings, impression, coded
    ("The heart is enlarged. No effusion.", "Cardiomegaly.", ("Cardiomegaly",)),
    ("Heart size is normal. Small left effusion.", "", ("Effusion",)),
    ("The effusion has resolved.", "No acute disease.", ()),
    ("", "", ()),
    ("Possible effusion.", "", ("Effusion",)),
]
COLUMNS = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return benches.load("language")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openi")
    (root / "ecgen-radiology").mkdir()
    rows = [f"uid,split,{','.join(COLUMNS)},normal"]
    for uid in range(1, 41):
        findings, impression, coded = REPORTS[uid % len(REPORTS)]
        text = REPORT.format(uid=uid, findings=findings, impression=impression)
        (root / "ecgen-radiology" / f"{uid}.xml").write_text(text)
        rows.append(f"{uid},train,{','.join(str(int(c in coded)) for c in COLUMNS)},{int(not coded)}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def measured(bench: ModuleType, capsys: pytest.CaptureFixture[str], *flags: str) -> dict:
    code = cli.call(bench.main, bench.parser(), [*flags, "--draws=50", "--workers=0"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    speeds = [speed for name, speed in line["detail"].items() if name.startswith("reports_per_second")]
    assert len(speeds) == 3 and code == int(line["value"] < line["goal"] or min(speeds) < bench.SPEED_GOAL)
    return line


def test_agreement_is_counted_by_finding(bench: ModuleType, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = measured(bench, capsys, f"--source={source}")
    micro = line["detail"]["micro"]
    assert line["value"] == micro["f1"] and line["goal"] == 0.9
    assert (micro["n"], micro["precision"], micro["recall"]) == (24, 1.0, round(16 / 24, 4))
    assert micro["f1_uncertain_as_present"] == 1.0 and micro["ci_low"] <= micro["f1"] <= micro["ci_high"]
    assert line["detail"]["polarity"]["pleural_effusion"]["not_coded"]["absent"] == 16
    assert "hernia" not in line["detail"]["polarity"]


def test_folds_are_those_of_the_reader(bench: ModuleType, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = sum(fold(str(uid)) == 4 for uid in range(1, 41))
    assert measured(bench, capsys, f"--source={source}", "--folds=4")["detail"]["n"] == expected


def test_a_folder_without_coded_reports_is_told_in_one_line(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(bench.main, bench.parser(), [f"--source={tmp_path}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "--source" in told and told.count("\n") == 1
