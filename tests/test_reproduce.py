"""All variants in one command: which runs, in which order, with which settings; how it stops; what the tables say.

Processes are real in test_train.py, and in bench/reproduce.py, which kills and resumes all variants.
"""

import csv
import dataclasses
import fcntl
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fakes
import planted
import pytest

from clinicclip import cli, host, reproduce
from clinicclip.data import builder
from clinicclip.evals import report, suites
from clinicclip.evals.references import REFERENCES
from clinicclip.scoring import Checkpoint, Place, Setting, data_digest

SUITES = ("zero_shot", "cxr_align", "pair_strict", "retrieval")
MANIFEST: dict[str, Any] = {"name": "phantom", "settings": {}, "splits": {"test": {"records": 50}}, "source": {}}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What runs come to: one by chance, one that sees."""
    evalset, folder = planted.evalset(50), tmp_path_factory.mktemp("reports")
    setting = Setting(Checkpoint("run"), {"planted": Place("somewhere", "test")}, SUITES, (), "reports", 30, 0)
    for name, embed in {"chance": planted.chance(evalset), "oracle": planted.oracle(evalset)}.items():
        evaluation = suites.run_suites(embed, [evalset], SUITES, draws=30)
        report.write_numbers(evaluation, folder / name, provenance={"checkpoint": name, "clinicclip": "0"})
        setting.save(folder / name)
    return folder


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared images without reports."""
    folder = tmp_path_factory.mktemp("nih")
    builder.write("chestxray14", folder / "data", source=fakes.chestxray14(folder / "source"), say=lambda line: None)
    return folder / "data"


def prepare_again(data: Path) -> None:
    """Leaves a folder as another preparation would: other records, and a manifest that tells their checksums."""
    path = data / "manifest.json"
    manifest = json.loads(path.read_text())
    next(iter(manifest["files"].values()))["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))


class Children:
    """Stands in for the processes: notes their words and leaves a finished run's folder."""

    def __init__(self, reports: Path) -> None:
        self.lines: list[list[str]] = []
        self.code = 0
        self._reports = reports

    def __call__(self, words: list[str], log: Path, *, lock: int, stop: host.StopRequest) -> int:
        self.lines.append(words)
        given = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
        if words[0] == "evaluate":
            self._evaluate(*re.split("[:@]", given["data"]), Path(given["output"]))
            return self.code
        folder = Path(given["workdir"])
        if not self.code:
            known = "chance" if folder.name.startswith("baseline") else "oracle"
            shutil.copytree(self._reports / known, folder / "report")
            config = {"total_steps": int(given["config.total_steps"]), "batch_size": 64}
            data = Path(given["data_dir"])
            digest = data_digest(data) if data.is_dir() else "abc"
            config |= {"data": {"name": "phantom", "train": "train", "digest": digest}}
            (folder / "config.json").write_text(json.dumps(config))
        return self.code

    def _evaluate(self, name: str, folder: str, split: str, output: Path) -> None:
        """The results of the run under another name, as if of another set."""
        evalset = dataclasses.replace(planted.evalset(20), name=name).sealed()
        found = suites.run_suites(planted.chance(evalset), [evalset], ("zero_shot",), draws=3)
        report.write_numbers(found, output, provenance={"checkpoint": name, "clinicclip": "0"})
        place = Place(str(Path(folder).resolve()), split, digest=data_digest(Path(folder)))
        Setting(Checkpoint("run"), {name: place}, ("zero_shot",), (), "reports", 3, 0).save(output)


@pytest.fixture
def children(reports: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    made, read = Children(reports), builder.read_manifest
    monkeypatch.setattr(reproduce, "_child", made)
    monkeypatch.setattr(reproduce.dataset, "prepared", lambda config: MANIFEST)
    monkeypatch.setattr(builder, "read_manifest", lambda at: MANIFEST if "somewhere" in str(at) else read(at))
    return made


def command(*words: str) -> int:
    return cli.call(reproduce.main, reproduce.parser(), list(words))


def test_every_variant_is_trained_alike(children: Children, tmp_path: Path) -> None:
    words = ("--data=phantom", f"--output={tmp_path}", "--steps=30", "--seeds=0,3", "--config.batch_size=32")
    assert command(*words) == 0
    names = [Path(line[1]).name for line in children.lines]
    assert names == [f"{variant}.py:demo" for variant in reproduce.VARIANTS] * 2
    alike = {
        tuple(word for word in line if "--config=" not in word and "--workdir=" not in word) for line in children.lines
    }
    assert {next(word for word in line if "seed" in word) for line in alike} == {"--config.seed=0", "--config.seed=3"}
    for line in alike:
        assert {"--config.total_steps=30", "--config.checkpoint_every=7", "--config.batch_size=32"} <= set(line)
        assert f"--data_dir={tmp_path / 'data'}" in line


def test_the_summary_has_a_row_a_variant_and_paired_differences(
    children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--data=phantom", f"--output={tmp_path}", "--variants=baseline,n,off_clip", "--steps=4") == 0
    with (tmp_path / "results_summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["baseline", "n", "off_clip"]
    numbers = [name for name in rows[0] if "/" in name]
    assert len(numbers) >= 37 and all(float(row[name]) >= -1 for row in rows for name in numbers)
    assert {"zero_shot/planted/auroc/pair/edema", "cxr_align/task_a/wrong_image", "retrieval/t2i/f1_micro@1"} <= set(
        numbers
    )
    with (tmp_path / "results_differences.csv").open() as file:
        deltas = {(row["variant"], row["metric"]): row for row in csv.DictReader(file)}
    with (tmp_path / "results_counts.csv").open() as file:
        counts = {row["metric"]: row for row in csv.DictReader(file)}
    assert list(counts) == numbers
    counted = counts["zero_shot/planted/auroc/pair/edema"]
    assert counted["n"] == "50" and float(counted["prevalence"]) == int(counted["positives"]) / 50
    found = deltas["n", "pair_strict/macro"]
    assert (found["n"], found["prevalence"]) == (
        counts["pair_strict/macro"]["n"],
        counts["pair_strict/macro"]["prevalence"],
    )
    assert float(found["value"]) == pytest.approx(
        float(rows[1]["pair_strict/macro"]) - float(rows[0]["pair_strict/macro"])
    )
    assert {row["caution"] for row in deltas.values()} == {"True", "False"}
    assert 0 < float(found["ci_low"]) <= float(found["value"]) <= float(found["ci_high"])
    page = (tmp_path / "results.md").read_text()
    assert "| n (prevalence) | 50 (" in page and "no checkpoint is chosen by a score" in page
    assert "1.000 [1.000, 1.000] \N{DAGGER}" in page
    assert "over the 2 variants" in page and "With 30 draws no p-value is small enough for that: 80 are needed" in page
    assert report.PHANTOM in page and "Difference to the baseline" in page and "Task A, wrong images" in page
    assert "None is shown: what was published was measured on other data" in page
    assert page in capsys.readouterr().out


def test_seeds_are_averaged_and_their_spread_is_told(children: Children, tmp_path: Path) -> None:
    assert command("--data=phantom", f"--output={tmp_path}", "--variants=dt", "--steps=4", "--seeds=0,1") == 0
    page = (tmp_path / "results.md").read_text()
    assert "Means over 2 seeds" in page and "\N{PLUS-MINUS SIGN}0.000" in page and "Difference" not in page


def test_published_levels_stand_beside_the_same_data_only(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = MANIFEST | {"name": "mimic_cxr", "source": {"images": 9}, "published": {"images": 9}}
    monkeypatch.setattr(builder, "read_manifest", lambda folder: manifest)
    assert command("--data=mimic_cxr:somewhere", f"--output={tmp_path}", "--variants=n_g_dtcg", "--steps=4") == 0
    page = (tmp_path / "results.md").read_text()
    for reference in REFERENCES:
        shown = reference.release == "mimic_cxr"
        assert (f"{reference.metric.format(data='planted')} (planted) | published" in page) is shown
    assert re.search(r"\| here, n = 50 \(\d+\.\d %\) \|[ |]*1\.000 \[1\.000, 1\.000\]", page)
    shutil.rmtree(tmp_path / "n_g_dtcg-seed0")
    manifest["source"] = {"images": 8}
    assert command("--data=mimic_cxr:somewhere", f"--output={tmp_path}", "--variants=n_g_dtcg", "--steps=4") == 0
    page = (tmp_path / "results.md").read_text()
    assert "Not shown beside planted (mimic_cxr, test): the release, or what was scored of it, is not whole." in page
    assert (
        "--config=configs/n_g_dtcg.py:data=mimic_cxr" in children.lines[0]
        and "--data_dir=somewhere" in children.lines[0]
    )


def test_a_child_that_was_stopped_or_failed_ends_the_command(
    children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, ending in ((cli.PREEMPTED, cli.PREEMPTED), (1, 1)):
        children.code = code
        assert command("--data=phantom", f"--output={tmp_path}", "--steps=4") == ending
    assert len(children.lines) == 2 and not (tmp_path / "results.md").exists()
    assert "baseline, seed 0: train ended with exit code 1" in capsys.readouterr().err


def test_further_sets_are_scored_when_list_split_or_records_change_and_only_then(
    children: Children, nih: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data=phantom", f"--output={tmp_path / 'out'}", "--variants=n", "--steps=4")
    for name in ("nih", "rsna"):
        shutil.copytree(nih, tmp_path / name)
    asked = {name: f"{name}:{tmp_path / name}" for name in ("nih", "rsna")}

    def scored(*names: str) -> list[str]:
        """Those that a run of the command scores, when these are asked for."""
        del children.lines[:]
        shutil.rmtree(tmp_path / "out/n-seed0/report", ignore_errors=True)
        assert command(*words, f"--evaluate={','.join(asked[name] for name in names)}") == 0
        return [line[2].removeprefix("--data=") for line in children.lines if line[0] == "evaluate"]

    assert scored("nih") == [f"{asked['nih']}@test"] and scored("nih") == []
    assert scored("nih", "rsna") == [f"{asked['rsna']}@test"]
    page = tmp_path / "out/results.md"
    assert "nih:" in page.read_text() and "rsna:" in page.read_text()
    assert scored("rsna") == [] and "nih:" not in page.read_text()
    prepare_again(tmp_path / "rsna")
    assert scored("rsna") == [f"{asked['rsna']}@test"] and scored("rsna") == []
    asked["rsna"] += "@train"
    assert scored("rsna") == [asked["rsna"]]
    for wrong, told in (("rsna:{}@five_by_200", "no split"), ("phantom:{}", "its own phantom data")):
        del children.lines[:]
        assert command(*words, f"--evaluate={wrong.format(tmp_path / 'rsna')}") in (1, 2)
        assert told in capsys.readouterr().err and not children.lines


def test_runs_of_other_records_are_not_mixed(
    children: Children, nih: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(nih, tmp_path / "data")
    assert command("--data=phantom", f"--output={tmp_path}", "--variants=n", "--steps=4") == 0
    prepare_again(tmp_path / "data")
    del children.lines[:]
    assert command("--data=phantom", f"--output={tmp_path}", "--variants=dt,n", "--steps=4") == 1
    told = capsys.readouterr().err
    assert f"was prepared again after {tmp_path / 'n-seed0'} was begun" in told and told.count("\n") == 1
    assert not children.lines


def test_two_do_not_work_in_one_folder(children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert command("--data=phantom", f"--output={tmp_path}") == 1
    assert "worked on by another process" in capsys.readouterr().err and not children.lines


@pytest.mark.parametrize("later", [False, True])
def test_when_asked_to_stop_it_stops_its_child_which_saves(
    later: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child, started = tmp_path / "python", tmp_path / "started"
    child.write_text(f"#!/bin/sh\ntrap 'echo saved; exit 75' TERM\n: > {started}\nwhile :; do sleep 0.05; done\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    begin = subprocess.Popen

    def begin_and_stop(*line: Any, **more: Any) -> subprocess.Popen[bytes]:
        """Begins the child; this process is asked to stop before it knows of it, or when it waits."""
        begun = begin(*line, **more)
        while not started.exists():
            time.sleep(0.02)
        stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
        threading.Timer(0.1, stop).start() if later else stop()
        return begun

    monkeypatch.setattr(subprocess, "Popen", begin_and_stop)
    assert command("--data=phantom", f"--output={tmp_path / 'out'}") == cli.PREEMPTED
    assert (tmp_path / "out/baseline-seed0.log").read_text() == "saved\n"
    assert "the same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "code", "words"),
    [
        ("--variants=n_g_dtgc", 2, "did you mean n_g_dtcg"),
        ("--variants=,", 2, "--variants is empty"),
        ("--seeds=one", 2, "whole numbers"),
        ("--steps=-1", 2, "whole number"),
        ("--config_arg=size=huge", 2, "config argument size=huge"),
        ("--config.lss.alpha=1", 2, "unknown config key"),
        ("--varients=n", 2, "did you mean --variants"),
    ],
)
def test_faults_are_told_before_anything_is_trained(
    children: Children, tmp_path: Path, flag: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--data=phantom", f"--output={tmp_path / 'out'}", flag) == code
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not children.lines and not (tmp_path / "out").exists()
