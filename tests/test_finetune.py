"""Full fine-tuning: what pixels tell is learnt, unknown labels teach nothing, jobs that are done stay done."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import planted
import pytest
from sklearn.metrics import log_loss

from clinicclip import api, cli, finetune
from clinicclip.data import builder, schema
from clinicclip.evals import sets
from clinicclip.evals.base import EvalSet
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec, init_params
from clinicclip.models.swin import SwinSpec
from clinicclip.training import finetune as training

SIDE = 16
IMAGE = SwinSpec(SIDE, 4, 4, 8, (1,), (1,), drop_path=0.0)
SPEC = ClipSpec(IMAGE, BertSpec(vocab_size=4, width=4, depth=1, heads=1, mlp_width=4, max_positions=4), dim=4)
EDEMA, FRACTURE = schema.INDEX["edema"], schema.INDEX["fracture"]


def _set(studies: int, seed: int, split: str) -> EvalSet:
    """Edema is bright below and dark above; the other findings cannot be seen, and a fracture is never known."""
    evalset = planted.evalset(studies, seed=seed)
    images = evalset.images // 2
    images[evalset.truth[:, EDEMA] == 1, SIDE // 2 :] += 127
    return dataclasses.replace(
        evalset, images=images, split=split, patients=tuple(f"{split} {name}" for name in evalset.patients)
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    opened = {"train": _set(160, 0, "train"), "test": _set(80, 1, "test")}
    params = init_params(SPEC, 0)
    model = SimpleNamespace(
        spec=SPEC,
        params=params,
        image_size=SIDE,
        config={},
        trained_on=np.empty(0, np.uint64),
        describe=lambda: {"checkpoint": "stand-in", "parameters_sha256": "0"},
    )
    monkeypatch.setattr(api, "load", lambda checkpoint, **named: model)
    monkeypatch.setattr(builder, "read_manifest", lambda folder: {"name": "phantom", "splits": dict.fromkeys(opened)})
    monkeypatch.setattr(sets, "open_set", lambda name, folder, split, **_: opened[split])
    monkeypatch.setattr(sets, "overlap", lambda *_: "")

    def call(*flags: str, seeds: int | None = 1) -> int:
        usual = ["--checkpoint=x", "--data_dir=y", f"--output={tmp_path}", "--steps=40", "--batch_size=32"]
        usual += ["--learning_rate=0.01", "--draws=20", *([f"--seeds={seeds}"] if seeds else [])]
        return cli.call(finetune.main, finetune.parser(), [*usual, *flags])

    return call


def test_what_pixels_tell_is_learnt_and_jobs_that_are_done_are_not_done_again(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--shares=0.01,1") == 0
    results = {row["metric"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    assert results["finetune/auroc@1/edema"]["value"] > 0.95
    assert abs(results["finetune/auroc@1/pneumothorax"]["value"] - 0.5) < 0.25
    assert results["finetune/auroc@0.01/macro"]["n"] == 80 and "finetune/auroc@1/fracture" not in results
    monkeypatch.setattr(finetune, "_job", lambda *_: pytest.fail("this job was done"))
    assert run("--shares=0.01,1") == 0
    assert {r["metric"]: r for r in json.loads((tmp_path / "results.json").read_text())} == results
    capsys.readouterr()
    assert run("--shares=1", "--steps=41") == 1
    assert "another steps" in capsys.readouterr().err


def test_every_share_has_three_seeds_unless_asked_otherwise(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def job(task: finetune.Task, rows: np.ndarray, seed: int, title: str) -> np.ndarray:
        trained.append(title)
        return np.random.default_rng(seed).normal(size=(len(task.test), len(task.findings)))

    monkeypatch.setattr(finetune, "_job", job)
    assert run("--shares=0.1,1", seeds=None) == 0
    assert trained == [f"share {share}, seed {seed}" for share in ("0.1", "1") for seed in range(3)]
    notes = {row["metric"]: row["note"] for row in json.loads((tmp_path / "results.json").read_text())}
    assert notes["finetune/auroc@1/edema"].count(",") == 2


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        ("--shares=0", 2, "above 0"),
        ("--shares=a", 2, "numbers"),
        ("--shares=1,1", 2, "different"),
        ("--batch_size=30", 1, "8 devices"),
        ("--split=train", 1, "no training split beside train"),
    ],
)
def test_faults_are_one_line_with_the_way_out(
    run, flag: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(flag) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_the_loss_is_that_of_the_known_labels_alone() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 4)).astype(np.float32), (rng.random((9, 4)) < 0.4).astype(np.float32)
    known = (rng.random((9, 4)) < 0.6).astype(np.float32)
    probabilities = 1 / (1 + np.exp(-logits[known == 1].astype(np.float64)))
    expected = log_loss(labels[known == 1], probabilities)
    given = tuple(map(jnp.asarray, (logits, labels, known)))
    assert float(training.masked_loss(*given)) == pytest.approx(expected, rel=1e-5)
    assert float(training.masked_loss(*given[:2], 0 * given[2])) == 0.0


def test_batches_are_functions_of_seed_and_step_and_cover_the_rows() -> None:
    train = _set(40, 0, "train")
    rows = np.array([3, 5, 8, 13, 21])

    def drawn(seed: int) -> list[dict[str, np.ndarray]]:
        return list(finetune._batches(train, rows, (EDEMA, FRACTURE), size=4, steps=5, seed=seed))

    first, again, other = drawn(0), drawn(0), drawn(1)
    for one, two in zip(first, again, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    assert any((one["image"] != two["image"]).any() for one, two in zip(first, other, strict=True))
    assert sum(batch["labels"][:, 0].sum() for batch in first) == 4 * (train.truth[rows, EDEMA] == 1).sum()
    assert not any(batch["known"][:, 1].any() for batch in first)
