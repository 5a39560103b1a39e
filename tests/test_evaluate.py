"""The evaluate program at its door: prepared data and a model in, a report out; faults are one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import planted
import pytest

from clinicclip import api, cli, evaluate
from clinicclip.data import builder, patients
from clinicclip.evals import sets
from clinicclip.evals.truth import SQUASH

SIDE = 32
CONFIG = {"data": {"name": "phantom", "train": "train", "test": "validation+test"}}


class Model:
    """Stands in for a loaded checkpoint: random but fixed directions."""

    image_size = SIDE
    config = CONFIG
    trained_on = np.empty(0, np.uint64)
    square, says = staticmethod(SQUASH.square), SQUASH.says

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return planted.by_text(planted.noise)([str(image.sum()) for image in images])

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return planted.by_text(planted.noise)(texts)

    def describe(self) -> dict[str, str]:
        return {"checkpoint": "stand-in"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantom"
    options = {"level": "easy", "studies": 80, "size": 64}
    builder.write("phantom", folder, options=options, say=lambda line: None)
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(api, "load_any", lambda checkpoint, force: Model())

    def call(*flags: str) -> int:
        given = {f.split("=")[0] for f in flags}
        usual = {"--checkpoint": "run", "--data": f"phantom:{data}", "--output": str(tmp_path / "out"), "--draws": "20"}
        return cli.call(
            evaluate.main, evaluate.parser(), [*flags, *(f"{k}={v}" for k, v in usual.items() if k not in given)]
        )

    return call


def test_a_whole_evaluation_writes_its_report(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"results.json", "results.csv", "report.md", "roc.png", "gallery.png"}
    printed = capsys.readouterr().out
    assert "PHANTOM DATA" in printed and "Task A" in printed and "split validation+test" in printed
    assert "world version" in printed and "level easy" in printed


def test_the_same_command_gives_the_same_numbers(run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("--suite=cxr_align,retrieval", f"--output={tmp_path / name}") == 0
    assert (tmp_path / "a/results.json").read_text() == (tmp_path / "b/results.json").read_text()


def test_limit_and_suite_are_obeyed(run, tmp_path: Path) -> None:
    assert run("--suite=retrieval", "--split=train", "--limit=9", "--allow_overlap") == 0
    records = json.loads((tmp_path / "out/results.json").read_text())
    assert {record["metric"].split("/")[0] for record in records} == {"retrieval"}
    assert max(record["n"] for record in records) == 9


def test_patients_that_were_trained_on_are_scored_only_when_told(
    run, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt = [builder.open_source(data, "train")[0], builder.open_source(data, "test")[0]]
    monkeypatch.setattr(Model, "trained_on", patients.of("phantom", learnt))
    words = ("--suite=retrieval", "--limit=9")
    assert run(*words, "--split=validation") == 0
    assert run(*words) == 1  # the run held out validation and test
    told = capsys.readouterr()
    assert "trained on 1 of " in told.err and "--allow_overlap" in told.err and "not held-out" not in told.out
    assert run(*words, "--allow_overlap") == 0
    assert "these are not held-out numbers" in capsys.readouterr().out


def test_an_export_knows_what_it_was_trained_on_by_the_splits_name(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--suite=retrieval", "--split=train", "--limit=9") == 1
    assert "trained on train of the same release" in capsys.readouterr().err
    assert run("--suite=retrieval", "--split=train", "--limit=9", "--allow_overlap") == 0
    assert "not held-out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        ("--suite=zero_shoot", 2, "did you mean zero_shot"),
        ("--findings=edemma", 2, "did you mean edema"),
        ("--split=tests", 1, "did you mean test"),
        ("--data=nowhere", 2, "NAME:DIR"),
        ("--data=a:x,a:y", 2, "twice"),
        ("--data=a:/nowhere", 1, "/nowhere"),
        ("--draws=none", 2, "draws"),
        ("--suites=retrieval", 2, "did you mean --suite"),
    ],
)
def test_faults_are_one_line_with_the_way_out(
    run, flag: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(flag) == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and words in printed


def test_the_default_split_is_what_the_run_held_out(data: Path) -> None:
    assert sets.held_out_split(data, CONFIG) == "validation+test"
    assert sets.held_out_split(data, {}) == "test"


def test_the_same_patients_of_another_release_are_others(data: Path) -> None:
    split, stored = "validation+train[:5]", builder.open_source(data, "train")
    unknown = np.empty(0, np.uint64)
    elsewhere = {"data": {**CONFIG["data"], "name": "openi"}}
    assert sets.overlap(data, split, CONFIG, unknown) == "train of the same release"
    assert sets.overlap(data, split, elsewhere, unknown) == ""
    assert sets.overlap(data, "train", elsewhere, patients.of("openi", stored)) == ""
    assert sets.overlap(data, "train", elsewhere, patients.of("phantom", [stored[0]]))
