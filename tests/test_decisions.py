"""Suites of decisions: five-way accuracy, normality, operating points and subgroups, each against a written loop."""

import dataclasses

import numpy as np
import planted
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from clinicclip.data import schema
from clinicclip.evals import benchmarks, calibration, five_way, prompts, suites
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.suites import Beside

WORDS = tuple(planted.WORDS)
EDEMA = schema.INDEX["edema"]


def _run(evalset: EvalSet, embed: EmbedFns, suite: str, validation: EvalSet | None = None) -> dict[str, Result]:
    near = {evalset.name: Beside(validation=validation)}
    return {r.metric: r for r in suites.run_suites(embed, [evalset], [suite], draws=20, beside=near).results}


def _pair(embed: EmbedFns, evalset: EvalSet, finding: str) -> np.ndarray:
    sides = prompts.embed(finding, embed.texts)
    return prompts.scores(embed.images(evalset.images).vectors, sides).pair


def _other(evalset: EvalSet, seed: int) -> EvalSet:
    """A set of the same pictures' kind, of other patients, that a random embedding knows too."""
    other = planted.evalset(150, seed=seed)
    patients = tuple(f"other {name}" for name in other.patients)
    return dataclasses.replace(other, patients=patients, split="validation").sealed()


def _coded_five(studies: int) -> EvalSet:
    """A set that codes all of the five: consolidation in place of pneumothorax."""
    evalset = planted.evalset(studies)
    truth = evalset.truth.copy()
    truth[:, schema.INDEX["consolidation"]] = truth[:, schema.INDEX["pneumothorax"]]
    return dataclasses.replace(evalset, truth=truth).sealed()


def _by_pixels(images: np.ndarray) -> np.ndarray:
    return planted.by_text(planted.noise)([str(image.sum()) for image in images])


RANDOM = EmbedFns(planted.marked(_by_pixels), planted.by_text(planted.noise))


def test_five_way_accuracy_equals_a_loop_over_images_of_one_finding() -> None:
    evalset = _coded_five(150)
    scores = np.stack([_pair(RANDOM, evalset, name) for name in benchmarks.FIVE], axis=1)
    right: dict[int, list[bool]] = {}
    for row in range(len(evalset)):
        shown = [k for k, name in enumerate(benchmarks.FIVE) if evalset.truth[row, schema.INDEX[name]] == 1]
        if len(shown) == 1:
            right.setdefault(shown[0], []).append(scores[row].argmax() == shown[0])
    found = _run(evalset, RANDOM, "five_way")
    everything = [hit for hits in right.values() for hit in hits]
    assert found["five_way/accuracy/pair"].value == pytest.approx(np.mean(everything))
    assert found["five_way/accuracy/pair"].n == len(everything)
    assert found["five_way/balanced_accuracy/pair"].value == pytest.approx(
        np.mean([np.mean(h) for h in right.values()])
    )
    uncoded = _run(planted.evalset(30), RANDOM, "five_way").values()  # consolidation is not
    assert len(uncoded) == 4 and all(np.isnan(row.value) and row.note == five_way.NONE for row in uncoded)


def test_normality_equals_scikit_learn_and_counts_false_alarms() -> None:
    evalset = planted.evalset(120)
    found = _run(evalset, RANDOM, "normality")
    normal = evalset.normal == 1
    direct = _pair(RANDOM, evalset, "no_finding")
    assert found["normality/auroc/prompts"].value == pytest.approx(roc_auc_score(normal, direct), abs=1e-6)
    pair = np.stack([_pair(RANDOM, evalset, name) for name in WORDS], axis=1)
    standing_out = ((pair - pair.mean(axis=0)) / pair.std(axis=0)).max(axis=1)
    quiet = found["normality/auroc/no_finding_stands_out"].value
    assert quiet == pytest.approx(roc_auc_score(normal, -standing_out), abs=1e-6)
    assert found["normality/false_alarms"].value == pytest.approx((pair[normal] > 0).mean())
    areas = [roc_auc_score(evalset.truth[:, schema.INDEX[n]], pair[:, k]) for k, n in enumerate(WORDS)]
    assert found["normality/auroc/abnormal"].value == pytest.approx(np.mean(areas), abs=1e-6)


def test_thresholds_and_temperatures_come_from_validation_alone() -> None:
    evalset, validation = planted.evalset(100), _other(planted.evalset(100), 5)
    found = _run(evalset, RANDOM, "operating", validation)
    chosen = _pair(RANDOM, validation, "edema").astype(np.float64)
    threshold = calibration.youden(validation.truth[:, EDEMA] == 1, chosen)
    called = _pair(RANDOM, evalset, "edema").astype(np.float64) >= threshold
    expected = recall_score(evalset.truth[:, EDEMA] == 1, called)
    assert found["operating/sensitivity/edema"].value == pytest.approx(expected)
    flipped = dataclasses.replace(evalset, truth=1 - evalset.truth).sealed()
    again = _run(flipped, RANDOM, "operating", validation)
    for metric in ("operating/sensitivity/edema", "calibration/ece/edema"):
        assert again[metric].note == found[metric].note and "chosen on validation" in found[metric].note


def test_without_validation_nothing_is_chosen() -> None:
    found = _run(planted.evalset(40), RANDOM, "operating")
    assert all(np.isnan(result.value) and "no validation split" in result.note for result in found.values())


def test_patients_that_are_chosen_by_and_measured_are_refused() -> None:
    evalset = planted.evalset(40)
    with pytest.raises(ValueError, match="20 patients are in split test and in its validation"):
        _run(evalset, RANDOM, "operating", evalset)


def test_a_subgroup_is_scored_on_its_own_studies() -> None:
    evalset = planted.evalset(150)
    truth, scores = evalset.truth[:, EDEMA], _pair(RANDOM, evalset, "edema")
    assert not any("age_band" in metric for metric in _run(evalset, RANDOM, "subgroups"))  # unknown of all
    groups = {**evalset.groups, "age_band": ("18-39", "40-59", "") * 50, "view": ("AP", "PA", "PA") * 50}
    found = _run(dataclasses.replace(evalset, groups=groups).sealed(), RANDOM, "subgroups")
    for group, value in (("sex", "F"), ("age_band", "40-59"), ("view", "AP")):
        row, inside = found[f"subgroups/auroc/edema/{group}={value}"], np.array(groups[group]) == value
        assert row.value == pytest.approx(roc_auc_score(truth[inside], scores[inside]), abs=1e-6)
        assert row.group == f"{group}={value}" and row.n == inside.sum() and row.prevalence == row.positives / row.n
    parts = [found[f"subgroups/auroc/{name}/sex=F"].value for name in WORDS]
    assert found["subgroups/auroc/macro/sex=F"].value == pytest.approx(np.mean(parts))
    of_five = _run(dataclasses.replace(evalset, release="chexpert").sealed(), RANDOM, "subgroups")
    assert "pneumothorax" not in of_five["subgroups/auroc/macro/sex=F"].note  # as in zero-shot's, not one of the five


def test_a_report_that_names_no_device_is_of_a_study_without_and_one_view_is_no_subgroup() -> None:
    evalset = planted.evalset(60)
    mentioned = evalset.mentioned.copy()
    mentioned[:20, schema.INDEX["support_devices"]] = 1
    found = _run(dataclasses.replace(evalset, mentioned=mentioned).sealed(), RANDOM, "subgroups")
    sizes = {word: found[f"subgroups/auroc/macro/device={word}"].n for word in ("yes", "no")}
    assert sizes == {"yes": 20, "no": 40}
    assert not any("view" in metric for metric in found)
    assert not any("device" in metric for metric in _run(evalset, RANDOM, "subgroups"))


def test_a_subgroup_with_one_outcome_says_so() -> None:
    evalset = planted.evalset(60)
    truth = evalset.truth.copy()
    truth[np.array(evalset.groups["sex"]) == "F", EDEMA] = 0
    found = _run(dataclasses.replace(evalset, truth=truth).sealed(), RANDOM, "subgroups")
    row = found["subgroups/auroc/edema/sex=F"]
    assert np.isnan(row.value) and row.note == "one outcome only" and row.prevalence == 0
