"""Every row says on how many studies, and how many of them show what it is about; what cannot be measured says why."""

import dataclasses

import known
import numpy as np
import planted
import pytest

from clinicclip.data import schema
from clinicclip.data.schema import Box
from clinicclip.evals import matching, outcomes, stats, suites
from clinicclip.evals.base import EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.suites import Beside

EDEMA, FRACTURE, ATELECTASIS = (schema.INDEX[name] for name in ("edema", "fracture", "atelectasis"))
RARE = 3  # patients that show a pneumothorax
ABOUT_FINDINGS = ("zero_shot", "pair_strict", "subgroups", "calibration", "operating", "probe")


def _lone(studies: int = 60) -> EvalSet:
    """Edema has two outcomes in the reports and one in the labels; fractures are coded and never there.

    Atelectasis is told by reports alone, and few patients show a pneumothorax.
    """
    rng = np.random.default_rng(0)
    shown = [[name for name in planted.WORDS if rng.random() < 0.3 and name != "pneumothorax"] for _ in range(studies)]
    made = [planted.record(i, ["pneumothorax"] if i < 2 * RARE else shown[i]) for i in range(studies)]
    evalset = EvalSet.from_records("planted", "test", made, planted.SIDE, True)
    truth = evalset.truth.copy()
    truth[:, EDEMA], truth[:, FRACTURE], truth[:, ATELECTASIS] = 1, 0, np.nan
    boxes = tuple((Box("pneumothorax" if i < 2 * RARE else "cardiomegaly", 2, 2, 8, 8),) for i in range(studies))
    return dataclasses.replace(evalset, truth=truth, boxes=boxes).sealed()


@pytest.fixture(scope="module")
def rows() -> dict[str, Result]:
    evalset, other = _lone(), dataclasses.replace(planted.evalset(60, seed=1), split="other")
    other = dataclasses.replace(other, patients=tuple(f"other {name}" for name in other.patients)).sealed()
    pictures = {image.tobytes(): f"{i}" for one in (evalset, other) for i, image in enumerate(one.images)}
    words = planted.by_text(lambda said: np.append(planted.noise(said), 0))
    embed = suites.EmbedFns(planted.marked(lambda x: words([pictures[i.tobytes()] for i in x])), words)
    embed = known.patches(embed, evalset, 4, lambda row, finding: np.eye(4))
    beside = {evalset.name: Beside(train=other, validation=other)}
    found = suites.run_suites(embed, [evalset], tuple(suites.SUITES), draws=20, beside=beside).results
    return {result.metric: result for result in found}


def test_every_row_has_its_number_and_its_prevalence(rows: dict[str, Result]) -> None:
    assert {name.split("/")[0] for name in rows} == {*suites.SUITES, "calibration"}
    for name, row in rows.items():
        assert row.prevalence is not None and 0 <= row.prevalence <= 1 and row.prevalence_of, name
        assert row.n >= row.patients and (row.n > 0 or row.note), name
        assert np.isfinite(row.value) or row.note, name


def test_prevalence_is_of_what_the_row_is_about(rows: dict[str, Result]) -> None:
    evalset = _lone()
    share = float((evalset.truth[:, schema.INDEX["cardiomegaly"]] == 1).mean())
    usual = ("pair_strict", "cxr_align/task_a", "grounding/pointing", "probe/auroc@1")
    for suite in ("zero_shot/planted/auroc/pair", *usual):
        row = rows[f"{suite}/cardiomegaly"]
        assert row.prevalence == pytest.approx(share) and row.prevalence_of == "cardiomegaly", suite
        assert row.positives == round(share * 60)
    coded = [f for f in outcomes.coded(evalset) if outcomes.both(evalset.truth[:, f])]
    macro = rows["zero_shot/planted/auroc/pair/macro"]
    assert macro.prevalence == pytest.approx(float((evalset.truth[:, coded] == 1).mean())) and macro.positives is None
    told = rows["cxr_align/task_a/atelectasis"]
    assert (
        told.positives == int((evalset.mentioned[:, ATELECTASIS] == 1).sum()) > 0
        and told.prevalence_of == "atelectasis"
    )
    assert told.prevalence == pytest.approx(told.positives / 60) and told.truth == "report text (not coded in this set)"
    assert rows["cxr_align/task_a/cardiomegaly"].truth == evalset.source
    recall = rows["retrieval/i2t/recall@1"]
    assert (
        recall.prevalence == pytest.approx(float((evalset.normal == 0).mean())) and recall.prevalence_of == "abnormal"
    )


def test_an_interval_that_hangs_on_few_patients_or_is_none_is_marked_in_every_suite(rows: dict[str, Result]) -> None:
    found = {name: row for name, row in rows.items() if np.isfinite(row.value)}
    rare = {name: row for name, row in found.items() if "pneumothorax" in name.split("/")}
    assert {name.split("/")[0] for name in rare} == {*ABOUT_FINDINGS, "cxr_align", "grounding"}
    assert {row.caution for row in rare.values()} == {outcomes.FEW_PATIENTS, outcomes.ALIKE}
    for name, row in found.items():
        assert row.draws is not None and (row.caution == outcomes.ALIKE) == (len(set(row.draws.tolist())) == 1), name
    usual = [row for name, row in found.items() if name.endswith("auroc/pair/cardiomegaly") or "recall@10" in name]
    assert len(usual) == 3 and {row.caution for row in usual} == {""}


def test_draws_that_often_did_not_exist_are_marked() -> None:
    draws = stats.Draws(0.5, np.linspace(0, 1, 100), 6)
    assert outcomes.caution(draws, [9]) == outcomes.FEW_PATIENTS
    assert outcomes.caution(draws, [9], parts=2) == outcomes.caution(draws._replace(redrawn=5), [9]) == ""
    assert outcomes.caution(draws._replace(redrawn=0), [9, 4]) == outcomes.FEW_PATIENTS


def test_a_class_with_one_outcome_is_reported_as_such_in_every_suite(rows: dict[str, Result]) -> None:
    for finding in ("edema", "fracture"):
        for suite in ABOUT_FINDINGS:
            found = [row for name, row in rows.items() if name.startswith(suite) and finding in name.split("/")]
            assert found, (suite, finding)
            assert all(np.isnan(row.value) and row.note == outcomes.ONE_OUTCOME for row in found), (suite, finding)
        macros = [row for name, row in rows.items() if name.split("/")[-1] == "macro" and np.isfinite(row.value)]
        assert macros and not any(finding in row.note for row in macros)
    assert rows["cxr_align/task_a/fracture"].note.startswith("no report states it")
    assert rows["cxr_align/task_a/wrong_image/edema"].note == matching.NO_IMAGES
    assert np.isfinite(rows["cxr_align/task_a/edema"].value)
    assert rows["five_way/accuracy/pair"].note.startswith("no image is known")


def test_a_set_of_normal_images_alone_says_so_in_every_suite() -> None:
    made = [planted.record(i, ()) for i in range(12)]
    evalset = EvalSet.from_records("planted", "test", made, planted.SIDE, True)
    found = suites.run_suites(planted.chance(evalset), [evalset], suites.USUAL, draws=2).results
    assert {result.metric.split("/")[0] for result in found} == {*suites.USUAL, "calibration"} - {"grounding"}
    for result in found:
        exists = result.metric.split("/")[2:] and result.metric.split("/")[2].startswith(("recall", "median"))
        assert np.isfinite(result.value) if exists else np.isnan(result.value) and result.note, result.metric


def test_unknown_labels_are_masked_in_every_suite() -> None:
    """Where a finding is unknown of some studies, its numbers are those of the set without them."""
    evalset, other = planted.evalset(60), planted.evalset(80, seed=1)
    other = dataclasses.replace(other, patients=tuple(f"other {name}" for name in other.patients)).sealed()
    pictures = {image.tobytes(): f"{i}" for one in (evalset, other) for i, image in enumerate(one.images)}
    words = planted.by_text(planted.noise)
    embed = suites.EmbedFns(planted.marked(lambda x: words([pictures[i.tobytes()] for i in x])), words)
    unknown = np.random.default_rng(0).random(60) < 0.3
    masked = dataclasses.replace(evalset, truth=evalset.truth.copy())
    masked.truth[unknown, EDEMA] = np.nan
    without = EvalSet.from_records(
        "planted",
        "test",
        [row for row, gone in zip(planted.records(60), unknown, strict=True) if not gone],
        planted.SIDE,
        True,
    )
    chosen = ("zero_shot", "pair_strict", "subgroups", "operating")
    found = []
    for one in (masked.sealed(), without):
        near = {"planted": Beside(validation=other)}
        results = suites.run_suites(embed, [one], chosen, draws=0, beside=near).results
        found.append(
            {r.metric: (r.value, r.n, r.positives, r.pairs) for r in results if "edema" in r.metric.split("/")}
        )
    assert {name.split("/")[0] for name in found[0]} == {*chosen, "calibration"}
    assert found[0].keys() == found[1].keys()
    for name, told in found[0].items():
        assert told == pytest.approx(found[1][name], nan_ok=True), name


def test_without_labels_controls_are_images_that_the_report_clears() -> None:
    """Denied, or silent in a normal study; an abnormal study's silence says nothing, nor does an uncertain word."""
    made = planted.records(12, gold=False)
    silent = ("sentences", "sentence_finding", "sentence_polarity", "sentence_laterality")
    places = list(planted.WORDS)
    edema = places.index("edema")

    def without(row: dict) -> dict:
        return row | {column: np.delete(np.array(row[column], object), edema).tolist() for column in silent}

    normal, abnormal = planted.record(20, (), gold=False), planted.record(22, ("atelectasis",), gold=False)
    unsure = planted.record(24, (), gold=False)
    unsure["sentence_polarity"][edema] = schema.UNCERTAIN
    unsure["normal"] = 0
    made += [without(normal), without(abnormal), unsure]
    evalset = EvalSet.from_records("planted", "test", made, planted.SIDE, True)
    assert not evalset.coded
    absent = evalset.absent(EDEMA)
    denied = evalset.mentioned[:12, EDEMA] == 0
    np.testing.assert_array_equal(absent, [*denied, True, False, False])
    chosen = matching.without_finding(evalset, EDEMA, np.array([0]))
    assert set(chosen[chosen >= 0].tolist()) <= set(np.flatnonzero(absent).tolist())
