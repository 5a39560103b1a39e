"""Records that do not read back are skipped, named, counted and bounded, and nothing else of a run moves."""

import dataclasses
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import benches
import damaged
import grain
import numpy as np
import pytest
from loading import FULL, LENGTH, WIDTH, Loader, assert_equal, lockstep, make_record
from ml_collections import ConfigDict

from clinicclip import config as config_files
from clinicclip import files, train
from clinicclip.data import builder, draws
from clinicclip.data.features import FeatureTable
from clinicclip.data.records import CorruptRecord
from clinicclip.data.schema import Record
from clinicclip.data.tokenizer import train_wordpiece
from clinicclip.errors import UserError
from clinicclip.skipped import Skipped
from clinicclip.training import segments
from clinicclip.training.metrics import NoWriter

CORRUPT, UNDECODABLE, INCOMPLETE = 3, 7, 9
BATCH = 16


@pytest.fixture(scope="module")
def data_dir(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of which three training records are damaged."""
    folder = shutil.copytree(phantom, tmp_path_factory.mktemp("damaged") / "data")
    changes = {UNDECODABLE: damaged.without_picture, INCOMPLETE: damaged.without_sex}
    damaged.rewrite(folder, "train", changes)
    damaged.flip(folder, "train", CORRUPT)
    return folder


def tiny(data_dir: Path, limit: int) -> ConfigDict:
    """A short run's settings."""
    steps = {"total_steps": 9, "checkpoint_every": 0, "evaluate_every": 0, "batch_size": BATCH}
    settings = benches.load("faults").SETTINGS | steps | {"data.dir": data_dir, "data.max_corrupt": limit}
    return config_files.load("configs/n_g_dtcg.py:demo", [(key, str(value)) for key, value in settings.items()])


def test_a_record_that_does_not_read_back_is_named_and_the_others_are_read(data_dir: Path) -> None:
    source = builder.open_source(data_dir, "train")
    for number, why in {CORRUPT: "hash mismatch", INCOMPLETE: "the field 'sex' is missing"}.items():
        with pytest.raises(CorruptRecord, match=rf"split train: record {number} cannot be read .*{why}.*prepare"):
            source[number]
    assert all(source[number] for number in range(len(source)) if number not in (CORRUPT, INCOMPLETE))


@pytest.fixture(scope="module")
def source() -> list[Record]:
    return [make_record(i) for i in range(21)]


@pytest.fixture(scope="module")
def load(source: list[Record]) -> Loader:
    texts = {text for r in source for text in (draws.report_text(r), *r["sentences"], *r["graph_tokens"])}
    vectors = np.random.default_rng(0).normal(size=(len(texts), WIDTH)).astype(np.float32)
    return Loader(source, train_wordpiece(sorted(texts), 300), FeatureTable(sorted(texts), vectors))


def _by_study(rows: np.ndarray) -> np.ndarray:
    """Rows of studies; of texts, the reports' rows are followed by those of the negated ones."""
    return rows.reshape(-1, 4, LENGTH).swapaxes(0, 1) if rows.shape[1:] == (LENGTH,) else rows


def test_a_study_that_cannot_be_read_is_masked_and_no_other_row_moves(load: Loader, source: list[Record]) -> None:
    spec, seen = dataclasses.replace(FULL, packed=False), []
    for whole, part in zip(
        load(6, spec),
        load(6, spec, source=damaged.Source(source, corrupt=CORRUPT, undecodable=UNDECODABLE)),
        strict=True,
    ):
        odd = np.isin(whole["id"], [f"i{CORRUPT:02}", f"i{UNDECODABLE:02}"])
        assert part["skipped"] == len(part["corrupt"]) == odd.sum()
        seen += part["corrupt"]
        assert ("valid" in part) == odd.any()
        if odd.any():
            np.testing.assert_array_equal(part.pop("valid"), ~odd)
        for key in whole.keys() - {"skipped", "corrupt", "truncated", "graphs_cut", "text_start", "negated_start"}:
            found, expected = (_by_study(batch[key]) for batch in (part, whole))
            np.testing.assert_array_equal(found[~odd], expected[~odd], err_msg=key)
    assert sorted(set(seen)) == [CORRUPT, UNDECODABLE]


def test_processes_and_workers_agree_on_what_is_skipped(load: Loader, source: list[Record]) -> None:
    broken, everywhere = damaged.Source(source, corrupt=CORRUPT, undecodable=UNDECODABLE), lockstep(2)
    whole = load(6, batch_size=8, groups=2, source=broken)
    assert_equal(load(6, batch_size=8, groups=2, source=broken, workers=1, threads=1), whole)
    assert_equal(load(2, batch_size=8, groups=2, source=broken, start_step=4), whole[4:])

    def half(process: int) -> list[dict]:
        return load(
            6, batch_size=8, process_count=2, process_index=process, everywhere=everywhere[process], source=broken
        )

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(half, (0, 1)))
    assert any(batch["skipped"] for batch in whole)
    for one, first, second in zip(whole, *halves, strict=True):
        for key in ("skipped", "corrupt"):
            assert first[key] == second[key] == one[key]
        assert ("valid" in first) == ("valid" in second) == ("valid" in one)
        if "valid" in one:
            np.testing.assert_array_equal(np.concatenate([first["valid"], second["valid"]]), one["valid"])


class Faults(NoWriter):
    """Keeps what would be stored."""

    def fault(self, record: Any) -> None:
        self.told = record


def test_more_than_the_limit_in_a_pass_stops_also_where_the_run_was_resumed(source: list[Record]) -> None:
    writer = Faults()
    counted = Skipped(writer, source, 2, 7, {})  # three steps a pass
    assert [counted.add(now, 1, [now]) for now in (1, 2)] == [1, 2]
    resumed = Skipped(writer, source, 2, 7, counted.facts)
    assert resumed.add(3, 0, []) == 2
    assert [resumed.add(now, 1, [now]) for now in (4, 5)] == [3, 4]  # of the next pass
    with pytest.raises(
        UserError, match=r"step 6: 3 studies .* data.max_corrupt=2; the last are record 20 \(image i20\)"
    ):
        resumed.add(6, 1, [20])
    assert writer.told == {"step": 6, "skipped": 5, "skipped_in_pass": 3, "records": ["record 20 (image i20)"]}


def test_a_run_goes_on_past_corrupt_records_up_to_the_limit(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"2 of 131 records of data.train=train cannot be read.*max_corrupt=1"):
        train.train(tiny(data_dir, 1), tmp_path)
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(UserError, match=r"3 studies of this pass .* more than data.max_corrupt=2"):
        train.train(tiny(data_dir, 2), tmp_path)
    order = list(islice(grain.MapDataset.range(131).shuffle(seed=0), 131))
    bad = np.isin(order, [CORRUPT, UNDECODABLE, INCOMPLETE])
    last = int(np.flatnonzero(bad)[-1]) // BATCH + 1
    told = json.loads((tmp_path / "fault.json").read_text())
    assert told["step"] == last and told["skipped"] == 3
    steps = segments.read(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in steps] == list(range(1, last))
    assert [r["metrics"]["skipped"] for r in steps] == [bad[: BATCH * now].sum() for now in range(1, last)]
    image = builder.open_source(data_dir, "train")[UNDECODABLE]["image_id"]
    said = capsys.readouterr().out
    for name in (f"record {UNDECODABLE} (image {image})", f"record {CORRUPT}", f"record {INCOMPLETE}"):
        assert re.search(rf"left out, as they cannot be read:.* {re.escape(name)}(,|$)", said, re.MULTILINE)


def test_nothing_corrupt_is_evaluated(data_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data_dir, tmp_path / "data")
    damaged.rewrite(folder, "test", {})
    damaged.flip(folder, "test", 1)
    with pytest.raises(CorruptRecord, match="split test: record 1 cannot be read"):
        train.train(tiny(folder, 3), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [files.LOCK]
