"""The main job, tiny but whole: train, report, export, stop, resume; and how it refuses to start or to go on."""

import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fakes
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny_run import STEPS, TINY

from clinicclip import api, cli, files, runs, train
from clinicclip import config as config_files
from clinicclip.data import builder, patients
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.training import checkpoint, segments, step


def overrides(**more: object) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in (TINY | {k.replace("__", "."): v for k, v in more.items()}).items()]


@pytest.fixture
def tiny(phantom: Path) -> Callable[..., ConfigDict]:
    def make(**more: object) -> ConfigDict:
        return config_files.load("configs/n_g_dtcg.py:demo", overrides(**{"data__dir": phantom} | more))

    return make


@pytest.fixture(scope="module")
def finished(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run folder and the output of one uninterrupted run, started by `reproduce`, which scores it once more."""
    root = tmp_path_factory.mktemp("runs")
    builder.write("chestxray14", root / "nih", source=fakes.chestxray14(root / "source"), say=lambda line: None)
    flags = [f"--config.{key}={value}" for key, value in overrides(evaluate_every=3)]
    where = [f"--data=phantom:{phantom}", f"--output={root}", f"--evaluate=nih:{root / 'nih'}@train+test"]
    line = [sys.executable, "-m", "clinicclip.reproduce", "--variants=n_g_dtcg", *where, *flags]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return root / "n_g_dtcg-seed0", (root / "n_g_dtcg-seed0.log").read_text()


def test_the_run_folder_holds_everything_the_readme_promises(finished: tuple[Path, str]) -> None:
    workdir, output = finished
    files = {path.relative_to(workdir).as_posix() for path in workdir.rglob("*") if path.is_file()}
    assert {"config.json", "metrics.jsonl", "DONE", "report/report.html", "report/results.json"} <= files
    assert {"report/results.csv", "report/draws.safetensors", "report/setting.json", "tokenizer/vocab.txt"} <= files
    assert {"export/model.safetensors", "export/config.json", "export/README.md"} <= files
    assert any(name.startswith("tensorboard/") for name in files)
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"4", "6"}
    planned = next(line.split() for line in output.splitlines() if line.startswith("GiB of memory"))
    assert 0 < float(planned[3]) < float(planned[4])  # the first is a device's, the second that of the whole process
    assert output.count("\nTFLOP ") == 1
    assert "task_a" in output.lower().replace(" ", "_")
    assert "PHANTOM" in (workdir / "report" / "report.html").read_text()


def test_the_run_is_in_the_table_of_variants_with_a_set_of_images_alone(finished: tuple[Path, str]) -> None:
    workdir, output = finished
    assert "\nnih: no reports, so without cxr_align, retrieval\n" in output
    with (workdir.parent / "results_summary.csv").open() as file:
        [row] = csv.DictReader(file)
    assert 0 <= float(row["nih/zero_shot/nih/auroc/pair/macro"]) <= 1 and row["phantom/cxr_align/task_a/wrong_image"]
    assert row["phantom/normality/auroc/prompts"] and row["phantom/five_way/accuracy/pair"]


def test_metrics_keep_what_is_deterministic_apart_from_timing(finished: tuple[Path, str]) -> None:
    records = segments.read(finished[0] / "metrics.jsonl")
    steps = [r for r in records if "loss" in r["metrics"]]
    assert [r["step"] for r in steps] == list(range(1, STEPS + 1))
    assert {"loss/clip", "loss/graph", "grad_norm", "soft_labels/kept", "truncated"} <= steps[0]["metrics"].keys()
    timing = {"studies_per_second", "seconds_per_step", "data_wait_share", "tflops_per_device", "peak_memory_gib"}
    assert set(steps[1]["timing"]) == timing
    assert all(steps[1]["timing"][key] > 0 for key in timing - {"data_wait_share"})
    assert not steps[0]["timing"]  # no rate can be told of a step that compiled
    validation = [r for r in records if any(key.startswith("validation/") for key in r["metrics"])]
    assert [r["step"] for r in validation] == [3]


def test_a_complete_run_is_not_done_twice(finished: tuple[Path, str], tiny: Callable[..., ConfigDict]) -> None:
    before = (finished[0] / "metrics.jsonl").read_bytes()
    assert train.train(tiny(), finished[0]) == 0
    assert (finished[0] / "metrics.jsonl").read_bytes() == before


def test_a_complete_run_of_other_settings_is_not_taken_for_this_one(
    finished: tuple[Path, str], tiny: Callable[..., ConfigDict]
) -> None:
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        train.train(tiny(seed=7), finished[0])


def test_a_run_does_not_go_on_with_other_data(
    finished: tuple[Path, str], tiny: Callable[..., ConfigDict], tmp_path: Path
) -> None:
    builder.write(
        "phantom",
        tmp_path / "data",
        options={"level": "easy", "studies": 160, "size": 64},
        shorter_side=48,
        say=lambda line: None,
    )
    (finished[0] / "DONE").rename(tmp_path / "DONE")
    with pytest.raises(UserError, match=r"other settings \(data.digest\)"):
        train.train(tiny(data__dir=tmp_path / "data"), finished[0])
    (tmp_path / "DONE").rename(finished[0] / "DONE")


def test_being_stopped_while_the_report_is_made_is_75_and_the_same_command_finishes(
    finished: tuple[Path, str], tiny: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("DONE", "report", "export"))
    config = {"evaluate_every": 3, "evals__suites": '("pair_strict",)'}
    before = (workdir / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "finish", lambda run, state: signal.raise_signal(signal.SIGTERM))
        assert train.train(tiny(**config), workdir) == cli.PREEMPTED
    assert not (workdir / "DONE").exists()
    assert train.train(tiny(**config), workdir) == 0
    assert (workdir / "report" / "report.html").exists() and (workdir / "export" / "model.safetensors").exists()
    assert (workdir / "DONE").exists() and (workdir / "metrics.jsonl").read_bytes() == before


def test_run_and_export_embed_alike(finished: tuple[Path, str]) -> None:
    run, export = api.load(str(finished[0])), api.load(str(finished[0] / "export"))
    assert run.describe()["parameters_sha256"] == export.describe()["parameters_sha256"]
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    np.testing.assert_array_equal(run.embed_images(images), export.embed_images(images))
    texts = ["No pleural effusion.", "There is a large left pleural effusion."]
    np.testing.assert_array_equal(run.embed_texts(texts), export.embed_texts(texts))


def before_step(number: int, does: Callable[[step.TrainState], step.TrainState]) -> Callable[..., step.Step]:
    """A `train.make_step` whose step of that number, from 0, is given what ``does`` makes of the state."""
    make_step = train.make_step

    def make(*parts: object) -> step.Step:
        real = make_step(*parts)

        def stepped(state: step.TrainState, batch: dict) -> tuple:
            return real(does(state) if int(state.step) == number else state, batch)

        stepped.lower = real.lower
        return stepped

    return make


def test_a_run_stopped_and_resumed_equals_one_that_was_not(
    finished: tuple[Path, str], tiny: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(state: step.TrainState) -> step.TrainState:
        signal.raise_signal(signal.SIGTERM)
        return state

    with monkeypatch.context() as patch:
        patch.setattr(train, "make_step", before_step(2, stopped))
        assert train.train(tiny(evaluate_every=3), tmp_path, range(1, 2)) == cli.PREEMPTED
    with monkeypatch.context() as patch:
        patch.setattr(runs, "validate", lambda run, state: stopped(state))
        assert train.train(tiny(evaluate_every=3), tmp_path) == cli.PREEMPTED
    assert (tmp_path / "checkpoints" / "3").exists()  # where the validation is made up for
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")  # where TensorBoard's plugin and xprof look
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    assert any("train_step" in event.name for plane in planes for line in plane.lines for event in line.events)
    assert not (tmp_path / "DONE").exists()
    monkeypatch.setattr(runs, "finish", lambda run, state: None)  # the report is another test's
    assert train.train(tiny(evaluate_every=3), tmp_path) == 0
    whole, parts = (checkpoint.read_params(folder / "checkpoints")[1] for folder in (finished[0], tmp_path))
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    columns = [[(r["step"], r["metrics"]) for r in segments.read(f / "metrics.jsonl")] for f in (finished[0], tmp_path)]
    assert columns[0] == columns[1]


def test_other_settings_are_refused_in_the_folder_of_a_run(
    finished: tuple[Path, str], tiny: Callable[..., ConfigDict], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((finished[0] / "config.json").read_bytes())
    (tmp_path / "tokenizer").symlink_to(finished[0] / "tokenizer")
    with pytest.raises(UserError, match=r"other settings \(optim.learning_rate\)"):
        train.train(tiny(optim__learning_rate=1e-4), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_records(
    tiny: Callable[..., ConfigDict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(state: step.TrainState) -> step.TrainState:
        return dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))

    monkeypatch.setattr(train, "make_step", before_step(1, spoilt))
    with pytest.raises(UserError, match=r"step 2: loss or gradient is not finite.*Records: easy-"):
        train.train(tiny(evaluate_every=3), tmp_path)
    assert not (tmp_path / "DONE").exists()
    told = json.loads((tmp_path / "fault.json").read_text())
    assert (
        told["step"] == 2
        and told["seed"] == 0
        and len(told["records"]) == TINY["batch_size"]
        and "loss" in told["metrics"]
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": 4096}, "holds only"),
        ({"batch_size": 20}, "multiple of 8"),
        ({"batch_size": -4}, "batch_size=-4: expected 1 or more"),
        ({"loss__alpha": 2.0}, "loss.alpha"),
        ({"data__train": "trian"}, "did you mean train"),
        ({"data__test": "tset"}, "did you mean test"),
        ({"data__test": "test+train[:9]"}, r"patients of the test split .* are trained on .*allow_overlap=True"),
        ({"data__train": "train+validation"}, "patients of the validation split"),
        ({"data__workers": -1}, "data.workers=-1"),
        ({"data__crop_area": 2.0}, "data.crop_area=2.0"),
        ({"data__name": "openi"}, "data.name=openi: .* holds phantom data"),
        ({"data__phantom__level": "hard"}, "data.phantom.level=easy"),
        ({"evals__suites": '("zero_sho",)'}, "did you mean zero_shot"),
        ({"evals__suites": '("zero_shot", "grounding")'}, "evals.suites: grounding would need other splits"),
        ({"evals__findings": '("effusion",)'}, "did you mean pleural_effusion"),
        ({"model__dtype": "float8"}, "model.dtype"),
        ({"model__dim": 0}, "model.dim=0"),
        ({"checkpoint_best": "loss"}, "set evaluate_every"),
        ({"watchdog": -1.0}, "watchdog=-1.0"),
        ({"loss__clip": 0.0}, "loss.negation"),
    ],
)
def test_impossible_settings_are_refused_before_training(
    tiny: Callable[..., ConfigDict], tmp_path: Path, change: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        train.train(tiny(**change), tmp_path)
    assert not (tmp_path / "config.json").exists()  # the corrected command may use the folder


def test_patients_on_both_sides_are_trained_on_when_told(tiny: Callable[..., ConfigDict], tmp_path: Path) -> None:
    run = runs.set_up(tiny(data__train="train+test", data__allow_overlap=True), tmp_path)
    stored = builder.open_source(run.config.data.dir, "train+test")
    np.testing.assert_array_equal(patients.load(tmp_path), patients.of("phantom", stored))


def test_a_runs_checkpoint_is_held_to_what_it_was_trained_with(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder = shutil.copytree(finished[0], tmp_path / "run")
    words = Tokenizer.load(folder / "tokenizer").vocabulary
    Tokenizer((*words[:-2], words[-1], words[-2])).save(folder / "tokenizer", 64)
    with pytest.raises(UserError, match=f"^{folder}: not as its weights were trained .tokenizer"):
        api.load(str(folder))
    np.testing.assert_array_equal(api.load(str(folder), force=True).tokenizer.vocabulary[-1], words[-2])


def test_a_run_knows_whom_it_learnt_from_and_its_export_tells_nobody(finished: tuple[Path, str], phantom: Path) -> None:
    learnt = patients.of("phantom", builder.open_source(phantom, "train"))
    np.testing.assert_array_equal(api.load(str(finished[0])).trained_on, learnt)
    assert len(learnt) == builder.read_manifest(phantom)["splits"]["train"]["patients"]
    assert not list((finished[0] / "export").rglob(patients.FILE))
    assert len(api.load(str(finished[0] / "export")).trained_on) == 0


def test_missing_data_names_both_ways_on(tmp_path: Path) -> None:
    for name, way in (("openi", "clinicclip.prepare openi"), ("mimic_cxr", "clinicclip.prepare mimic_cxr")):
        config = config_files.load(f"configs/n_g_dtcg.py:data={name}", [("data.dir", str(tmp_path / "none"))])
        with pytest.raises(UserError, match=rf"{way}.*:demo"):
            train.train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_made_is_one_line(tiny: Callable[..., ConfigDict], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place"):
        train.train(tiny(), tmp_path / "file" / "run")


def test_a_folder_has_one_start_at_a_time_from_before_anything_is_set_up(
    tiny: Callable[..., ConfigDict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(train, "HANDOVER", 0.2)
    monkeypatch.setattr(runs, "set_up", lambda config, workdir: files.alone(workdir).__enter__())
    with pytest.raises(UserError, match="worked on by another process"):
        train.train(tiny(), tmp_path)
    assert "waiting" not in capsys.readouterr().out  # that was the one inside
    with files.alone(tmp_path), pytest.raises(UserError, match="worked on by another process: wait for its end"):
        train.train(tiny(), tmp_path)
    assert "another process: waiting up to 0 s for its end\n" in capsys.readouterr().out


def test_results_are_records_with_intervals(finished: tuple[Path, str]) -> None:
    rows = json.loads((finished[0] / "report" / "results.json").read_text())
    names = {row["metric"] for row in rows}
    assert {"cxr_align/task_a", "cxr_align/task_a/wrong_image"} <= names
    assert all({"value", "ci_low", "ci_high", "n", "split", "parameters_sha256"} <= row.keys() for row in rows)
