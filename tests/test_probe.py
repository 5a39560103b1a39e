"""The linear probe: it finds what is linear, by rows of training patients alone, and says what it could not learn."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import planted
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from clinicclip.data import schema
from clinicclip.evals import embedding, probe, shares
from clinicclip.evals.base import Embedded, EvalSet, Seen
from clinicclip.evals.probe import Probe
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap

EDEMA = schema.INDEX["edema"]


def _seen(evalset: EvalSet, noise: float, seed: int) -> Seen:
    """Vectors that hold the truth, linear, under noise."""
    truth = np.nan_to_num(2 * evalset.truth - 1)
    vectors = planted.unit(truth + noise * np.random.default_rng(seed).normal(size=truth.shape))
    rows = dict(zip(evalset.ids, vectors, strict=True))
    return Seen(evalset, Embedded(rows, embedding.TextBank(planted.by_text(planted.noise))))


def _vectors(seen: Seen) -> np.ndarray:
    return seen.embedded.images(seen.evalset)


def _run(train: Seen | None, validation: Seen | None, test: Seen, **options) -> dict[str, Result]:
    suite = Probe(train, validation, **options)
    found = suite.run(test.evalset, test.embedded, PatientBootstrap(test.evalset.patients, draws=20))
    return {result.metric: result for result in found}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Fits this small wait for their threads longer than they work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def splits() -> tuple[Seen, Seen, Seen]:
    return tuple(_seen(planted.evalset(n, seed=seed), 0.8, seed) for seed, n in ((1, 300), (2, 80), (3, 120)))


def test_more_labels_teach_more(splits) -> None:
    train, _, test = splits
    found = _run(train, None, test, shares=(0.1, 1.0))
    few, many = (found[f"probe/auroc@{share}/macro"].value for share in ("0.1", "1"))
    assert 0.55 < few < many and many > 0.85
    assert found["probe/auroc@0.1/edema"].note.count(",") == 2  # a value for each of three seeds


def test_the_penalty_is_the_best_on_validation(splits) -> None:
    train, validation, test = splits
    value = _run(train, validation, test, shares=(0.1,), seeds=(0,))["probe/auroc@0.1/edema"].value
    rows, scored = shares.drawn(train.evalset.patients, 0.1, 0), {}
    truth, other = train.evalset.truth[rows], validation.evalset.truth
    for strength in probe.STRENGTHS:
        worth = []
        for finding in map(schema.INDEX.get, planted.WORDS):
            model = LogisticRegression(C=strength, max_iter=probe.STEPS)
            model.fit(_vectors(train)[rows], truth[:, finding] == 1)
            worth.append(roc_auc_score(other[:, finding], model.decision_function(_vectors(validation))))
            if finding == EDEMA:
                test_area = roc_auc_score(test.evalset.truth[:, EDEMA], model.decision_function(_vectors(test)))
        scored[np.mean(worth)] = test_area
    assert len(set(scored.values())) > 1 and value == pytest.approx(scored[max(scored)], abs=1e-9)


def test_vectors_that_hold_nothing_stay_at_chance() -> None:
    train, test = (_seen(planted.evalset(n, seed=seed), 1e4, seed) for seed, n in ((4, 300), (5, 200)))
    found = _run(train, None, test, shares=(1.0,))
    for name in planted.WORDS:
        assert abs(found[f"probe/auroc@1/{name}"].value - 0.5) < 0.15


def test_the_probe_of_all_patients_equals_scikit_learn(splits) -> None:
    train, _, test = splits
    found = _run(train, None, test, shares=(1.0,))["probe/auroc@1/edema"]
    model = LogisticRegression(C=probe.DEFAULT_STRENGTH, max_iter=probe.STEPS)
    model.fit(_vectors(train), train.evalset.truth[:, EDEMA] == 1)
    expected = roc_auc_score(test.evalset.truth[:, EDEMA], model.decision_function(_vectors(test)))
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.positives == int((test.evalset.truth[:, EDEMA] == 1).sum()) and 0 < found.prevalence < 1


def test_the_share_of_all_patients_is_one_fit_and_says_so(splits) -> None:
    train, _, test = splits
    found = _run(train, None, test, shares=(1.0,), seeds=(0, 1, 2))
    for name in planted.WORDS:
        assert found[f"probe/auroc@1/{name}"].note == shares.ONCE


def test_a_fit_that_was_stopped_too_soon_is_told(splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STEPS", 1)
    with pytest.warns(ConvergenceWarning):
        found = _run(splits[0], None, splits[2], shares=(1.0,))
    assert found["probe/auroc@1/edema"].note == f"{shares.ONCE}; {shares.CUT}"


def test_shares_are_of_patients_and_smaller_ones_lie_within_larger_ones() -> None:
    patients = [f"p{i // 3}" for i in range(90)]
    few, many = (set(shares.drawn(patients, share, 0).tolist()) for share in (0.1, 0.5))
    assert len(few) == 9 and len(many) == 45 and few < many
    assert {row // 3 * 3 for row in few} <= few  # whole patients
    assert few != set(shares.drawn(patients, 0.1, 1).tolist()) and len(shares.drawn(patients, 1e-6, 0)) == 3


def test_a_finding_that_few_patients_show_is_told_by_the_seeds_that_drew_it_and_left_out_of_the_macro(splits) -> None:
    train, _, test = splits
    found = _run(train, None, test, shares=(0.02,), seeds=tuple(range(5)))
    partly = [r for r in found.values() if "draws of patients hold both" in r.note and "macro" not in r.metric]
    assert partly and all(np.isfinite(row.value) and row.note.startswith("by seed ") for row in partly)
    assert not any(row.metric.rpartition("/")[2] in found["probe/auroc@0.02/macro"].note for row in partly)


def test_unknown_labels_teach_nothing(splits) -> None:
    train, _, test = splits
    truth = train.evalset.truth.copy()
    truth[:, EDEMA] = np.nan
    masked = Seen(dataclasses.replace(train.evalset, truth=truth).sealed(), train.embedded)
    found = _run(masked, None, test, shares=(1.0,))
    edema = found["probe/auroc@1/edema"]
    assert np.isnan(edema.value) and edema.note == "0 of 1 draws of patients hold both outcomes"
    assert "edema" not in found["probe/auroc@1/macro"].note


def test_without_a_training_split_the_row_says_so(splits) -> None:
    found = _run(None, None, splits[2])
    assert list(found) == ["probe/auroc/macro"] and "no training split" in found["probe/auroc/macro"].note
