"""Retrieval: ranks over distinct texts, ties at half, label F1, chunks that change nothing, an honest gallery."""

import numpy as np
import planted
import pytest
from sklearn.metrics import f1_score

from clinicclip.data import schema
from clinicclip.evals import embedding, retrieval
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.results import Exhibit, Result, Verdict
from clinicclip.evals.retrieval import Retrieval, search
from clinicclip.evals.stats import PatientBootstrap


def _run(evalset: EvalSet, embed: EmbedFns) -> list[Result | Exhibit]:
    embedded = embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts))
    return list(Retrieval().run(evalset, embedded, PatientBootstrap(evalset.patients, draws=50)))


def _numbers(evalset: EvalSet, embed: EmbedFns) -> dict[str, Result]:
    return {item.metric: item for item in _run(evalset, embed) if isinstance(item, Result)}


def test_an_oracle_finds_every_partner_and_its_labels() -> None:
    evalset = planted.evalset()
    found = _numbers(evalset, planted.oracle(evalset))
    for direction in ("i2t", "t2i"):
        assert found[f"retrieval/{direction}/recall@1"].value == 1.0
        assert found[f"retrieval/{direction}/median_rank"].value == 1.0
        assert found[f"retrieval/{direction}/f1_micro@1"].value == 1.0
        assert found[f"retrieval/{direction}/f1_macro@1"].value == 1.0


def test_identical_texts_are_one() -> None:
    evalset = planted.evalset()
    distinct = len(set(evalset.reports))
    assert distinct < len(evalset)
    found = _numbers(evalset, planted.chance(evalset))
    assert found["retrieval/t2i/recall@1"].n == distinct
    assert found["retrieval/i2t/recall@1"].n == len(evalset)
    assert found["retrieval/i2t/recall@1"].note == f"{len(evalset)} queries over a gallery of {distinct}"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_ranks_equal_a_loop_over_queries(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    queries, gallery = (planted.unit(rng.integers(-2, 3, (n, 3)) + 0.5) for n in (20, 30))
    query_text, gallery_text = np.arange(20) % 10, np.arange(30) % 10
    found = search(queries, gallery, query_text, gallery_text)
    for q in range(20):
        scores = queries[q] @ gallery.T
        right = gallery_text == query_text[q]
        best = scores[right].max()
        near = np.abs(scores - best) < 1e-6  # one matrix product may round otherwise than another
        least, most = ((scores > best) & ~right & ~near).sum(), ((scores > best) & ~right | near & ~right).sum()
        assert 1 + least <= found.rank[q] <= 1 + most
        assert (np.diff(scores[found.nearest[q]]) <= 1e-6).all()
        assert scores[found.nearest[q]].min() >= np.sort(scores)[-5] - 1e-6


def test_a_model_that_gives_one_vector_to_all_is_not_rewarded() -> None:
    evalset = planted.evalset()
    same = planted.unit(np.ones((1, 4)))
    images = planted.marked(lambda pictures: np.repeat(same, len(pictures), 0))
    constant = EmbedFns(images, lambda texts: np.repeat(same, len(texts), 0))
    found = _numbers(evalset, constant)
    middle = 1 + (len(set(evalset.reports)) - 1) / 2
    assert found["retrieval/i2t/median_rank"].value == middle
    assert found["retrieval/i2t/recall@1"].value == 0.0


def test_label_f1_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    own = (rng.random((30, len(schema.FINDINGS))) < 0.3).astype(np.float32)
    candidates = (rng.random((40, len(schema.FINDINGS))) < 0.3).astype(np.float32)
    nearest = rng.integers(0, 40, (30, 5))
    used = [f for f in range(len(schema.FINDINGS)) if f != schema.INDEX["no_finding"]]
    calls = {1: candidates[nearest[:, 0]], 5: (candidates[nearest].sum(axis=1) >= 3).astype(float)}
    ones = np.ones((1, 30))
    for name, statistic in retrieval.label_f1(own, candidates, nearest).items():
        average, depth = name.removeprefix("f1_").split("@")
        expected = f1_score(own[:, used], calls[int(depth)][:, used], average=average, zero_division=0)
        assert statistic(ones)[0] == pytest.approx(expected)


def test_the_gallery_tells_right_from_wrong() -> None:
    evalset = planted.evalset()
    gallery = next(item for item in _run(evalset, planted.oracle(evalset)) if isinstance(item, Exhibit))
    assert len(gallery.cases) == 6
    for case in gallery.cases:
        owners = sum(report == case.texts[0].text for report in evalset.reports)
        own, *nearest = case.pictures
        np.testing.assert_array_equal(own.image, evalset.images[evalset.reports.index(case.texts[0].text)])
        verdicts = [picture.verdict for picture in nearest]
        assert verdicts[:owners] == [Verdict.RIGHT] * min(owners, 5)
        assert set(verdicts[owners:]) <= {Verdict.WRONG}
        assert case.texts[0].caption == f"own image at rank 1 of {len(evalset)}"


def test_a_set_that_may_not_be_shown_has_no_gallery() -> None:
    evalset = planted.evalset(30, open=False)
    assert not any(isinstance(item, Exhibit) for item in _run(evalset, planted.oracle(evalset)))
