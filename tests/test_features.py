"""Frozen features: tables by text, TF-IDF with SVD; both come back from disk as they were."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from clinicclip.data import features
from clinicclip.data.features import FeatureTable, TfidfSvd
from clinicclip.data.schema import Graph
from clinicclip.errors import UserError

TEXTS = (
    "heart is enlarged",
    "no pleural effusion",
    "small pleural effusion",
    "lungs are clear",
    "lungs are clear and the heart is normal",
)


@pytest.fixture
def table() -> FeatureTable:
    return FeatureTable(TEXTS, np.arange(15, dtype=np.float32).reshape(5, 3))


def test_lookup_returns_each_text_its_own_vector(table: FeatureTable) -> None:
    found = table.lookup([TEXTS[3], TEXTS[0], TEXTS[3]])
    assert found.tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]
    assert table.lookup([]).shape == (0, 3) and table.width == 3 and len(table) == 5


def test_repeated_texts_take_one_row() -> None:
    twice = FeatureTable(["a", "b", "a"], np.array([[1.0], [2.0], [1.0]], np.float32))
    assert len(twice) == 2 and twice.lookup(["a", "b"]).tolist() == [[1.0], [2.0]]


def test_unknown_texts_are_counted_and_not_shown(table: FeatureTable) -> None:
    with pytest.raises(UserError, match="2 of 3 texts") as caught:
        table.lookup(["secret one", TEXTS[0], "secret two"])
    assert "secret" not in str(caught.value)


def stored(folder: Path, *, in_context: bool = False) -> FeatureTable:
    """TEXTS in two parts, the second of which repeats a text."""
    rows = np.arange(18, dtype=np.float16).reshape(6, 3)
    features.write_part(folder / features.part_name(0), TEXTS[:2], rows[:2])
    features.write_part(folder / features.part_name(1), (TEXTS[0], *TEXTS[2:]), rows[[5, 2, 3, 4]])
    features.finish(folder, 2, in_context=in_context, facts={"model": "any"})
    return FeatureTable.load(folder)


def test_a_table_comes_back_from_its_parts_and_pickle_without_its_texts(table: FeatureTable, tmp_path: Path) -> None:
    whole = stored(tmp_path)
    for copy in (whole, pickle.loads(pickle.dumps(whole)), pickle.loads(pickle.dumps(table))):
        assert np.array_equal(copy.lookup(TEXTS), table.lookup(TEXTS)) and (len(copy), copy.width) == (5, 3)
        assert copy.lookup(TEXTS).dtype == np.float32
    assert not any(b"heart" in path.read_bytes() for path in tmp_path.iterdir())
    assert tmp_path.name.encode() in pickle.dumps(whole)  # the folder, instead of vectors
    assert whole._parts[0].tobytes() not in pickle.dumps(whole)


@pytest.mark.parametrize("harm", ["features.json", "part-00001.safetensors"])
def test_a_table_that_is_not_whole_is_refused(harm: str, tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / harm).unlink()
    with pytest.raises(UserError, match="not whole"):
        FeatureTable.load(tmp_path)


def test_nodes_are_found_by_their_words_or_by_their_place_in_the_report() -> None:
    graph = Graph(("small", "effusion", "and", "effusion"), ((0, 1), (3, 3), (1, 1)), (1, 1, 1), ())
    alone = features.node_keys(graph, in_context=False)
    assert alone == ["small effusion", "effusion", "effusion"]
    placed = features.node_keys(graph, in_context=True)
    assert len(set(placed)) == 3
    assert not set(placed) & set(features.node_keys(graph._replace(tokens=("no", *graph.tokens[1:])), in_context=True))
    for keys, in_context in ((alone, False), (placed, True)):
        table = FeatureTable(keys, np.arange(3, dtype=np.float32)[:, None], in_context=in_context)
        assert np.array_equal(table.nodes(graph), table.lookup(keys))


def test_full_rank_svd_keeps_the_cosines_of_tfidf() -> None:
    vectors = TfidfSvd.fit(TEXTS, 5, seed=0).transform(TEXTS)
    dense = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS).toarray()
    np.testing.assert_allclose(vectors @ vectors.T, dense @ dense.T, atol=1e-5)


def test_vectors_have_length_one_or_are_zero() -> None:
    svd = TfidfSvd.fit(TEXTS, 3, seed=0)
    vectors = svd.transform([*TEXTS, "zebra", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 1, 0, 0], atol=1e-6)


def test_columns_beyond_the_rank_are_zero() -> None:
    svd = TfidfSvd.fit(TEXTS, 64, seed=0)
    vectors = svd.transform(TEXTS)
    assert vectors.shape == (5, 64) and svd.width == 64
    assert not vectors[:, 5:].any() and np.isfinite(vectors).all()


def test_svd_survives_disk(tmp_path: Path) -> None:
    svd = TfidfSvd.fit(TEXTS, 3, seed=0)
    svd.save(tmp_path / "svd")
    copy = TfidfSvd.load(tmp_path / "svd")
    assert np.array_equal(copy.transform(TEXTS), svd.transform(TEXTS))
    assert np.array_equal(TfidfSvd.fit(TEXTS, 3, seed=0).transform(TEXTS), svd.transform(TEXTS))


def test_no_texts_have_no_vectors() -> None:
    assert TfidfSvd.fit(TEXTS, 3, seed=0).transform([]).shape == (0, 3)


def test_texts_without_words_are_refused() -> None:
    with pytest.raises(UserError, match="no words"):
        TfidfSvd.fit(["", "."], 3, seed=0)
