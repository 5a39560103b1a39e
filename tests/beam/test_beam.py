"""`prepare --runner=DirectRunner`: real Apache Beam makes the shards that `prepare` makes by itself."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import chexbert_folder
import fault_cases
import numpy as np
import pytest
from PIL import Image

from clinicclip import cli, prepare
from clinicclip.data import beam, builder, shards
from clinicclip.data.manifest import MANIFEST
from clinicclip.data.records import Recipe
from clinicclip.errors import UserError

DIRECT = beam.Runner("DirectRunner")
REPORTS = ("FINDINGS: The heart is enlarged. No pleural effusion.", "IMPRESSION: Clear lungs.", "")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pairs in three splits, of which a third lacks its report, one its image, and one stands there twice."""
    root = tmp_path_factory.mktemp("release")
    rows: list[dict[str, Any]] = []
    for i in range(40):
        noise = np.random.default_rng(i).integers(0, 255, (40, 48))
        Image.fromarray(noise.astype(np.uint8)).save(root / f"{i}.png")
        rows.append({"image": f"{i}.png", "text": REPORTS[i % 3], "patient": f"p{i // 2}"})
    (root / "3.png").unlink()
    rows.append(rows[7])
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "RECORDS_PER_SHARD", 7)


@pytest.mark.parametrize("limit", [0, 9])
def test_beam_prepares_what_one_process_prepares(source: Path, tmp_path: Path, limit: int) -> None:
    settings = {"source": source, "shorter_side": 32, "limit": limit}
    alone = builder.write("folder", tmp_path / "alone", **settings)
    together = builder.write("folder", tmp_path / "together", **settings, runner=DIRECT)
    assert together == alone  # counts, reasons, shard names, sha256 of every file
    assert (tmp_path / "together" / MANIFEST).read_bytes() == (tmp_path / "alone" / MANIFEST).read_bytes()
    assert sum(name.endswith("array_record") or ".array_record-" in name for name in alone["files"]) > 1


@pytest.mark.parametrize("reader", ["mimic_cxr", "openi", "chexpert", "chestxray14", "rsna", "padchest", "cxr_align"])
def test_beam_prepares_every_kind_of_release(reader: str, tmp_path: Path) -> None:
    """mimic_cxr is joined to RadGraph's graphs and labelled by CheXbert, chexpert has its 5x200 set."""
    fake = fault_cases.FAKES[reader]
    root = fake.make(tmp_path / "release")
    options = [option.format(root=root) for option in fake.options]
    if reader == "mimic_cxr":
        chexbert_folder.write(tmp_path / "chexbert")
        options.append(f"--labeller={tmp_path / 'chexbert'}")
    for place, more in {"alone": [], "together": ["--runner=DirectRunner"]}.items():
        argv = [reader, f"--source={root}", f"--output={tmp_path / place}", "--shorter_side=32", *options, *more]
        assert cli.call(prepare.main, prepare.parser(), argv) == 0
    assert (tmp_path / "together" / MANIFEST).read_bytes() == (tmp_path / "alone" / MANIFEST).read_bytes()


def test_every_shard_is_made_by_the_pipeline(source: Path, tmp_path: Path) -> None:
    tasks = partial(builder._listed, "folder", {"source": source}, [], tmp_path, Recipe(), 0)
    beam.make_shards(tasks, DIRECT)
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    summaries = list(map(shards.make, tasks()))  # finds them, or would write them
    assert len(summaries) > 3 and {summary.file for summary in summaries} <= {*made, ""}
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_the_command_takes_a_runner(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["folder", f"--source={source}", f"--output={tmp_path / 'out'}", "--runner=DirectRunner"]
    assert cli.call(prepare.main, prepare.parser(), [*flags, "--beam_options=--direct_num_workers=1"]) == 0
    assert "26 used" in capsys.readouterr().out


def test_a_fault_on_a_worker_is_one_line(tmp_path: Path) -> None:
    def tasks() -> Iterator[shards.Task]:
        raise UserError("folder: pairs.jsonl line 3: lacks patient")
        yield

    with pytest.raises(
        UserError, match=r"the Beam worker \S+ sees no folder /nowhere: give --source and --output on a"
    ):
        beam.make_shards(tasks, DIRECT, Path("/nowhere"))
    with pytest.raises(UserError) as caught:
        beam.make_shards(tasks, DIRECT, tmp_path)
    assert str(caught.value) == "folder: pairs.jsonl line 3: lacks patient"
