"""Models of known ability on the phantom world: labels score perfect, chance stays chance, shortcuts show."""

import dataclasses
import itertools
from collections.abc import Sequence

import known
import numpy as np
import planted
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import f1_score

from clinicclip.data import schema
from clinicclip.evals import sections, suites
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.suites import Beside

DRAWS = 100
GUESSES = 12  # seeds
LIKELIHOOD = 0.01  # that any one of all metrics leaves its bounds by chance
OUTCOMES = 10  # of either kind, for a bootstrap's spread to mean something


def scores(
    embed: EmbedFns, evalset: EvalSet, chosen: Sequence[str], beside: Beside | None = None, draws: int = 0
) -> dict[str, Result]:
    """All results by metric."""
    near = {evalset.name: beside} if beside else {}
    found = suites.run_suites(embed, [evalset], chosen, draws=draws, beside=near).results
    assert len({result.metric for result in found}) == len(found)
    return {result.metric: result for result in found}


def real(found: dict[str, Result]) -> dict[str, float]:
    """What exists; the rest must say why it does not."""
    assert all(np.isfinite(result.value) or result.note for result in found.values())
    return {name: result.value for name, result in found.items() if np.isfinite(result.value)}


def test_who_reads_labels_and_statements_is_perfect_where_labels_decide() -> None:
    evalset = known.world()
    chosen = ("zero_shot", "five_way", "subgroups", "pair_strict", "cxr_align", "normality")
    values = real(scores(known.reader(evalset), evalset, chosen))
    for level, suffixes in {0.0: ("/wrong_image", "false_alarms"), 1.0: ("",)}.items():
        for name in [name for name in values if any(suffix in name for suffix in suffixes)]:
            assert values.pop(name) == pytest.approx(level), name
    assert not values


def test_equal_labels_are_found_first() -> None:
    evalset = known.world()
    values = real(scores(known.labels(evalset), evalset, ("retrieval",)))
    for name in ("i2t/f1_micro@1", "i2t/f1_macro@1", "t2i/f1_micro@1", "t2i/f1_macro@1"):
        assert values[f"retrieval/{name}"] == pytest.approx(1.0), name


def test_who_sees_labels_decides_rightly_with_thresholds_of_other_patients() -> None:
    evalset, other = known.world(), known.world(120, 1200)
    both = known.reader(evalset), known.reader(other)

    def look(pictures: np.ndarray) -> np.ndarray:
        mine = {image.tobytes() for image in evalset.images}
        return np.concatenate([both[p.tobytes() not in mine].images(p[None]).vectors for p in pictures])

    beside = Beside(train=None, validation=other)
    found = scores(EmbedFns(planted.marked(look), both[0].texts), evalset, ("operating",), beside)
    decided = {name: value for name, value in real(found).items() if name.startswith("operating/")}
    assert len(decided) > 5 * 10 and set(decided.values()) == {1.0}
    assert found["calibration/ece/macro"].value < 0.1


def _level(metric: str) -> float | None:
    """What guessing scores; None where it depends on prevalence, gallery or the scale of scores."""
    if metric.endswith("/image_driven") or "/image_driven/" in metric:
        return 0.0
    levels = {
        "cxr_align/first_of_three": 1 / 3,
        "cxr_align/": 1 / 2,
        "pair_strict/": 1 / 4,
        "five_way/": 1 / 5,
        "normality/auroc": 1 / 2,
        "subgroups/auroc": 1 / 2,
        "zero_shot/world/auroc": 1 / 2,
    }
    return next((level for start, level in levels.items() if metric.startswith(start)), None)


def _at_chance(found: list[dict[str, float]], levels: dict[str, float]) -> dict[str, float]:
    """The mean over seeds lies about each level as Student's distribution allows, by Bonferroni for their number.

    Returns how far it may be off.
    """
    bound = student.isf(LIKELIHOOD / 2 / len(levels), len(found) - 1)
    errors = {}
    for name, level in levels.items():
        values = np.array([one[name] for one in found])
        errors[name] = bound * values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - level) < errors[name], (name, values.mean(), level)
    return errors


def test_guessing_scores_a_quarter_in_pair_strict_and_what_a_random_order_gives_in_retrieval() -> None:
    """Images share partners, reports share galleries: spreads come from seeds, not from a bootstrap within one."""
    evalset = known.world()
    found = [
        real(scores(known.label_free(evalset, seed), evalset, ("pair_strict", "retrieval"))) for seed in range(GUESSES)
    ]
    strict = {name: 0.25 for name in found[0] if name.startswith("pair_strict/")}
    assert len(strict) > 8
    errors = _at_chance(found, strict | _by_random_order(evalset))
    assert errors["pair_strict/macro"] < 0.05 and errors["retrieval/i2t/f1_micro@1"] < 0.05
    assert errors["retrieval/t2i/recall@10"] < 0.02


def _by_random_order(evalset: EvalSet) -> dict[str, float]:
    """What retrieval comes to when every gallery is in random order, by the definition of each measure."""
    count = len(set(evalset.reports))
    assert count == len(evalset)  # then every query has one right answer
    levels, rng = {}, np.random.default_rng(0)
    findings = [f for f in range(len(schema.FINDINGS)) if f != known.NORMAL and (evalset.truth[:, f] == 1).any()]
    labels = evalset.truth[:, findings]
    assert np.isfinite(labels).all()
    orders = np.stack([np.stack([rng.permutation(count)[:5] for _ in range(count)]) for _ in range(20)])
    for depth, average in itertools.product((1, 5), ("micro", "macro")):
        called = (labels == 1)[orders[:, :, :depth]].mean(axis=2) > 0.5
        scored = [f1_score(labels == 1, one, average=average, zero_division=0) for one in called]
        levels[f"f1_{average}@{depth}"] = float(np.mean(scored))
    levels |= {f"recall@{k}": k / count for k in (1, 5, 10)} | {"median_rank": (count + 1) / 2}
    return {f"retrieval/{direction}/{name}": level for direction in ("i2t", "t2i") for name, level in levels.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_who_knows_nothing_of_labels_is_at_chance(seed: int) -> None:
    """Bounds are Bonferroni's for the number of metrics.

    A text direction is one draw for all images, so that rates about texts are as uncertain as their few texts; the
    level of CXR-Align is held by what sees the image alone, those of pair-strict and retrieval over many seeds.
    """
    evalset = known.world()
    chosen = ("zero_shot", "five_way", "subgroups", "normality", "cxr_align")
    found = scores(known.label_free(evalset, seed), evalset, chosen, draws=DRAWS)
    checked = {}
    for name, result in found.items():
        positives, level = result.positives, _level(name)
        few = "auroc" in name and positives is not None and min(positives, result.n - positives) < OUTCOMES
        if level is None or few or result.n < 2 * OUTCOMES or not np.isfinite(result.value):
            continue
        spread = (result.ci_high - result.ci_low) / (2 * norm.isf(0.025))
        checked[name] = (result.value - level) / spread
    bound = norm.isf(LIKELIHOOD / 2 / len(checked))
    assert len(checked) > 100
    assert {name: z for name, z in checked.items() if abs(z) > bound} == {}


def test_who_only_spots_words_is_at_chance_where_polarity_decides() -> None:
    evalset = known.world()
    values = real(scores(known.spotter(evalset), evalset, ("zero_shot", "pair_strict", "cxr_align")))
    for name, value in values.items():
        if name.startswith("pair_strict/"):
            assert value == pytest.approx(0.25), name
        if "task_a/image_driven" in name:  # now and then a denial takes a sentence about another finding with it
            assert value == pytest.approx(0.0, abs=0.01), name
        if "/auroc/pair/" in name:
            assert value == pytest.approx(0.5), name
    assert values["cxr_align/task_a"] == pytest.approx(0.5, abs=0.005)


def test_who_knows_prevalence_and_sees_nothing_gains_nothing_from_the_image() -> None:
    evalset = known.world()
    values = real(scores(known.prior(evalset), evalset, ("zero_shot", "subgroups", "pair_strict", "cxr_align")))
    driven = {value for name, value in values.items() if "/image_driven" in name}
    strict = {value for name, value in values.items() if name.startswith("pair_strict/")}
    areas = {value for name, value in values.items() if "auroc" in name}
    assert driven == {0.0} and strict == {0.0} and areas == {0.5}
    assert values["cxr_align/task_a"] == values["cxr_align/task_a/wrong_image"] != 0.5
    deaf = known.prior(evalset)._replace(texts=known.spotter(evalset).texts)
    values = real(scores(deaf, evalset, ("pair_strict", "cxr_align")))
    assert {value for name, value in values.items() if "/image_driven" in name} == {0.0}
    assert [value for name, value in values.items() if name.startswith("pair_strict/")] == pytest.approx([0.25] * 14)


def test_a_device_taken_for_a_pneumothorax_shows_in_the_subgroups() -> None:
    evalset = known.world()
    pneumothorax, device = (schema.INDEX[name] for name in ("pneumothorax", "support_devices"))
    truth = evalset.truth.copy()
    other = np.random.default_rng(0).random(len(evalset)) < 0.15
    truth[:, device] = np.where(other, 1 - truth[:, pneumothorax], truth[:, pneumothorax])
    taken = dataclasses.replace(evalset, truth=truth).sealed()
    values = real(scores(known.shortcut(taken), taken, ("zero_shot", "subgroups")))
    assert values["zero_shot/world/auroc/pair/pneumothorax"] > 0.8
    for group in ("device=no", "device=yes"):
        assert values[f"subgroups/auroc/pneumothorax/{group}"] == 0.5
        assert values[f"subgroups/auroc/pleural_effusion/{group}"] == 1.0
    whole = suites.run_suites(known.shortcut(taken), [taken], ("subgroups",), draws=2)
    shown = next(s.table for s in sections.sections(whole, whole.sets[0]) if s.title == "Subgroups by device")
    row = next(row for row in shown if row[0] == "pneumothorax")
    assert shown[0][-2:] == ["device: no", "device: yes"] and all(cell.startswith("0.500 [") for cell in row[-2:])
    honest = real(scores(known.reader(taken), taken, ("subgroups",)))
    assert honest["subgroups/auroc/pneumothorax/device=yes"] == 1.0
