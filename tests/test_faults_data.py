"""Faults planted in fakes of every release are told: a sample of what `bench/faults_data.py` plants."""

import json
import random
from pathlib import Path

import benches
import fakes_labelled
import fault_cases
import faults_labelled
import judging
import pytest
from judging import Account, Fault

from clinicclip import cli, prepare
from clinicclip.data.releases import READERS

SEED, EACH = 5, 4


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Account]:
    """What an undamaged fake of each release says."""
    return {name: _whole(name, tmp_path_factory.mktemp(name)) for name in fault_cases.FAKES}


def _whole(name: str, folder: Path) -> Account:
    fake = fault_cases.FAKES[name]
    return judging.account(name, fake, fake.make(folder / "in"), folder / "out")


def _sample(name: str, root: Path) -> list[Fault]:
    fake = fault_cases.FAKES[name]
    planted = list(judging.grid(name, fake, fault_cases.used_images(name, fake, fake.make(root))))
    return random.Random(SEED).sample(planted, EACH)


def test_every_reader_of_files_has_a_fake_that_it_reads_whole(clean: dict[str, Account]) -> None:
    assert set(fault_cases.FAKES) == {name for name, reader in READERS.items() if not reader.GENERATED}
    assert not any(account.code for account in clean.values())


@pytest.mark.parametrize("name", fault_cases.FAKES)
def test_planted_faults_are_named_in_the_account_or_stop_with_a_clear_line(
    name: str, clean: dict[str, Account], tmp_path: Path
) -> None:
    fake = fault_cases.FAKES[name]
    for fault in _sample(name, tmp_path / "fake"):
        told = judging.judge(fault, fake, tmp_path / "planted", SEED, clean[name])
        assert told.handled, f"{fault.kind}: {told.how}: {told.words}"


@pytest.mark.parametrize("name", fault_cases.FAKES)
def test_a_dry_run_and_a_limit_account_for_all_there_is(
    name: str, tmp_path: Path, clean: dict[str, Account], capsys: pytest.CaptureFixture[str]
) -> None:
    fake = fault_cases.FAKES[name]
    root = fake.make(tmp_path / "in")
    argv = [name, f"--source={root}", f"--output={tmp_path / 'out'}", "--shorter_side=16"]
    argv += [option.format(root=root) for option in fake.options]
    assert cli.call(prepare.main, prepare.parser(), [*argv, "--dry_run"]) == 0
    told = capsys.readouterr().out
    assert not (tmp_path / "out").exists() and " would hold" in told
    for reason in {reason for _, reason in clean[name].drops}:
        lines = [line for line in told.splitlines() if line.split()[1:2] == [f"{reason}:"]]  # of reports, of images
        named = {identity for line in lines for identity in line.partition(": ")[2].split(", ")}
        assert named and named - {"..."} <= {identity for identity, why in clean[name].drops if why == reason}
    assert cli.call(prepare.main, prepare.parser(), [*argv, "--limit=2"]) == 0
    printed = capsys.readouterr().out
    assert ": 2 used" in printed and "not read (--limit)" in printed


def test_the_bench_ends_in_a_line_of_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = benches.load("faults_data")
    monkeypatch.setattr(bench, "QUICK", 3)
    assert bench.main(bench.parser().read(["--only=siim_acr", "--quick"])) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["name"] == "faults_data" and result["value"] == result["goal"] == 1.0
    assert table[-1].split()[:2] == ["all", str(result["detail"]["planted"])] == ["all", "3"]


def test_the_judge_tells_what_is_silent_unnamed_or_a_traceback(clean: dict[str, Account], tmp_path: Path) -> None:
    fake = fault_cases.FAKES["folder"]
    for how, plant in {
        "silent": lambda root, chance: ["nothing"],
        "unnamed": lambda root, chance: [(root / "images" / "3.png").unlink()] and ["elsewhere"],
        "dropped": lambda root, chance: [(root / "images" / "3.png").unlink()] and ["3.png"],
        "stopped": lambda root, chance: [(root / "pairs.jsonl").unlink()] and ["pairs.jsonl"],
    }.items():
        fault = Fault("folder", how, plant)
        assert judging.judge(fault, fake, tmp_path / "planted", 0, clean["folder"]).how == how


@pytest.mark.parametrize(("image", "how"), [(0, "flagged"), (1, "unnamed")])
def test_a_flag_tells_of_its_own_image_alone(image: int, how: str, clean: dict[str, Account], tmp_path: Path) -> None:
    def plant(root: Path, chance: random.Random) -> list[str]:
        faults_labelled.RSNA["box twice"](root, chance)
        return [fakes_labelled.RSNA[image]]

    fault = Fault("rsna", how, plant)
    assert judging.judge(fault, fault_cases.FAKES["rsna"], tmp_path / "planted", 0, clean["rsna"]).how == how
