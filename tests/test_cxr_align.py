"""CXR-Align: tasks, ties, and a control that tells seeing from a habit of the text tower."""

import dataclasses

import numpy as np
import planted
import pytest

from clinicclip.data import schema
from clinicclip.evals import cxr_align, embedding, matching
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.cxr_align import CxrAlign
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap

EDEMA = schema.INDEX["edema"]


def _run(evalset: EvalSet, embed: EmbedFns, draws: int = 50) -> dict[str, Result]:
    embedded = embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts))
    bootstrap = PatientBootstrap(evalset.patients, draws=draws)
    return {result.metric: result for result in CxrAlign().run(evalset, embedded, bootstrap)}


def test_an_oracle_solves_every_task_by_seeing() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.oracle(evalset))
    for task in cxr_align.TASKS:
        assert found[f"cxr_align/{task}"].value == 1.0
        assert found[f"cxr_align/{task}/image_driven"].value == 1.0
    assert found["cxr_align/task_a"].n == int(
        (evalset.truth[:, list(map(schema.INDEX.get, planted.WORDS))] == 1).any(axis=1).sum()
    )
    assert found["cxr_align/task_a"].generator == "eval"


def test_what_an_image_blind_model_gains_its_control_gains_too() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.blind(evalset))
    driven = [result.value for name, result in found.items() if "/image_driven" in name]
    assert driven and set(driven) == {0.0}


def test_who_cannot_hear_denial_ties_on_task_a() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.spotter(evalset))
    assert found["cxr_align/task_a"].value == 0.5
    assert found["cxr_align/task_a/image_driven"].value == 0.0
    assert found["cxr_align/task_b"].value == 1.0


def test_random_directions_are_not_image_driven() -> None:
    evalset = planted.evalset(300)
    found = _run(evalset, planted.chance(evalset), draws=200)
    for task, level in zip(cxr_align.TASKS, (0.5, 0.5, 0.5, 1 / 3), strict=True):
        driven = found[f"cxr_align/{task}/image_driven"]
        assert abs(driven.value) < 1.3 * (driven.ci_high - driven.ci_low) / 2 + 0.05
        assert abs(found[f"cxr_align/{task}"].value - level) < 0.12


def test_the_rates_equal_a_loop_over_items() -> None:
    evalset = planted.evalset(50)
    embed = planted.chance(evalset)
    images = embed.images(evalset.images).vectors
    items = cxr_align.build_items(evalset, seed=0)
    right, wrong = [], []
    for finding in {item.finding for item in items}:
        members = [item for item in items if item.finding == finding]
        controls = matching.without_finding(evalset, finding, np.array([item.row for item in members]))
        for item, others in zip(members, controls, strict=True):
            report, negated = embed.texts([item.report, item.negated])
            right.append(images[item.row] @ report > images[item.row] @ negated)
            wrong.append(np.mean([images[o] @ report > images[o] @ negated for o in others]))
    found = _run(evalset, embed)
    assert found["cxr_align/task_a"].value == pytest.approx(np.mean(right))
    assert found["cxr_align/task_a/wrong_image"].value == pytest.approx(np.mean(wrong))
    assert found["cxr_align/task_a/image_driven"].value == pytest.approx(np.mean(right) - np.mean(wrong))


def test_findings_are_reported_one_by_one() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.chance(evalset))
    parts = [found[f"cxr_align/task_b/{name}"] for name in planted.WORDS]
    whole = found["cxr_align/task_b"]
    assert sum(part.n for part in parts) == whole.n
    assert sum(part.n * part.value for part in parts) == pytest.approx(whole.n * whole.value)


def test_items_differ_in_their_finding_alone() -> None:
    evalset = planted.evalset(40)
    for item in cxr_align.build_items(evalset, seed=0):
        before, denied = planted.statements(item.report), planted.statements(item.negated)
        assert before[item.finding] == 1 and denied[item.finding] == -1
        assert planted.statements(item.omitted)[item.finding] == 0
        kept = [schema.INDEX[name] for name in planted.WORDS if schema.INDEX[name] != item.finding]
        np.testing.assert_array_equal(before[kept], denied[kept])


def test_controls_are_other_patients_whose_labels_say_absent() -> None:
    evalset = planted.evalset()
    truth = evalset.truth.copy()
    truth[::3, EDEMA] = np.nan
    evalset = dataclasses.replace(evalset, truth=truth).sealed()
    rows = np.flatnonzero(truth[:, EDEMA] == 1)
    controls = matching.without_finding(evalset, EDEMA, rows)
    assert controls.shape == (len(rows), 8) and (controls >= 0).all()
    assert (truth[controls, EDEMA] == 0).all()
    patients = np.array(evalset.patients)
    assert (patients[controls] != patients[rows][:, None]).all()
    assert all(len(set(row)) == 8 for row in controls)
    np.testing.assert_array_equal(controls, matching.without_finding(evalset, EDEMA, rows))


def test_controls_agree_on_the_other_findings_where_they_can() -> None:
    evalset = planted.evalset(300)
    rows = np.flatnonzero(evalset.truth[:, EDEMA] == 1)
    controls = matching.without_finding(evalset, EDEMA, rows, count=1)[:, 0]
    others = [schema.INDEX[name] for name in planted.WORDS if name != "edema"]
    assert (evalset.truth[rows][:, others] == evalset.truth[controls][:, others]).all(axis=1).mean() > 0.95


def test_an_abnormal_study_that_nothing_explains_is_never_a_control() -> None:
    evalset = planted.evalset()
    silent = np.flatnonzero(evalset.normal == 1)
    normal = evalset.normal.copy()
    normal[silent] = 0
    assert evalset.absent(EDEMA)[silent].all()
    assert not dataclasses.replace(evalset, normal=normal).absent(EDEMA)[silent].any()


def test_a_finding_without_gold_is_absent_where_the_report_denies_it_or_is_normal() -> None:
    evalset = planted.evalset()
    truth = evalset.truth.copy()
    truth[:, EDEMA] = np.nan
    by_report = dataclasses.replace(evalset, truth=truth).absent(EDEMA)
    np.testing.assert_array_equal(by_report, evalset.mentioned[:, EDEMA] == 0)


def test_too_few_controls_leave_places_empty() -> None:
    evalset = EvalSet.from_records(
        "planted",
        "test",
        [planted.record(i, ("edema",) if i < 4 else ()) for i in range(7)],
        planted.SIDE,
        True,
    )
    controls = matching.without_finding(evalset, EDEMA, np.arange(4))
    assert ((controls >= 0).sum(axis=1) == 3).all() and (controls[:, 3:] == -1).all()
    found = _run(evalset, planted.oracle(evalset))
    assert found["cxr_align/task_a/wrong_image"].n == 4


def test_mismatches_count_what_differs_and_half_of_what_one_side_does_not_know() -> None:
    first = np.array([[1.0, 0.0, np.nan]])
    second = np.array([[1.0, 0.0, np.nan], [0.0, 0.0, 1.0], [np.nan, 1.0, np.nan]])
    np.testing.assert_array_equal(matching.mismatches(first, second), [[0.0, 1.5, 1.5]])
