"""Calibration and decisions equal scikit-learn's; what is fitted is the best of its kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from clinicclip.evals import calibration


def _rows(seed: int, rows: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Truth with both outcomes, and scores with ties that know something of it."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.3
    truth[:2] = True, False
    return truth, np.round(rng.normal(size=rows) + truth, 1)


def _value(statistic, weights: np.ndarray) -> float:
    return float(statistic(weights[None].astype(np.float64))[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 90))
def test_measures_of_weighted_rows_equal_scikit_learn_on_repeated_rows(seed: int, rows: int) -> None:
    truth, scores = _rows(seed, rows)
    weights = np.random.default_rng(seed + 1).integers(0, 3, rows)
    weights[:2] = 1
    picked = np.repeat(np.arange(rows), weights)
    p = 1 / (1 + np.exp(-scores))
    called = scores >= 0.5
    brier = metrics.brier_score_loss(truth[picked], p[picked])
    assert _value(calibration.brier(truth, p), weights) == pytest.approx(brier)
    found = calibration.decisions(truth, called)
    expected = {
        "sensitivity": metrics.recall_score(truth[picked], called[picked], zero_division=np.nan),
        "specificity": metrics.recall_score(~truth[picked], ~called[picked], zero_division=np.nan),
        "ppv": metrics.precision_score(truth[picked], called[picked], zero_division=np.nan),
        "npv": metrics.precision_score(~truth[picked], ~called[picked], zero_division=np.nan),
        "f1": metrics.f1_score(truth[picked], called[picked], zero_division=np.nan),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert _value(found[name], weights) == pytest.approx(value, nan_ok=True), name


@pytest.mark.parametrize("seed", range(4))
def test_ece_equals_a_loop_over_bins_of_repeated_rows(seed: int) -> None:
    truth, scores = _rows(seed)
    p = np.clip(0.503 + scores / 3.07, 0, 1)  # ones and zeros among them, none on the border of a bin
    weights = np.random.default_rng(seed).integers(0, 4, len(truth))
    picked = np.repeat(np.arange(len(truth)), weights)
    expected = 0.0
    for low in range(10):
        inside = [i for i in picked if low / 10 <= p[i] < (low + 1) / 10 or (low == 9 and p[i] == 1)]
        if inside:
            expected += len(inside) / len(picked) * abs(truth[inside].mean() - p[inside].mean())
    assert _value(calibration.ece(truth, p, bins=10), weights) == pytest.approx(expected)
    found = calibration.reliability(truth, p, bins=10)
    frequency, confidence = calibration_curve(truth, p, n_bins=10)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.confidence, confidence)
    gaps = np.abs(frequency - confidence)
    assert _value(calibration.ece(truth, p, bins=10), np.ones(len(truth))) == pytest.approx(
        np.average(gaps, weights=found.rows)
    )


def test_reliability_tells_what_each_bin_holds() -> None:
    found = calibration.reliability(np.array([True, False, True]), np.array([0.95, 0.12, 1.0]), bins=10)
    np.testing.assert_array_equal(found.rows, [1, 2])
    np.testing.assert_allclose(found.confidence, [0.12, 0.975])
    np.testing.assert_array_equal(found.frequency, [0, 1])


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_scaling_is_the_logistic_curve_of_least_loss(scale: float) -> None:
    truth, scores = _rows(3)
    found = calibration.fit_scaling(truth, scores * scale)
    target = np.where(truth, (truth.sum() + 1) / (truth.sum() + 2), 1 / ((~truth).sum() + 2))
    twice = LogisticRegression(C=1e9, tol=1e-9, max_iter=1000).fit(
        np.concatenate([scores, scores])[:, None],
        np.repeat([1, 0], len(truth)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    np.testing.assert_allclose(
        found.probabilities(scores * scale), twice.predict_proba(scores[:, None])[:, 1], atol=2e-4
    )


def test_scores_that_point_the_wrong_way_keep_their_order() -> None:
    truth, scores = _rows(4)
    found = calibration.fit_scaling(truth, -5 * scores)
    assert found.temperature > 0
    np.testing.assert_allclose(found.probabilities(-5 * scores), truth.mean(), atol=0.02)


def test_rows_that_a_threshold_parts_still_fit_a_curve() -> None:
    truth = np.arange(20) > 9
    p = calibration.fit_scaling(truth, np.arange(20.0)).probabilities(np.arange(20.0))
    assert (p[truth] > 0.5).all() and (p[~truth] < 0.5).all() and np.isfinite(p).all()


@pytest.mark.parametrize("seed", range(4))
def test_youden_is_the_best_of_all_thresholds(seed: int) -> None:
    truth, scores = _rows(seed)
    sums = {t: (scores[truth] >= t).mean() + (scores[~truth] < t).mean() for t in np.unique(scores)}
    best = calibration.youden(truth, scores)
    assert sums[best] == pytest.approx(max(sums.values()))
    assert best == min(t for t, value in sums.items() if value > max(sums.values()) - 1e-12)


def test_one_outcome_fits_nothing() -> None:
    for fit in (calibration.youden, calibration.fit_scaling):
        with pytest.raises(ValueError, match="both outcomes"):
            fit(np.ones(3, bool), np.arange(3.0))
