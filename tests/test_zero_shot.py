"""Zero-shot scores: planted truth is found, chance stays chance, unknown labels are masked, rows cannot slip."""

import dataclasses

import numpy as np
import planted
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from clinicclip.data import schema
from clinicclip.data.generators import templates
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import embedding, prompts, suites
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap
from clinicclip.evals.zero_shot import ZeroShot

EFFUSION = schema.INDEX["pleural_effusion"]


def _run(evalset: EvalSet, embed: EmbedFns, draws: int = 50, **options: tuple[str, ...]) -> dict[str, Result]:
    embedded = embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts))
    found = ZeroShot(**options).run(evalset, embedded, PatientBootstrap(evalset.patients, draws=draws))
    return {item.metric: item for item in found if isinstance(item, Result)}


def test_an_oracle_is_perfect_under_both_rules() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.oracle(evalset))
    assert len(found) == 2 * 2 * (len(planted.WORDS) + 2)
    assert {result.value for result in found.values()} == {1.0}
    assert found["zero_shot/planted/auroc/pair/normal"].positives == int(np.nansum(evalset.normal))


def test_random_directions_are_at_chance() -> None:
    evalset = planted.evalset(300)
    for name, result in _run(evalset, planted.chance(evalset), draws=200).items():
        half_width = (result.ci_high - result.ci_low) / 2
        expected = 0.5 if "/auroc/" in name else None
        if expected is not None:
            assert abs(result.value - expected) < 2.5 * half_width


def test_scores_equal_scikit_learn_on_cosines() -> None:
    evalset = planted.evalset(80)
    embed = planted.chance(evalset)
    found = _run(evalset, embed)
    images = embed.images(evalset.images).vectors
    sides = prompts.REPORTS.ensemble("pleural_effusion")
    means = [planted.unit(embed.texts(list(side)).mean(axis=0)[None])[0] for side in sides]
    scores = {"positive": images @ means[0], "pair": images @ means[0] - images @ means[1]}
    truth = evalset.truth[:, EFFUSION]
    for rule, values in scores.items():
        area = found[f"zero_shot/planted/auroc/{rule}/pleural_effusion"].value
        precision = found[f"zero_shot/planted/auprc/{rule}/pleural_effusion"].value
        assert area == pytest.approx(roc_auc_score(truth, values), abs=1e-6)
        assert precision == pytest.approx(average_precision_score(truth, values), abs=1e-6)


def test_unknown_labels_are_masked_and_counted_out() -> None:
    evalset = planted.evalset()
    truth = evalset.truth.copy()
    truth[:30, EFFUSION] = np.nan
    masked = dataclasses.replace(evalset, truth=truth).sealed()
    found = _run(masked, planted.oracle(evalset))["zero_shot/planted/auroc/pair/pleural_effusion"]
    assert found.n == 90 and found.value == 1.0
    assert found.positives == int((evalset.truth[30:, EFFUSION] == 1).sum())


def test_a_class_with_one_outcome_is_reported_as_such_and_kept_out_of_the_macro() -> None:
    evalset = planted.evalset()
    truth = evalset.truth.copy()
    truth[:, EFFUSION] = 0
    found = _run(dataclasses.replace(evalset, truth=truth).sealed(), planted.oracle(evalset))
    effusion = found["zero_shot/planted/auroc/pair/pleural_effusion"]
    assert np.isnan(effusion.value) and effusion.note == "one outcome only"
    macro = found["zero_shot/planted/auroc/pair/macro"]
    assert macro.value == 1.0 and "pleural_effusion" not in macro.note


def test_the_macro_runs_over_the_findings_asked_for() -> None:
    evalset = planted.evalset(80)
    chosen = ("cardiomegaly", "edema")
    found = _run(evalset, planted.chance(evalset), findings=chosen)
    parts = [found[f"zero_shot/planted/auroc/pair/{finding}"].value for finding in chosen]
    macro = found["zero_shot/planted/auroc/pair/macro"]
    assert macro.value == pytest.approx(np.mean(parts))
    assert macro.note == "mean over cardiomegaly, edema"


def test_without_gold_the_text_stands_in_and_the_source_says_so() -> None:
    evalset = planted.evalset(gold=False)
    assert evalset.source == "report text (no gold labels)"
    found = _run(evalset, planted.oracle(evalset))["zero_shot/planted/auroc/pair/pleural_effusion"]
    assert found.truth == evalset.source and found.value == 1.0


def test_images_embedded_out_of_order_fail_loudly() -> None:
    evalset = planted.evalset(40)
    right = planted.oracle(evalset)

    def shuffled(pictures: np.ndarray) -> np.ndarray:
        return right.images(pictures).vectors[np.random.default_rng(0).permutation(len(pictures))]

    with pytest.raises(ValueError, match="order"):
        _run(evalset, EmbedFns(planted.marked(shuffled), right.texts))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda vectors: vectors[:-1], "shape"),
        (lambda vectors: vectors * np.float32(np.nan), "finite"),
        (lambda vectors: 2 * vectors, "normalised"),
    ],
)
def test_embeddings_that_would_score_wrongly_are_refused(fault, message: str) -> None:
    vectors = planted.unit(np.random.default_rng(0).normal(size=(6, 4)))
    with pytest.raises(ValueError, match=message):
        embedding.checked(lambda items: fault(vectors[: len(items)]), ["a"] * 6, "texts")


def test_each_distinct_text_is_embedded_once() -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return planted.by_text(planted.noise)(texts)

    bank = embedding.TextBank(embed)
    bank(["a", "b", "a"])
    first = len(asked)
    np.testing.assert_array_equal(bank(["b", "c"])[0], bank(["b"])[0])
    assert asked[:2] == ["a", "b"] and asked[first:].count("c") >= 1 and "b" not in asked[first:]


def test_a_repeated_image_id_is_one_clear_line() -> None:
    twice = [planted.record(1, ()), planted.record(1, ())]
    with pytest.raises(UserError, match="image1 occurs twice"):
        EvalSet.from_records("planted", "test", twice, planted.SIDE, True)


def test_an_empty_split_and_an_unknown_gold_label_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="holds no study"):
        EvalSet.from_records("planted", "test", [], planted.SIDE, True)
    strange = planted.record(1, ()) | {"gold_names": ["dragon"], "gold_values": np.array([1], np.int8)}
    with pytest.raises(UserError, match="dragon"):
        EvalSet.from_records("planted", "test", [strange], planted.SIDE, True)


def test_unknown_suites_and_findings_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean zero_shot"):
        suites.check_names(["zeroshot"])
    with pytest.raises(UsageError, match="did you mean pleural_effusion"):
        suites.check_names(["zero_shot"], ["pleural_efusion"])


def test_normality_is_affirmed_and_denied_by_its_own_sentences() -> None:
    sides = prompts.REPORTS.ensemble("no_finding")
    assert all(planted.statements(text)[-1] >= 0 for text in sides.positive)  # 0: denies findings one by one
    assert [planted.statements(text)[-1] for text in sides.negative] == [-1] * len(sides.negative)


def test_prompts_say_what_they_should() -> None:
    for finding in schema.FINDINGS:
        sides = prompts.REPORTS.ensemble(finding)
        assert len(set(sides.positive)) >= 4 and len(set(sides.negative)) >= 4
        assert not set(sides.positive) & set(sides.negative)
        texts = [*sides.positive, *sides.negative]
        assert all(text[0].isupper() and text.endswith(".") and "{" not in text for text in texts)
        assert not any("no finding" in text.lower() or " no a " in text.lower() for text in texts)


def test_the_overlap_of_prompts_and_training_templates_is_told() -> None:
    assert (
        prompts.REPORTS.overlap(["There is no {x}.", "Absent {x}."])
        == "1 of 8 templates shared with the training generator"
    )
    evaluation = suites.run_suites(planted.chance(planted.evalset(20)), [planted.evalset(20)], ["zero_shot"], draws=2)
    assert evaluation.facts["prompt_overlap"] == prompts.REPORTS.overlap(templates.TRAIN.patterns)
