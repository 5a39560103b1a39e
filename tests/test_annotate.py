"""Frozen features: what a BERT says of texts and of nodes in their report, stored beside the data, found again."""

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip import annotate, assemble, cli, dataset, frozen, importing, prepare
from clinicclip import config as config_files
from clinicclip.data import builder, draws, features, packing, records
from clinicclip.data.features import FeatureTable, TfidfSvd
from clinicclip.data.manifest import read_manifest
from clinicclip.data.schema import Graph
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.bert import Bert

ROOT = Path(__file__).parents[1]
write_bert = runpy.run_path(str(ROOT / "tests" / "support" / "bert_folder.py"))["write"]
POSITIONS = 40  # of the small BERT
TEXTS = ("the heart is normal", "lungs are clear and the heart is normal in size and no effusion", "", "clear")
GRAPH = Graph(
    ("small", "left", "pleural", "effusion", ".", "no", "effusion"), ((0, 0), (1, 2), (3, 3), (6, 6)), (1, 0, 1, 3), ()
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    write_bert(path)
    return path


def states(folder: Path, ids: Sequence[int]) -> np.ndarray:
    """The slow twin: one sequence alone, without packing."""
    spec, params = importing.load_text_tower(folder, pooling="mean")
    one = map(jnp.asarray, packing.plain([list(ids)], len(ids))[:3])
    return np.asarray(Bert(spec).apply({"params": jax.tree.map(jnp.asarray, params)}, *one))[0]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_a_text_is_the_mean_of_its_token_states(folder: Path) -> None:
    found = frozen.Tower(folder).texts(TEXTS)
    tokenizer = Tokenizer.load(folder)
    for text, vector in zip(TEXTS, found, strict=True):
        (ids,), _ = tokenizer.encode([text], POSITIONS)
        np.testing.assert_allclose(vector, unit(states(folder, ids).mean(0)), atol=1e-3)
    assert found.dtype == np.float16


def test_a_node_is_the_mean_over_its_pieces_read_in_the_report(folder: Path) -> None:
    tower, tokenizer = frozen.Tower(folder), Tokenizer.load(folder)
    other = GRAPH._replace(tokens=("no", *GRAPH.tokens[1:]))
    found = tower.spans([GRAPH, Graph((), (), (), ()), other])
    pieces = [ids[1:-1] for ids in tokenizer.encode(list(GRAPH.tokens), POSITIONS)[0]]
    (whole,), _ = tokenizer.encode([" ".join(GRAPH.tokens)], POSITIONS)
    assert whole[1:-1] == [piece for word in pieces for piece in word]
    read = states(folder, whole)[1:-1]
    starts = np.cumsum([0, *map(len, pieces)])
    assert starts[-1] > len(GRAPH.tokens)  # some word has several pieces
    for vector, (first, last) in zip(found[: len(GRAPH.spans)], GRAPH.spans, strict=True):
        np.testing.assert_allclose(vector, unit(read[starts[first] : starts[last + 1]].mean(0)), atol=1e-3)
    assert len(found) == 8
    assert np.abs(found[2] - found[3]).max() > 0.01  # the same word elsewhere
    assert np.abs(found[2] - found[6]).max() > 0.01  # and in another report


def test_a_report_beyond_the_models_positions_is_read_in_windows(folder: Path) -> None:
    tower, tokenizer = frozen.Tower(folder), Tokenizer.load(folder)
    tokens = GRAPH.tokens * 9
    pieces = [piece for ids in tokenizer.encode(list(tokens), POSITIONS)[0] for piece in ids[1:-1]]
    (cls, sep), room = tokenizer.encode([""], 2)[0][0], POSITIONS - 2
    assert len(pieces) > 2 * room
    windows = [pieces[i : i + room] for i in range(0, len(pieces), room)]
    read = np.concatenate([states(folder, [cls, *window, sep])[1:-1] for window in windows])
    (whole,) = tower.spans([Graph(tokens, ((0, len(tokens) - 1),), (1,), ())])
    np.testing.assert_allclose(whole, unit(read.mean(0)), atol=1e-3)


def test_a_word_without_pieces_has_no_direction(folder: Path) -> None:
    found = frozen.Tower(folder).spans([Graph(("\u200b", "clear"), ((0, 0), (1, 1)), (1, 1), ())])
    assert not found[0].any() and np.isclose(np.linalg.norm(found[1].astype(np.float32)), 1, atol=1e-2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("data") / "out"
    builder.write("phantom", output, options={"level": "easy", "studies": 60, "size": 64})
    return output


def everything(data: Path, split: str) -> tuple[list[str], list[Graph]]:
    stored = list(builder.open_source(data, split))
    texts = [draws.report_text(record) for record in stored] + [text for r in stored for text in r["sentences"]]
    return texts, [records.stored_graph(record) for record in stored]


def test_what_is_stored_is_what_the_model_says_of_every_split(data: Path, folder: Path) -> None:
    manifest = read_manifest(data)
    place = annotate.store(data, manifest, str(folder))
    table = annotate.find(data, annotate.tower_facts(manifest, str(folder)))
    assert table is not None and table.in_context and place.parent == data / "features"
    texts, graphs = everything(data, "train+validation+test")
    tower = frozen.Tower(folder)
    np.testing.assert_allclose(table.lookup(texts), tower.texts(texts), atol=1e-3)
    np.testing.assert_allclose(np.concatenate([table.nodes(graph) for graph in graphs]), tower.spans(graphs), atol=1e-3)
    distinct = {*texts, *(key for graph in graphs for key in features.node_keys(graph, in_context=True))}
    assert len(table) == len(distinct)
    read_manifest(data, checksums=True)  # the shards are as they were


def test_tfidf_is_fitted_on_the_training_split_alone(data: Path) -> None:
    manifest = read_manifest(data)
    annotate.store(data, manifest, "tfidf", train="train", dim=24)
    table = annotate.find(data, annotate.tfidf_facts(manifest, "train", 24, 0))
    reports = [draws.report_text(record) for record in builder.open_source(data, "train")]
    _, graphs = everything(data, "train")
    fitted = TfidfSvd.fit(reports, 24, 0)
    assert table is not None and not table.in_context
    np.testing.assert_array_equal(table.lookup(reports), fitted.transform(reports))
    np.testing.assert_array_equal(
        table.nodes(graphs[0]), fitted.transform(features.node_keys(graphs[0], in_context=False))
    )


def test_only_features_of_this_model_and_this_data_are_found(data: Path, folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data)
    annotate.store(data, manifest, str(folder))
    other = tmp_path / "other"
    write_bert(other, seed=1)
    changed = manifest | {"files": {"x": {}}}
    assert annotate.find(data, annotate.tower_facts(manifest, str(folder))) is not None
    assert annotate.find(data, annotate.tower_facts(manifest, str(other))) is None
    assert annotate.find(data, annotate.tower_facts(changed, str(folder))) is None
    assert annotate.find(data, annotate.tfidf_facts(manifest, "train[:50%]", 24, 0)) is None


def test_a_killed_computation_is_not_found_and_goes_on_where_it_stopped(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "RECORDS_PER_PART", 16)
    source, facts = builder.open_source(data, "train"), {"model": {"kind": "tower"}}
    fresh = annotate.make(tmp_path / "fresh", source, frozen.Tower(folder), facts)

    class Killed(frozen.Tower):
        calls = 0

        def texts(self, texts: Sequence[str]) -> np.ndarray:
            Killed.calls += 1
            if Killed.calls == 2:
                raise KeyboardInterrupt
            return super().texts(texts)

    place = annotate.place(tmp_path, facts)
    with pytest.raises(KeyboardInterrupt):
        annotate.make(place, source, Killed(folder), facts)
    assert annotate.find(tmp_path, facts) is None
    again = annotate.make(place, source, Killed(folder), facts)
    assert Killed.calls == 1 + -(-len(source) // 16)  # the first part was kept
    texts, graphs = everything(data, "train")
    np.testing.assert_allclose(again.lookup(texts), fresh.lookup(texts), atol=1e-3)
    np.testing.assert_allclose(again.nodes(graphs[-1]), fresh.nodes(graphs[-1]), atol=1e-3)


def test_work_begun_for_something_else_is_not_gone_on_with(data: Path, folder: Path, tmp_path: Path) -> None:
    source = builder.open_source(data, "train")
    annotate.make(tmp_path / "out", source, frozen.Tower(folder), {"model": 1}, ("reports",))
    table = annotate.make(tmp_path / "out", source, frozen.Tower(folder), {"model": 2}, ("sentences",))
    sentences = {text for record in source for text in record["sentences"]}
    assert len(table) == len(sentences)


@pytest.mark.parametrize("streams", [("reports",), ("sentences",), ("nodes",)])
@pytest.mark.parametrize("kind", ["tfidf", "tower"])
def test_parts_without_anything_new_are_empty(
    streams: tuple[str], kind: str, data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "RECORDS_PER_PART", 2)
    source = builder.open_source(data, "train")
    twice = builder.open_source(data, "train[:4]+train[:4]")
    model = frozen.Tower(folder) if kind == "tower" else frozen.Tfidf(annotate.fit_tfidf(source, 8, 0))
    table = annotate.make(tmp_path / "out", twice, model, {}, streams)
    assert len(table) == len(
        annotate.make(tmp_path / "once", builder.open_source(data, "train[:4]"), model, {}, streams)
    )


def run_config(data: Path, model_features: str) -> Any:
    config = config_files.load("configs/g_dtcg.py:demo", [("model.features", model_features)])
    config.data.dir = str(data)
    config.model.feature_dim = 24
    return config


@pytest.mark.parametrize("kind", ["tfidf", "tower"])
def test_a_run_uses_what_is_stored_and_else_computes_the_same(
    kind: str, data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "tfidf" if kind == "tfidf" else str(folder)
    manifest, config = read_manifest(data), run_config(data, wanted)
    source = builder.open_source(data, "train")
    with monkeypatch.context() as patch:
        patch.setattr(annotate, "find", lambda *_: None)
        computed = dataset.frozen_features(config, manifest, source, tmp_path)
    assert computed is not None and (tmp_path / "features").is_dir()
    again = dataset.stored_features(config, manifest, tmp_path)
    annotate.store(data, manifest, wanted, dim=24)
    used = dataset.frozen_features(config, manifest, source, tmp_path / "other")
    found = dataset.stored_features(config, manifest, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    for record in list(source)[:8]:
        graph = records.stored_graph(record)
        for table in (again, used, found):
            assert isinstance(table, FeatureTable)
            np.testing.assert_allclose(
                table.lookup(record["sentences"]), computed.lookup(record["sentences"]), atol=1e-3
            )
            np.testing.assert_allclose(table.nodes(graph), computed.nodes(graph), atol=1e-3)


def test_features_a_run_began_with_and_that_are_gone_are_told(data: Path, folder: Path, tmp_path: Path) -> None:
    config = run_config(data, "tfidf")
    config.seed = 77
    with pytest.raises(UserError, match="are gone"):
        dataset.stored_features(config, read_manifest(data), tmp_path)


def test_a_folder_gives_the_width_of_the_features(data: Path, folder: Path) -> None:
    config = run_config(data, str(folder))
    assemble.resolve_widths(config, 100)
    assert config.model.feature_dim == 16
    config.model.features = "nowhere"
    with pytest.raises(UserError, match=r"model\.features='nowhere': one of tower, tfidf, or the folder"):
        assemble.resolve_widths(config, 100)


def test_prepare_stores_features_of_data_prepared_before(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["phantom", "--level=easy", "--studies=60", "--size=64", f"--output={data}"]
    assert cli.call(prepare.main, prepare.parser(), [*argv, "--features=tfidf", "--feature_dim=12"]) == 0
    place = capsys.readouterr().out.strip().splitlines()[-1].rpartition(": ")[2]
    told = json.loads((Path(place) / "features.json").read_text())
    assert told["facts"]["model"] == {"kind": "tfidf", "fitted_on": "train", "dim": 12, "seed": 0}
    for wrong, words in (("--features=nowhere", "no folder nowhere"), ("--train=fold1", "no split 'fold1'")):
        extra = [wrong] if "features" in wrong else ["--features=tfidf", wrong]
        assert cli.call(prepare.main, prepare.parser(), [*argv, *extra]) == 1
        assert words in capsys.readouterr().err
