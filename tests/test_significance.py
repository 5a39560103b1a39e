"""DeLong's test and Holm's correction equal what their definitions say, written out."""

import numpy as np
import pytest
from scipy.stats import norm

from clinicclip.evals import significance, stats


def _rows(seed: int, rows: int = 60, levels: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two correlated scores with ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.35
    truth[:3], truth[3:6] = True, False
    first = rng.integers(0, levels, rows) + 2.0 * truth
    return truth, first, np.round(first * 0.5 + rng.normal(size=rows))


def _written_out(truth: np.ndarray, scores: list[np.ndarray]) -> tuple[list[float], np.ndarray]:
    """Areas and their covariance by DeLong's sums over all pairs."""
    areas, tens, ones = [], [], []
    for values in scores:
        wins = _wins(truth, values)
        areas.append(wins.mean())
        tens.append(wins.mean(axis=1))
        ones.append(wins.mean(axis=0))
    return areas, np.cov(np.stack(tens)) / truth.sum() + np.cov(np.stack(ones)) / (~truth).sum()


def _wins(truth: np.ndarray, values: np.ndarray) -> np.ndarray:
    positive, negative = values[truth], values[~truth]
    return (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)


def _by_cluster(truth: np.ndarray, scores: list[np.ndarray], owner: np.ndarray) -> np.ndarray:
    """Covariance of two areas by Obuchowski's sums: of clusters with positives, with negatives, and of both in one."""
    clusters, tens, ones = np.unique(owner), [], []
    for values in scores:
        wins = _wins(truth, values)
        mine, theirs = owner[truth], owner[~truth]
        tens.append([(wins[mine == c].mean(axis=1) - wins.mean()).sum() for c in clusters])
        ones.append([(wins[:, theirs == c].mean(axis=0) - wins.mean()).sum() for c in clusters])
    m, n, total = truth.sum(), (~truth).sum(), len(clusters)
    i10, i01 = (len(np.unique(owner[side])) for side in (truth, ~truth))
    covariance = np.zeros((2, 2))
    for r in range(2):
        for s in range(2):
            s10 = i10 / ((i10 - 1) * m) * np.dot(tens[r], tens[s])
            s01 = i01 / ((i01 - 1) * n) * np.dot(ones[r], ones[s])
            s11, back = (total / (total - 1) * np.dot(tens[a], ones[b]) for a, b in ((r, s), (s, r)))
            covariance[r, s] = s10 / m + s01 / n + (s11 + back) / (m * n)
    return covariance


@pytest.mark.parametrize("seed", range(4))
def test_delong_by_patient_equals_its_sums_over_all_pairs_with_ties(seed: int) -> None:
    truth, first, second = _rows(seed)
    owner = np.random.default_rng(seed).integers(0, 20, len(truth))  # with one outcome or both, one image or several
    covariance = _by_cluster(truth, [first, second], owner)
    found = significance.delong(truth, first, second, [f"p{number}" for number in owner])
    assert found.error == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_delong_equals_its_sums_over_all_pairs_with_ties(seed: int) -> None:
    truth, first, second = _rows(seed)
    areas, covariance = _written_out(truth, [first, second])
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = significance.delong(truth, first, second)
    assert (found.first, found.second) == pytest.approx(areas, abs=1e-12)
    assert found.error == pytest.approx(error, rel=1e-9)
    assert found.p == pytest.approx(2 * norm.sf(abs(areas[0] - areas[1]) / error), rel=1e-9)


def test_the_error_by_patient_is_that_of_the_patient_bootstrap() -> None:
    truth, first, second = _rows(0, rows=240, levels=40)
    patients = [f"p{i // 4}" for i in range(240)]
    truth = np.repeat(truth[::4], 4)  # a patient's images share the outcome
    first = first + 3 * np.repeat(np.random.default_rng(9).normal(size=60), 4)
    bootstrap = stats.PatientBootstrap(patients, draws=2000)
    rows = np.arange(240)
    draws = [bootstrap.draws(stats.Ranking(truth, scores).auroc, rows) for scores in (first, second)]
    spread = stats.difference(*draws).values.std()
    by_patient = significance.delong(truth, first, second, patients)
    by_row = significance.delong(truth, first, second)
    assert by_patient.difference == by_row.difference
    assert by_patient.error == pytest.approx(spread, rel=0.12)
    assert by_patient.error > 1.3 * by_row.error


def test_scores_that_rank_alike_do_not_differ() -> None:
    truth, first, _ = _rows(1)
    found = significance.delong(truth, first, 3 * first + 1)
    assert found.difference == 0 and found.error == 0 and found.p == 1


def test_one_class_or_one_patient_a_class_has_no_test() -> None:
    _, first, second = _rows(2)
    assert np.isnan(significance.delong(np.ones(60, bool), first, second)).all()
    alone = np.arange(60) == 7
    found = significance.delong(alone, first, second)
    assert np.isfinite(found.difference) and np.isnan(found.p)


def test_delong_rejects_about_as_often_as_it_says_when_nothing_differs() -> None:
    rejected = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = np.arange(80) < 30
        common = rng.normal(size=80) + truth
        first, second = (common + rng.normal(size=80) for _ in range(2))
        rejected += significance.delong(truth, first, second).p < 0.05
    assert 4 <= rejected <= 28


def test_holm_steps_down_and_leaves_out_what_was_not_tested() -> None:
    corrected = significance.holm([0.01, float("nan"), 0.04, 0.03, 0.5])
    assert corrected == pytest.approx([0.04, float("nan"), 0.09, 0.09, 0.5], nan_ok=True)
    assert significance.holm([0.6, 0.9]) == [1.0, 1.0] and significance.holm([]) == []
    rng = np.random.default_rng(0)
    for count in range(1, 12):
        p = np.round(rng.random(count) ** 3, 1)  # with ties
        told = np.sort(p)
        steps = [max(min(1.0, (count - j) * told[j]) for j in range(i + 1)) for i in range(count)]
        assert significance.holm(p.tolist()) == pytest.approx([steps[np.flatnonzero(told == one)[-1]] for one in p])


def test_a_bootstrap_p_value_is_small_only_where_the_difference_is_clear() -> None:
    rng = np.random.default_rng(0)
    clear, none = (stats.Draws(shift, rng.normal(shift, 1, 999), 0) for shift in (5.0, 0.0))
    assert stats.p_value(clear) == pytest.approx(0.002) and stats.p_value(none) > 0.8
    assert np.isnan(stats.p_value(stats.Draws(float("nan"), np.full(9, np.nan), 0)))
