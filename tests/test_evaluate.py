"""The evaluate program at its door: prepared data and a model in, a report out; faults are one line."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fakes
import fakes_labelled
import numpy as np
import planted
import pytest

from clinicclip import api, cli, evaluate, explain, guests, scoring
from clinicclip.data import builder, patients
from clinicclip.errors import UserError
from clinicclip.evals import prompts, sets
from clinicclip.evals.base import EvalSet, Rows
from clinicclip.evals.suites import Beside
from clinicclip.evals.truth import SQUASH
from clinicclip.scoring import Opened

SIDE = 32
CONFIG = {"data": {"name": "phantom", "train": "train", "test": "validation+test"}}


class Model(api.ClinicCLIP):
    """Stands in for a loaded checkpoint: random but fixed directions."""

    def __init__(self) -> None:
        pass

    image_size = SIDE
    config = CONFIG
    trained_on = np.empty(0, np.uint64)
    square, says = staticmethod(SQUASH.square), SQUASH.says
    name = "stand-in"
    tokenizer, text_length = SimpleNamespace(vocab_size=9), 16
    spec = SimpleNamespace(text=SimpleNamespace(max_positions=16))

    def seen(self, images: np.ndarray) -> np.ndarray:
        return planted.by_text(planted.noise)([f"{self.name} {image.sum()}" for image in images])

    def embed_rows(self, images: np.ndarray, patches: bool = False) -> Rows:
        whole = planted.marked(self.seen)(images)
        grid = np.broadcast_to(whole.vectors[:, None, None], (len(images), 2, 2, whole.vectors.shape[1]))
        return whole._replace(patches=grid) if patches else whole

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return planted.by_text(planted.noise)(texts)

    def with_tokenizer(self, tokenizer: SimpleNamespace, text_length: int) -> "Model":
        return self

    def describe(self) -> dict[str, str]:
        return {"checkpoint": self.name, "parameters_sha256": self.name}


class Other(Model):
    """Another checkpoint: other directions of images."""

    name = "other"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantom"
    options = {"level": "easy", "studies": 80, "size": 64}
    builder.write("phantom", folder, options=options, say=lambda line: None)
    return folder


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(api, "load", lambda checkpoint: Other() if "other" in checkpoint else Model())
    monkeypatch.setattr(api, "load_any", lambda checkpoint, **named: api.load(checkpoint))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

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
    numbers = {"results.json", "results.csv", "draws.safetensors", "scores.safetensors", "setting.json"}
    assert files == numbers | {"report.md", "report.html", "embeddings"}
    printed = capsys.readouterr().out
    assert "PHANTOM DATA" in printed and "Task A" in printed and "split validation+test" in printed
    assert "world version" in printed and "level easy" in printed


def test_the_same_command_gives_the_same_numbers(run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("--suite=cxr_align,retrieval", f"--output={tmp_path / name}") == 0
    assert (tmp_path / "a/results.json").read_text() == (tmp_path / "b/results.json").read_text()


def test_what_is_embedded_is_not_embedded_again(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--suite=retrieval", "--limit=20", f"--cache={tmp_path / 'cache'}")
    assert run(*words) == 0
    before = (tmp_path / "out/results.json").read_text()
    assert not any("normal" in name.name or " " in name.name for name in (tmp_path / "cache").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Model, "embed_rows", lambda self, images: pytest.fail("images embedded again"))
        patch.setattr(Model, "embed_texts", lambda self, texts: pytest.fail("texts embedded again"))
        assert run(*words) == 0
    assert (tmp_path / "out/results.json").read_text() == before
    asked: list[int] = []
    embed = Other.embed_rows
    monkeypatch.setattr(Other, "embed_rows", lambda self, x: asked.append(len(x)) or embed(self, x))
    assert run(*words, "--checkpoint=other") == 0
    assert asked[0] == max(record["n"] for record in json.loads(before))  # another model finds nothing of this one's


def test_a_damaged_store_is_told(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--suite=retrieval", "--limit=20")
    assert run(*words) == 0
    for path in (tmp_path / "out/embeddings").iterdir():
        path.write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    assert run(*words) == 1
    assert "delete it" in capsys.readouterr().err


def test_two_results_are_compared_draw_by_draw(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("run", "other"):
        assert run(f"--checkpoint={name}", f"--output={tmp_path / name}", "--suite=zero_shot,cxr_align") == 0
    capsys.readouterr()
    assert run(f"--compare={tmp_path / 'run'},{tmp_path / 'other'}", f"--output={tmp_path / 'both'}") == 0
    printed = capsys.readouterr().out
    assert "PHANTOM" in printed and "CXR-Align Task A, wrong images" in printed and "Holm" in printed
    with (tmp_path / "both/compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = [
        {r["metric"]: r["value"] for r in json.loads((tmp_path / n / "results.json").read_text())}
        for n in ("run", "other")
    ]
    for row in rows:
        assert row["paired"] == "True"
        assert float(row["value"]) == pytest.approx(values[1][row["metric"]] - values[0][row["metric"]])
        assert float(row["ci_low"]) <= float(row["ci_high"])


def test_what_moves_a_number_adds_up_to_the_whole_difference(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--suite=zero_shot", "--allow_overlap")
    of_b = ("--split=train", "--checkpoint=other", "--findings=edema")
    assert run(f"--output={tmp_path / 'a'}", *words, "--split=train[:36]", "--prompts=plain") == 0
    assert run(f"--output={tmp_path / 'b'}", *words, *of_b) == 0
    capsys.readouterr()
    assert run(f"--explain={tmp_path / 'a'},{tmp_path / 'b'}", f"--output={tmp_path / 'why'}") == 0
    printed = capsys.readouterr().out
    differing, moved = printed.split("scoring with", 1)
    for factor in ("data", "split", "macro findings", "prompts", "checkpoint"):
        assert f"\n{factor} " in differing
    assert "preprocessing" not in differing and "tokenizer" not in differing
    lines = [line.split(")  ")[1].split() for line in moved.splitlines() if line.startswith("zero-shot")]
    assert len(lines) == 3
    for first, *steps, last in lines:  # run anew, split, macro findings, prompts, checkpoint, left over
        assert len(steps) == 6 and float(steps[0]) == float(steps[-1]) == 0
        assert float(first) + sum(map(float, steps)) == pytest.approx(float(last), abs=0.004)
    with (tmp_path / "why/explain.csv").open() as file:
        averaged = [row["metric"] for row in csv.DictReader(file) if float(row["macro findings"])]
    assert len(averaged) == 4 and all(name.endswith("/macro") for name in averaged)


def test_no_step_on_the_way_scores_a_model_on_patients_it_was_trained_on(
    run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for trained, name, model, scored in (("validation", "run", Model, "test"), ("test", "other", Other, "validation")):
        monkeypatch.setattr(model, "trained_on", patients.of("phantom", builder.open_source(data, trained)))
        assert run(f"--checkpoint={name}", f"--output={tmp_path / name}", "--suite=zero_shot", f"--split={scored}") == 0
    capsys.readouterr()
    assert run(f"--explain={tmp_path / 'run'},{tmp_path / 'other'}", f"--output={tmp_path / 'why'}") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("scoring with")]
    assert told == ["scoring with B's split and checkpoint"]


def test_one_exchange_after_the_other_makes_of_a_all_of_b() -> None:
    place = scoring.Place("here", "test", 0, "train", "validation", "0a")
    a = scoring.Setting(scoring.Checkpoint("a"), {"x": place}, ("probe",), (), "plain", 0, 0)
    there = scoring.Place("there", "fold4", 9, "fold0", "fold3", "1b")
    b = dataclasses.replace(
        a, checkpoint=scoring.Checkpoint("a", "mean"), data={"x": there}, findings=("edema",), prompts="reports", seed=1
    )
    state, seen = explain.State.own(a), []
    for exchange in explain.EXCHANGES.values():
        before, state = state, exchange(state, b)
        seen.append(state == before)
    assert state == explain.State.own(b) and not any(seen)
    beside = explain.EXCHANGES["training and validation split"](explain.State.own(a), b).setting
    assert beside == dataclasses.replace(a, data={"x": dataclasses.replace(place, train="fold0", validation="fold3")})


def test_a_setting_names_weights_from_anywhere_and_how_they_were_loaded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)
    for told in ("runs/x", "runs/x@9", "lone"):
        assert scoring.absolute(told) == f"{tmp_path.resolve()}/{told}"
    assert scoring.absolute("org/name:file.pt@main") == "org/name:file.pt@main"
    setting = scoring.Setting(scoring.Checkpoint("org/name", "cls", True), {}, (), (), "plain", 0, 0)
    setting.save(tmp_path)
    assert scoring.Setting.load(tmp_path) == setting
    asked: list[object] = []
    monkeypatch.setattr(api, "load_any", lambda *place, **how: asked.append((place, how)) or Model())
    setting.checkpoint.load()
    assert asked == [(("org/name",), {"pooling": "cls", "force": True})]
    (tmp_path / "setting.json").write_text(json.dumps({**dataclasses.asdict(setting), "checkpoint": "org/name"}))
    with pytest.raises(UserError, match="of another version; evaluate again"):
        scoring.Setting.load(tmp_path)


def test_preprocessing_and_guests_are_exchanged_as_far_as_they_can_be(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest lends its preprocessing; its tokenizer goes along with it."""

    class Foreign(guests.Guest):
        image_size, name, says = SIDE, "foreign", "darkened, {} px"
        square = staticmethod(lambda gray, size: SQUASH.square(gray, size) // 2)
        embed_images, embed_texts, describe = Model.seen, Model.embed_texts, Model.describe

        def __init__(self) -> None:
            pass

    foreign = Foreign()
    monkeypatch.setattr(api, "load", lambda checkpoint: foreign if "foreign" in checkpoint else Model())
    for name in ("run", "foreign"):
        assert run(f"--checkpoint={name}", f"--output={tmp_path / name}", "--suite=zero_shot", "--split=test") == 0
    capsys.readouterr()
    assert run(f"--explain={tmp_path / 'run'},{tmp_path / 'foreign'}", f"--output={tmp_path / 'why'}") == 0
    printed = capsys.readouterr().out
    assert "scoring with B's preprocessing\n" in printed and "scoring with B's tokenizer and checkpoint" in printed
    lines = [line.split(")  ")[1].split() for line in printed.splitlines() if line.startswith("zero-shot AUROC")]
    assert len(lines) == 3
    for first, anew, seen, rest, left, last in lines:
        assert float(anew) == float(left) == 0 and float(seen) != 0
        assert float(first) + float(seen) + float(rest) == pytest.approx(float(last), abs=0.003)


def test_images_stored_smaller_than_their_files_and_the_model_have_them_are_told_everywhere() -> None:
    records = planted.records(5)
    for record in records[:2]:  # of files that hold more than is stored; the others have no more
        record |= {"height": 9 * planted.SIDE, "width": 4 * planted.SIDE}
    large, fitting = (
        EvalSet.from_records("x", "test", records, side, True) for side in (3 * planted.SIDE, planted.SIDE)
    )
    assert large.coarse.startswith(f"2 of 5 images are stored with a shorter side of {planted.SIDE} px, below the ")
    assert large.preprocessing.endswith(f"px, bicubic with antialias; {large.coarse}")
    assert fitting.coarse == "" and "stored" not in fitting.preprocessing
    assert f"note: x: {large.coarse}" in evaluate._told(Opened(large, Beside()))


def test_what_cannot_be_run_anew_is_explained_from_what_was_written(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run", "other"):
        assert run(f"--checkpoint={name}", f"--output={tmp_path / name}", "--suite=zero_shot", "--limit=30") == 0
    mine = tmp_path / "mine.json"
    mine.write_bytes((prompts.FOLDER / "plain.json").read_bytes())
    words = ("--suite=zero_shot", "--limit=30", f"--prompts={mine}", f"--output={tmp_path / 'mine'}")
    assert run(*words) == 0
    mine.write_text(mine.read_text().replace('"{}.', '"seen: {}.'))
    assert run(f"--explain={tmp_path / 'run'},{tmp_path / 'mine'}") == 0
    assert f"Not run anew: B's prompts {mine} were changed after they were scored." in capsys.readouterr().out
    monkeypatch.setattr(Other, "name", "trained on")
    assert run(f"--explain={tmp_path / 'run'},{tmp_path / 'other'}") == 0
    printed = capsys.readouterr().out
    assert "no longer the one that was scored" in printed and "\ncheckpoint " in printed


def test_limit_and_suite_are_obeyed(run, tmp_path: Path) -> None:
    assert run("--suite=retrieval", "--split=train", "--limit=9", "--allow_overlap") == 0
    records = json.loads((tmp_path / "out/results.json").read_text())
    assert {record["metric"].split("/")[0] for record in records} == {"retrieval"}
    assert max(record["n"] for record in records) == 9


def test_a_suite_that_was_named_must_fit_the_set(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = fakes.chestxray14(tmp_path / "source")
    builder.write("chestxray14", tmp_path / "nih", source=source, say=lambda line: None)
    assert run(f"--data=nih:{tmp_path / 'nih'}", "--suite=zero_shot,retrieval") == 2
    told = capsys.readouterr().err
    assert "nih has no reports, as retrieval take: choose among zero_shot" in told and told.count("\n") == 1


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
        ("--compare=only_one", 2, "two result folders"),
        ("--compare=/nowhere/a,/nowhere/b", 1, "has no results.json"),
        ("--explain=/nowhere/a,/nowhere/b", 1, "has no results.json"),
        ("--prompts=/nowhere/mine.json", 1, "no prompt set"),
        ("--checkpoint=", 2, "--checkpoint is missing"),
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


def test_images_of_a_release_trained_on_under_other_ids_are_warned_of(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rsna = fakes_labelled.rsna(tmp_path / "in")
    builder.write("rsna", tmp_path / "rsna", source=rsna, shorter_side=32)
    trained = {"data": {**CONFIG["data"], "name": "chestxray14"}}
    assert "of rsna are chestxray14's, and so may be those trained on" in sets.kinship(tmp_path / "rsna", trained)
    assert sets.kinship(tmp_path / "rsna", CONFIG) == sets.kinship(tmp_path / "rsna", {}) == ""
    monkeypatch.setattr(Model, "config", trained)
    assert run("--suite=zero_shot", f"--data=rsna:{tmp_path / 'rsna'}") == 0
    assert "warning: rsna: the images of rsna are chestxray14's" in capsys.readouterr().err
    entries = [{"subset_img_id": image, "img_id": f"{i:08d}_000.png"} for i, image in enumerate(fakes_labelled.RSNA)]
    (rsna / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    builder.write("rsna", tmp_path / "told", source=rsna, shorter_side=32)  # now ids are compared
    (one, *_) = builder.open_source(tmp_path / "told", "test")
    assert sets.kinship(tmp_path / "told", trained) == ""
    assert sets.overlap(tmp_path / "told", "test", trained, patients.of("chestxray14", [one])) == "1 of 8 patients"


def test_the_same_patients_of_another_release_are_others(data: Path) -> None:
    split, stored = "validation+train[:5]", builder.open_source(data, "train")
    unknown = np.empty(0, np.uint64)
    elsewhere = {"data": {**CONFIG["data"], "name": "openi"}}
    assert sets.overlap(data, split, CONFIG, unknown) == "train of the same release"
    assert sets.overlap(data, split, elsewhere, unknown) == ""
    assert sets.overlap(data, "train", elsewhere, patients.of("openi", stored)) == ""
    assert sets.overlap(data, "train", elsewhere, patients.of("phantom", [stored[0]]))
