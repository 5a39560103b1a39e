"""Which part of a report one step shows: the sentence filter, one sentence a draw, and who negated the rest."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from loading import make_record

from clinicclip import assemble, config, dataset
from clinicclip.data import draws, records
from clinicclip.data.augment import AugmentSpec
from clinicclip.data.draws import DrawStudy, TrainSpec
from clinicclip.data.features import FeatureTable
from clinicclip.data.generators import templates
from clinicclip.data.schema import FINDINGS, INDEX, UNCERTAIN, UNKNOWN, Record, Study
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError

ABNORMAL = ["The heart is enlarged.", "Possible left pneumonia.", "Small right effusion."]
NORMAL = ["No pneumothorax.", "The aorta is normal.", "A pacemaker is in place."]
LENGTH = 48
SPEC = TrainSpec(image_size=16, text_length=LENGTH, augment=AugmentSpec(1.0, 0.0, 0.0, 0.0), negation=True)


def make(sentences: list[str]) -> Record:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    made = records.make(Study("p", "s", "i", "train", noise, " ".join(sentences), ""), records.Recipe())
    assert isinstance(made, dict)
    return made


MIXED = make([NORMAL[0], ABNORMAL[0], NORMAL[1], ABNORMAL[1], NORMAL[2], ABNORMAL[2]])
HEALTHY = make(NORMAL)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([" ".join(ABNORMAL + NORMAL), *templates.TRAIN.patterns, *templates.EVAL.patterns], 300)


def texts(tokenizer: Tokenizer, record: Record, count: int = 40, **changes: str | int) -> list[tuple[int, ...]]:
    draw = DrawStudy(dataclasses.replace(SPEC, **changes), tokenizer, None)
    return [tuple(draw.random_map(record, np.random.default_rng(seed))["text_tokens"]) for seed in range(count)]


def encoded(tokenizer: Tokenizer, *sentences: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode([" ".join(sentences)], LENGTH)[0][0])


def test_one_sentence_a_draw_is_each_of_them_in_time(tokenizer: Tokenizer) -> None:
    expected = {encoded(tokenizer, sentence) for sentence in MIXED["sentences"]}
    assert set(texts(tokenizer, MIXED, text_mode="sentence")) == expected and len(expected) == 6


def test_the_filter_keeps_of_an_abnormal_report_its_abnormal_sentences_in_order(tokenizer: Tokenizer) -> None:
    assert set(texts(tokenizer, MIXED, sentence_filter="abnormal")) == {encoded(tokenizer, *ABNORMAL)}


def test_the_filter_leaves_a_normal_report_whole(tokenizer: Tokenizer) -> None:
    whole = texts(tokenizer, HEALTHY, sentence_filter="abnormal")
    assert set(whole) == {encoded(tokenizer, *HEALTHY["sentences"])} == set(texts(tokenizer, HEALTHY))


def test_filtered_reports_are_drawn_from_by_sentence(tokenizer: Tokenizer) -> None:
    drawn = texts(tokenizer, MIXED, text_mode="sentence", sentence_filter="abnormal")
    assert set(drawn) == {encoded(tokenizer, sentence) for sentence in ABNORMAL}
    subsets = set(texts(tokenizer, MIXED, text_mode="sentences", sentence_filter="abnormal"))
    assert encoded(tokenizer, *ABNORMAL) in subsets and 3 < len(subsets) <= 7


def test_a_filtered_report_keeps_the_labels_of_its_study_and_one_sentence_its_own(tokenizer: Tokenizer) -> None:
    def labels(seed: int, **changes: str) -> np.ndarray:
        draw = DrawStudy(dataclasses.replace(SPEC, **changes), tokenizer, None)
        return draw.random_map(MIXED, np.random.default_rng(seed))["labels"]

    np.testing.assert_array_equal(labels(0, sentence_filter="abnormal"), labels(0))
    effusion = INDEX["pleural_effusion"]
    single = [labels(seed, text_mode="sentence") for seed in range(40)]
    assert {bool(values[effusion]) for values in single} == {True, False}


def test_features_of_what_is_not_a_whole_report_are_those_of_its_sentences(tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    table = FeatureTable(MIXED["sentences"], rng.normal(size=(6, 5)).astype(np.float32))
    spec = dataclasses.replace(SPEC, text_features=True, sentence_filter="abnormal")
    assert not spec.whole_reports and SPEC.whole_reports
    found = DrawStudy(spec, tokenizer, table).random_map(MIXED, rng)["text_feature"]
    total = table.lookup(ABNORMAL).sum(0)
    np.testing.assert_allclose(found, total / np.linalg.norm(total), rtol=1e-5)


def test_negations_of_parts_are_written_by_the_training_generator(tokenizer: Tokenizer) -> None:
    draw = DrawStudy(dataclasses.replace(SPEC, sentence_filter="abnormal"), tokenizer, None)
    found = {tuple(draw.random_map(MIXED, np.random.default_rng(seed))["negated_tokens"]) for seed in range(40)}
    names = ("cardiomegaly", "cardiac enlargement")
    denials = [templates.TRAIN.write(pattern, name) for pattern in templates.TRAIN.patterns for name in names]
    effusion = [templates.TRAIN.write(pattern, "pleural effusion") for pattern in templates.TRAIN.patterns]
    expected = {encoded(tokenizer, denial, *ABNORMAL[1:]) for denial in denials}
    expected |= {encoded(tokenizer, *ABNORMAL[:2], denial) for denial in effusion}
    assert found <= expected and len(found) > 5


def test_reports_negated_by_a_model_are_used_when_asked_for_and_only_then(tokenizer: Tokenizer) -> None:
    written = MIXED | {"negated": "The heart is normal.", "negated_by": "llm"}
    draw = DrawStudy(dataclasses.replace(SPEC, negation_generator="llm"), tokenizer, None)
    study = draw.random_map(written, np.random.default_rng(0))
    assert tuple(study["negated_tokens"]) == encoded(tokenizer, "The heart is normal.") and study["negated_valid"]
    with pytest.raises(UserError, match="prepared with 'llm'"):
        DrawStudy(SPEC, tokenizer, None).random_map(written, np.random.default_rng(0))
    none = written | {"negated": "", "negated_by": ""}
    assert not draw.random_map(none, np.random.default_rng(0))["negated_valid"]


@pytest.mark.parametrize("text_mode", draws.TEXT_MODES)
@pytest.mark.parametrize("sentence_filter", draws.SENTENCE_FILTERS)
def test_frozen_features_cover_whatever_is_drawn(
    tokenizer: Tokenizer, tmp_path: Path, text_mode: str, sentence_filter: str
) -> None:
    overrides = [("data.text_mode", text_mode), ("data.sentence_filter", sentence_filter)]
    chosen = config.load("configs/dt.py:data=phantom,size=micro", overrides)
    table = dataset.frozen_features(chosen, {"files": {}}, [MIXED, HEALTHY], tmp_path)
    draw = DrawStudy(assemble.train_spec(chosen), tokenizer, table)
    for record in (MIXED, HEALTHY):
        drawn = [draw.random_map(record, np.random.default_rng(seed)) for seed in range(20)]
        assert all(study["text_valid"] for study in drawn)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_mode": "words"}, "text_mode='words': one of report, sentences, sentence"),
        ({"sentence_filter": "normal"}, "sentence_filter='normal': one of none, abnormal"),
        ({"negation_generator": "eval"}, "negation_generator='eval': one of train, llm"),
        ({"negation_generator": "llm", "text_mode": "sentence"}, "whole reports"),
        ({"negation_generator": "llm", "sentence_filter": "abnormal"}, "whole reports"),
    ],
)
def test_options_that_do_not_exist_or_go_together_are_one_line(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        dataclasses.replace(SPEC, **changes)


def test_a_sentence_is_abnormal_when_the_normal_rule_says_so() -> None:
    said = draws.sentences(MIXED)
    assert [sentence.text for sentence in draws.abnormal(said)] == ABNORMAL
    assert draws.abnormal(draws.sentences(HEALTHY)) == draws.sentences(HEALTHY)
    assert (HEALTHY["normal"], MIXED["normal"]) == (1, 0) and UNKNOWN not in (HEALTHY["normal"], MIXED["normal"])


def claimed(claims: np.ndarray) -> dict[str, float]:
    return {FINDINGS[i]: float(claims[i]) for i in np.flatnonzero(claims)}


def contradicted(study: dict, which: str) -> float:
    """How many claims of a text the study's findings are at odds with."""
    claims = study[f"{which}_claims"]
    return float((claims > 0).sum() - claims @ study["findings"])


def test_a_study_shows_what_its_whole_report_states_and_a_text_claims_what_it_says(tokenizer: Tokenizer) -> None:
    spec = dataclasses.replace(SPEC, claims=True, text_mode="sentence")
    seen = [DrawStudy(spec, tokenizer, None).random_map(MIXED, np.random.default_rng(seed)) for seed in range(40)]
    shown = {"enlarged_cardiomediastinum", "cardiomegaly", "lung_opacity", "pneumonia", "pleural_effusion"}
    assert all(set(claimed(study["findings"])) == shown | {"support_devices"} for study in seen)
    told = {tuple(claimed(study["text_claims"]).items()) for study in seen}
    assert {(("pneumothorax", -1.0),), (("pneumonia", 1.0),), (("cardiomegaly", 1.0),)} <= told
    assert not any(contradicted(study, "text") for study in seen)
    denied = [study for study in seen if study["negated_valid"]]
    assert denied and all(contradicted(study, "negated") == 1 for study in denied)


def test_a_normal_study_shows_no_finding(tokenizer: Tokenizer) -> None:
    spec = dataclasses.replace(SPEC, claims=True)
    study = DrawStudy(spec, tokenizer, None).random_map(make(NORMAL[:2]), np.random.default_rng(0))
    assert claimed(study["findings"]) == {"no_finding": 1.0}


def test_a_sentence_made_of_a_label_is_true_and_its_negation_false_whichever_way_it_is_said(
    tokenizer: Tokenizer,
) -> None:
    spec = dataclasses.replace(SPEC, claims=True, label_sentences=1.0)
    draw = DrawStudy(spec, tokenizer, None)
    seen = [draw.random_map(MIXED, np.random.default_rng(seed)) for seed in range(200)]
    assert all(contradicted(study, "text") == 0 and contradicted(study, "negated") == 1 for study in seen)
    for study in seen:
        assert study["negated_valid"]
        np.testing.assert_array_equal(study["text_claims"], -study["negated_claims"])
    stated = [next(iter(claimed(study["text_claims"]).items())) for study in seen]
    assert {value for _, value in stated} == {1.0, -1.0}
    doubted = {"pneumonia", "lung_opacity"}  # neither stated nor denied
    assert {name for name, _ in stated} == set(FINDINGS[1:14]) - doubted


def test_sentences_are_made_of_finer_findings_that_the_report_names_when_asked_for(tokenizer: Tokenizer) -> None:
    record = make(["There is emphysema.", *ABNORMAL])
    finer = {encoded(tokenizer, f"There is {name}.") for name in ("emphysema", "emphysematous change")}
    drawn = {
        whose: set(texts(tokenizer, record, label_sentences=1.0, label_findings=whose)) for whose in ("chexpert", "all")
    }
    assert finer & drawn["all"] and not finer & drawn["chexpert"]
    assert drawn["all"] & drawn["chexpert"]


def test_labels_that_are_not_known_make_no_sentence(tokenizer: Tokenizer) -> None:
    unknown = {**MIXED, "labels": np.full(14, UNKNOWN, np.int8)}
    assert texts(tokenizer, unknown, label_sentences=1.0) == texts(tokenizer, unknown)


def test_a_sentence_made_of_a_label_has_no_place_in_the_stream_of_frozen_features(tokenizer: Tokenizer) -> None:
    table = FeatureTable(MIXED["sentences"], np.ones((6, 5), np.float32))
    spec = dataclasses.replace(SPEC, text_features=True, label_sentences=1.0)
    study = DrawStudy(spec, tokenizer, table).random_map(MIXED, np.random.default_rng(0))
    assert not study["text_valid"] and not study["text_feature"].any()


def test_a_share_of_label_sentences_is_a_share() -> None:
    with pytest.raises(UserError, match=r"label_sentences=1.5: expected a share"):
        dataclasses.replace(SPEC, label_sentences=1.5)


def test_labels_of_a_subset_keep_parents_and_drop_what_is_not_said() -> None:
    labels = np.full(14, UNKNOWN, np.int8)
    labels[[INDEX["edema"], INDEX["lung_opacity"], INDEX["cardiomegaly"]]] = 1
    drawn = [s for s in draws.sentences(make_record(5)) if s.finding == INDEX["edema"]]
    kept = draws.restrict(labels, drawn)
    assert np.flatnonzero(kept == 1).tolist() == sorted((INDEX["edema"], INDEX["lung_opacity"]))
    assert labels[INDEX["cardiomegaly"]] == 1


@pytest.mark.parametrize("uncertain", [0, 1])
def test_uncertain_labels_count_as_told(uncertain: int) -> None:
    labels = np.array([1, 0, UNCERTAIN, UNKNOWN] + [0] * 10, np.int8)
    assert draws.target_labels(labels, uncertain).tolist() == [1, 0, uncertain] + [0] * 11


def test_max_sentences_bounds_the_subset(tokenizer: Tokenizer) -> None:
    single = {encoded(tokenizer, sentence) for sentence in MIXED["sentences"]}
    assert set(texts(tokenizer, MIXED, text_mode="sentences", max_sentences=1)) == single
