"""Rank statistics equal scikit-learn's, ties included; the bootstrap redraws patients and is a function of its seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from clinicclip.evals import stats
from clinicclip.evals.stats import PatientBootstrap, Ranking

ROWS = np.arange(40)


def _data(seed: int, rows: int = 40, levels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Truth with both classes, and scores with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.4
    truth[:2] = True, False
    return truth, rng.integers(0, levels, rows).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 60))
def test_auroc_and_auprc_equal_scikit_learn_with_ties(seed: int, rows: int, levels: int) -> None:
    truth, scores = _data(seed, rows, levels)
    assert stats.auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert stats.auprc(truth, scores) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [4, 10**9])
def test_weighted_rows_equal_repeated_rows(levels: int) -> None:
    truth, scores = _data(1, levels=levels)
    weights = np.random.default_rng(2).integers(0, 4, (5, 40)).astype(np.float64)
    ranking = Ranking(truth, scores)
    middle = stats.median(scores)
    for row, area, precision, median in zip(
        weights, ranking.auroc(weights), ranking.auprc(weights), middle(weights), strict=True
    ):
        picked = np.repeat(np.arange(40), row.astype(int))
        assert area == pytest.approx(roc_auc_score(truth[picked], scores[picked]), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(truth[picked], scores[picked]), abs=1e-12)
        assert median == np.median(scores[picked])


def test_one_class_has_no_area() -> None:
    scores = np.arange(3.0)
    for truth in (np.ones(3, bool), np.zeros(3, bool)):
        assert np.isnan(stats.auroc(truth, scores)) and np.isnan(stats.auprc(truth, scores))


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Ranking(np.array([True, False]), np.array([np.nan, 1.0]))


def test_the_bootstrap_redraws_whole_patients() -> None:
    patients = [f"p{i // 2}" for i in range(40)]
    seen: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights.sum(axis=1)

    PatientBootstrap(patients, draws=50).draws(statistic, ROWS)
    redraws = np.concatenate(seen[1:])
    assert redraws.shape == (50, 40)
    assert (redraws[:, ::2] == redraws[:, 1::2]).all() and (redraws.sum(axis=1) == 40).all()


def test_equal_seeds_give_equal_draws_in_chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, scores = _data(3)
    patients = [f"p{i // 3}" for i in range(40)]
    area = Ranking(truth, scores).auroc
    first = PatientBootstrap(patients, draws=60, seed=7).draws(area, ROWS)
    monkeypatch.setattr(stats, "CHUNK_ENTRIES", 100)
    again = PatientBootstrap(patients, draws=60, seed=7).draws(area, ROWS)
    other = PatientBootstrap(patients, draws=60, seed=8).draws(area, ROWS)
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values != other.values).any()


def test_draws_equal_a_loop_over_resampled_rows() -> None:
    truth, scores = _data(4)
    other = _data(5)[1] + truth
    patients = np.array([f"p{i // 2:02d}" for i in range(40)])
    bootstrap = PatientBootstrap(list(patients), draws=20, seed=1)
    weights: list[np.ndarray] = []
    bootstrap.draws(lambda w: (weights.append(w), w.sum(axis=1))[1], ROWS)
    expected = []
    for row in np.concatenate(weights[1:]).astype(int):
        picked = np.repeat(ROWS, row)
        expected.append([roc_auc_score(truth[picked], column[picked]) for column in (scores, other)])
    loop = np.array(expected)
    found, against = (bootstrap.draws(Ranking(truth, column).auroc, ROWS) for column in (scores, other))
    np.testing.assert_allclose(found.values, loop[:, 0], atol=1e-12)
    assert found.interval() == pytest.approx(np.quantile(loop[:, 0], (0.025, 0.975)))
    between = stats.difference(against, found)
    assert between.interval() == pytest.approx(np.quantile(loop[:, 1] - loop[:, 0], (0.025, 0.975)))
    assert stats.macro([found, against]).interval() == pytest.approx(np.quantile(loop.mean(axis=1), (0.025, 0.975)))


def test_draws_of_one_class_are_redrawn_and_counted() -> None:
    truth = np.zeros(40, bool)
    truth[5] = True
    patients = [f"p{i}" for i in range(40)]
    found = PatientBootstrap(patients, draws=300).draws(Ranking(truth, np.arange(40.0)).auroc, ROWS)
    assert np.isfinite(found.values).all()
    assert 60 < found.redrawn < 160  # each draw misses the one positive with probability 1/e


def test_a_statistic_that_does_not_exist_has_no_interval() -> None:
    found = PatientBootstrap(["a", "b"], draws=10).draws(Ranking(np.ones(2, bool), np.arange(2.0)).auroc, np.arange(2))
    assert np.isnan(found.value) and np.isnan(found.interval()).all()


def test_no_draws_give_the_value_alone() -> None:
    found = PatientBootstrap(["a", "b"], draws=0).draws(stats.mean(np.array([0.0, 1.0])), np.arange(2))
    assert found.value == 0.5 and np.isnan(found.interval()).all()


def test_paired_differences_cancel_what_is_common() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)
    patients = [f"p{i}" for i in range(40)]
    bootstrap = PatientBootstrap(patients, draws=200)
    worse, better = (bootstrap.draws(stats.mean(hard + gain), ROWS) for gain in (0.0, 0.1))
    low, high = stats.difference(better, worse).interval()
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    spread = worse.interval()
    assert spread[1] - spread[0] > 0.3


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says() -> None:
    covered = 0
    for trial in range(200):
        rows = np.random.default_rng(trial).normal(size=40)
        low, high = (
            PatientBootstrap(list(map(str, ROWS)), draws=200, seed=trial).draws(stats.mean(rows), ROWS).interval()
        )
        covered += low <= 0 <= high
    assert 178 <= covered <= 198


def test_the_macro_of_draws_is_their_mean_draw_by_draw() -> None:
    parts = [stats.Draws(0.2, np.array([0.1, 0.3]), 1), stats.Draws(0.4, np.array([0.5, 0.3]), 2)]
    whole = stats.macro(parts)
    assert whole.value == pytest.approx(0.3) and whole.redrawn == 3
    np.testing.assert_allclose(whole.values, [0.3, 0.3])


def test_a_tie_is_half_a_win() -> None:
    np.testing.assert_array_equal(stats.wins(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])), [0.0, 0.5, 1.0])


def test_a_mean_over_runs_has_the_spread_of_patients_and_of_runs() -> None:
    rng = np.random.default_rng(0)
    patients = rng.normal(0.0, 0.1, 20_000)
    runs = [stats.Draws(value, value + patients, 0) for value in (0.0, 1.0)]  # the same patients, two runs
    mean = stats.over_runs(runs)
    assert mean.value == 0.5
    # Of two runs redrawn, the mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: a variance of 1/8.
    np.testing.assert_allclose(mean.values.var(), 0.1**2 + 0.125, rtol=0.03)
    alone = stats.over_runs(runs[:1])
    np.testing.assert_array_equal(alone.values, runs[0].values)


def test_runs_of_equal_seeds_stay_paired() -> None:
    rng = np.random.default_rng(0)
    runs = [stats.Draws(0.0, rng.normal(size=50), 0) for _ in range(3)]
    better = [stats.Draws(0.2, run.values + 0.2, 0) for run in runs]
    between = stats.difference(stats.over_runs(better), stats.over_runs(runs))
    np.testing.assert_allclose(between.values, 0.2)
