"""The loader: order and draws are functions of (seed, step, study), however many processes and workers read."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import loading
import numpy as np
import pytest
from loading import FULL, LENGTH, SIZE, WIDTH, Loader, assert_equal, lockstep, make_record

from clinicclip.data import draws, images
from clinicclip.data.augment import STILL
from clinicclip.data.features import FeatureTable
from clinicclip.data.pipeline import HOST_ONLY, Batch, batch_shapes, examples
from clinicclip.data.schema import UNKNOWN, Record
from clinicclip.data.sources import Remembered
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError

# A loader with a worker process, killed while it reads.
KILLED = """
import dataclasses, os, signal
from loading import FULL, Loader, make_record
from clinicclip.data.tokenizer import train_wordpiece
def killed(work):
    os.kill(os.getpid(), signal.SIGKILL) if work() else None
lean = dataclasses.replace(FULL, text_features=False, graph=False)
load = Loader([make_record(i) for i in range(8)], train_wordpiece(["heart"], 300), None)
load(1, lean, workers=1, threads=1, everywhere=killed)
"""


@pytest.fixture(scope="module")
def source() -> list[Record]:
    return [make_record(i) for i in range(21)]


@pytest.fixture(scope="module")
def tokenizer(source: list[Record]) -> Tokenizer:
    return train_wordpiece([draws.report_text(record) for record in source], 300)


@pytest.fixture(scope="module")
def table(source: list[Record]) -> FeatureTable:
    texts = {text for r in source for text in (draws.report_text(r), *r["sentences"], *r["graph_tokens"])}
    rng = np.random.default_rng(0)
    return FeatureTable(sorted(texts), rng.normal(size=(len(texts), WIDTH)).astype(np.float32))


@pytest.fixture(scope="module")
def load(source: list[Record], tokenizer: Tokenizer, table: FeatureTable) -> Loader:
    return Loader(source, tokenizer, table)


def test_a_batch_has_the_documented_keys_shapes_and_types(load: Loader) -> None:
    (batch,) = load(1)
    rows = batch["text_ids"].shape[0]
    packed = {part: ((rows, LENGTH), "int32") for part in ("text_ids", "text_owner", "text_position")}
    flags = ("negated_valid", "text_valid", "labels_valid", "normal", "normal_valid", "graph_valid")
    expected = packed | {key: ((4,), "bool") for key in flags}
    expected |= {
        "image": ((4, SIZE, SIZE), "uint8"),
        "text_start": ((4,), "int32"),
        "negated_start": ((4,), "int32"),
        "text_feature": ((4, WIDTH), "float32"),
        "labels": ((4, 14), "float32"),
        "graph_nodes": ((4, 4, WIDTH + 4), "float32"),
        "graph_senders": ((4, 6), "int32"),
        "graph_receivers": ((4, 6), "int32"),
        "graph_mask": ((4, 4), "bool"),
        "id": ((4,), "<U3"),
    }
    arrays = {key: value for key, value in batch.items() if isinstance(value, np.ndarray)}
    assert {key: (value.shape, str(value.dtype)) for key, value in arrays.items()} == expected
    assert batch.keys() - arrays.keys() == set(HOST_ONLY) - {"id"}
    assert isinstance(batch["truncated"], int) and isinstance(batch["graphs_cut"], int)


def test_streams_switched_off_are_absent(load: Loader) -> None:
    (batch,) = load(1, dataclasses.replace(FULL, text_features=False, negation=False, graph=False), features=None)
    assert not [key for key in batch if key.startswith(("text_feature", "text_valid", "negated", "graph"))]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"graph": False, "negation": False},
        {"text_features": False},
        {"packed": False},
        {"claims": True, "label_sentences": 0.5},
        {"claims": True, "negation": False},
        {"text_mode": "report", "graph": False, "text_features": False},
    ],
    ids=str,
)
def test_the_shapes_told_beforehand_are_those_of_a_real_batch(load: Loader, changed: dict[str, Any]) -> None:
    spec = dataclasses.replace(FULL, **changed)
    (batch,) = load(1, spec, batch_size=8, groups=2)
    told = batch_shapes(spec, studies=8, groups=2, tokens=20, feature_width=WIDTH)
    real = {key: (value.shape, value.dtype) for key, value in batch.items() if key not in HOST_ONLY}
    if spec.packed:  # how many rows the texts fill is an estimate
        rows = {key: value for key, value in told.items() if key.endswith(("_ids", "_owner", "_position"))}
        real |= {key: ((shape[0], *real[key][0][1:]), real[key][1]) for key, (shape, _) in rows.items()}
    assert told == real


def test_first_ids_of_a_seed_are_pinned(load: Loader) -> None:
    first = [batch["id"].tolist() for batch in load(2)]
    assert first == [["i04", "i13", "i20", "i07"], ["i02", "i09", "i06", "i10"]]


def test_an_epoch_shows_every_study_once_and_the_next_in_another_order(load: Loader) -> None:
    ids = np.concatenate([batch["id"] for batch in load(21, batch_size=2)]).tolist()
    first, second = ids[:21], ids[21:]
    assert sorted(first) == sorted(second) == sorted(set(first))
    assert first != second


def test_two_processes_laid_end_to_end_make_the_batch_of_one(load: Loader) -> None:
    spec = dataclasses.replace(FULL, text_mode="report", text_length=30)
    everywhere = lockstep(2)

    def half(process: int) -> list[Batch]:
        return load(
            5, spec, batch_size=8, groups=2, process_count=2, process_index=process, everywhere=everywhere[process]
        )

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(half, (0, 1)))
    joined = []
    for first, second in zip(*halves, strict=True):
        counts = {key: first[key] for key in HOST_ONLY if key != "id"}
        assert counts == {key: second[key] for key in counts}
        joined.append({key: np.concatenate([first[key], second[key]]) for key in first if key not in counts} | counts)
    assert_equal(joined, load(5, spec, batch_size=8, groups=4))


def test_alone_processes_would_disagree_about_the_rows_their_texts_take(load: Loader) -> None:
    halves = [load(5, batch_size=8, process_count=2, process_index=process) for process in (0, 1)]
    rows = [[len(batch["text_ids"]) for batch in half] for half in halves]
    assert rows[0] != rows[1]


def test_threads_and_worker_processes_change_nothing(load: Loader) -> None:
    expected = load(6)
    assert_equal(load(6, threads=2), expected)
    assert_equal(load(6, workers=2, threads=1), expected)


def test_worker_processes_end_with_the_one_they_read_for_though_it_is_killed() -> None:
    folders = [Path(loading.__file__).parent, Path(loading.__file__).parents[2]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    line = [sys.executable, "-c", KILLED]
    ended = subprocess.run(line, env=environment, capture_output=True, timeout=60)  # until none holds its pipes
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_run_resumed_at_a_step_goes_on_as_if_never_stopped(load: Loader) -> None:
    expected = load(9)
    assert_equal(load(2, start_step=7), expected[7:])
    assert_equal(load(2, start_step=7, workers=1, threads=1), expected[7:])


def test_one_switch_moves_no_draw_of_the_others(load: Loader) -> None:
    lean = dataclasses.replace(FULL, text_features=False, negation=False, graph=False)
    packed = ("text_ids", "text_owner", "text_position")
    for full, less in zip(load(4), load(4, lean), strict=True):
        for key in set(less) - {"truncated", *packed}:
            np.testing.assert_array_equal(full[key], less[key], err_msg=key)
        assert texts_of(full)["text"] == texts_of(less)["text"]


def test_seeds_change_order_and_draws(load: Loader) -> None:
    one, other = (load(5, seed=seed, batch_size=20)[0] for seed in (7, 8))
    assert one["id"].tolist() != other["id"].tolist()
    same = np.intersect1d(one["id"], other["id"], return_indices=True)
    pairs = zip(one["image"][same[1]], other["image"][same[2]], strict=True)
    assert not any(np.array_equal(a, b) for a, b in pairs)


def texts_of(batch: Batch, groups: int = 1) -> dict[str, list[list[int]]]:
    """The tokens of every text, by kind, as packed; of a study whose text of a kind is not valid, nothing."""
    ids, owner, position = (batch[f"text_{part}"].reshape(groups, -1) for part in ("ids", "owner", "position"))
    kinds, size = [kind for kind in ("text", "negated") if f"{kind}_start" in batch], len(batch["id"]) // groups
    found: dict[str, list[list[int]]] = {kind: [] for kind in kinds}
    for place, kind in enumerate(kinds):
        for study, start in enumerate(batch[f"{kind}_start"]):
            group, number = study // size, place * size + study % size + 1
            at = np.flatnonzero(owner[group] == number)
            found[kind].append(ids[group, at].tolist())
            if len(at):
                np.testing.assert_array_equal(at, start + np.arange(len(at)))
                np.testing.assert_array_equal(position[group, at], np.arange(len(at)))
            else:
                assert kind == "negated" and not batch["negated_valid"][study] and start == batch["text_start"][study]
    assert sum(len(text) for kind in kinds for text in found[kind]) == (owner > 0).sum()
    return found


def test_packed_and_plain_batches_hold_the_same_texts(load: Loader) -> None:
    for packed, twin in zip(load(4, groups=2), load(4, dataclasses.replace(FULL, packed=False), groups=2), strict=True):
        assert texts_of(packed, 2) == texts_of(twin, 2)
        assert packed["text_ids"].shape[0] <= twin["text_ids"].shape[0] == 8


def test_report_mode_shows_the_whole_report_and_the_stored_negation(
    load: Loader, source: list[Record], tokenizer: Tokenizer, table: FeatureTable
) -> None:
    spec = dataclasses.replace(FULL, text_mode="report", packed=False, augment=STILL)
    by_id = {record["image_id"]: record for record in source}
    for batch in load(6, spec):
        shown = texts_of(batch)
        for k, name in enumerate(batch["id"]):
            record = by_id[name]
            report = draws.report_text(record)
            assert [shown["text"][k]] == tokenizer.encode([report], LENGTH)[0]
            vector = table.lookup([report])[0]
            np.testing.assert_allclose(batch["text_feature"][k], vector / np.linalg.norm(vector), rtol=1e-5)
            negated = tokenizer.encode([record["negated"]], LENGTH)[0] if record["negated"] else [[]]
            assert [shown["negated"][k]] == negated
            assert batch["negated_valid"][k] == bool(record["negated"])
            assert batch["normal"][k] == (record["normal"] == 1) and batch["labels_valid"][k]
            np.testing.assert_array_equal(batch["labels"][k], record["labels"] == 1)
            np.testing.assert_array_equal(batch["image"][k], images.resize(images.decode(record["image"]), SIZE))
            assert batch["graph_valid"][k] == bool(record["graph_tokens"])


def test_sentence_mode_draws_subsets_in_order_with_their_own_feature_labels_and_negation(
    source: list[Record], tokenizer: Tokenizer, table: FeatureTable
) -> None:
    record = next(r for r in source if sum(r["sentence_polarity"][i] == 1 for i in range(len(r["sentences"]))) == 3)
    draw = draws.DrawStudy(dataclasses.replace(FULL, augment=STILL), tokenizer, table)
    said = draws.sentences(record)
    subsets = {}
    for seed in range(40):
        study = draw.random_map(record, np.random.default_rng(seed))
        subsets[tuple(study["text_tokens"])] = study
    expected = {}
    for mask in range(1, 2 ** len(said)):
        chosen = [s for i, s in enumerate(said) if mask >> i & 1]
        ((tokens,), _) = tokenizer.encode([" ".join(s.text for s in chosen)], LENGTH)
        expected[tuple(tokens)] = chosen
    assert set(subsets) <= set(expected) and len(subsets) > 4
    for tokens, study in subsets.items():
        chosen = expected[tokens]
        mean = table.lookup([s.text for s in chosen]).mean(0)
        np.testing.assert_allclose(study["text_feature"], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-6)
        present = {s.finding for s in chosen if s.polarity == 1}
        assert all(study["labels"][finding] == 1 for finding in present)
        assert study["labels"].sum() <= 3 * len(present)
        assert study["negated_valid"] and study["negated_tokens"] != study["text_tokens"]


def test_studies_without_labels_or_a_known_normal_are_not_valid(load: Loader, source: list[Record]) -> None:
    blank = [record | {"labels": np.full(14, UNKNOWN, np.int8), "normal": UNKNOWN} for record in source]
    (batch,) = load(1, source=blank)
    assert not batch["labels_valid"].any() and not batch["normal_valid"].any()
    assert not batch["labels"].any() and not batch["normal"].any()


def test_cut_texts_and_graphs_are_counted(load: Loader, source: list[Record]) -> None:
    spec = dataclasses.replace(FULL, text_mode="report", text_length=6, graph_nodes=2)
    (batch,) = load(1, spec, batch_size=21)
    assert batch["truncated"] == 21
    assert batch["graphs_cut"] == sum(bool(record["graph_tokens"]) for record in source)


def test_examples_come_once_in_order_as_evaluation_sees_them(source: list[Record]) -> None:
    chunks = list(examples(source, SIZE, chunk=8))
    assert [len(pixels) for pixels, _ in chunks] == [8, 8, 5]
    assert [record["image_id"] for _, found in chunks for record in found] == [r["image_id"] for r in source]
    assert np.array_equal(chunks[0][0][3], images.resize(images.decode(source[3]["image"]), SIZE))


class Counting(list[Record]):
    """A source that counts how often it is read."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


def test_remembered_records_are_read_once_within_the_budget(load: Loader, source: list[Record]) -> None:
    counting = Counting(source)
    assert_equal(load(12, source=Remembered(counting, 2**20)), load(12))
    assert counting.reads == 21
    size = max(len(record["image"]) for record in source) + Remembered.BESIDES_IMAGE
    counting.reads, some = 0, Remembered(counting, 5 * size)
    assert [some[i]["image_id"] for i in range(21)] == [some[i]["image_id"] for i in range(21)]
    assert 21 < counting.reads <= 42 - 5


def test_a_remembered_source_travels_without_what_it_keeps(source: list[Record]) -> None:
    remembered = Remembered(source[:1], 2**20)
    before = len(pickle.dumps(remembered))
    assert remembered[0]["image_id"] == "i00"
    assert len(pickle.dumps(remembered)) == before and len(pickle.loads(pickle.dumps(remembered))) == 1


def test_what_cannot_be_loaded_is_refused_in_one_line(load: Loader, source: list[Record]) -> None:
    with pytest.raises(UserError, match="not divisible by 6"):
        load(1, batch_size=8, groups=3, process_count=2)
    with pytest.raises(UserError, match="holds only 21 studies"):
        load(1, batch_size=24)
    with pytest.raises(UserError, match="feature table"):
        load(1, features=None)
    with pytest.raises(UserError, match="one of report, sentences"):
        dataclasses.replace(FULL, text_mode="words")
    with pytest.raises(UserError, match="0 or 1"):
        dataclasses.replace(FULL, uncertain=2)
    with pytest.raises(UserError, match="prepare again"):
        load(1, dataclasses.replace(FULL, text_mode="report", negation_generator="llm"), batch_size=21)


def test_data_works_where_jax_cannot_be_imported() -> None:
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "import importlib, pkgutil, clinicclip.data as data\n"
        "names = [m.name for m in pkgutil.walk_packages(data.__path__, 'clinicclip.data.')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=root)
    assert run.returncode == 0 and int(run.stdout) > 10, run.stderr
