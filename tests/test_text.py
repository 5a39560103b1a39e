"""Report language: sections, sentences, comparison removal, findings with polarity, labels."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data import mentions, phrases
from clinicclip.data.comparison import remove_comparison
from clinicclip.data.mentions import describe, states
from clinicclip.data.schema import (
    ABSENT,
    BOTH,
    CHEXPERT,
    FINDINGS,
    INDEX,
    LEFT,
    NO_SIDE,
    PRESENT,
    RIGHT,
    UNCERTAIN,
    UNKNOWN,
)
from clinicclip.data.sections import LONGEST, split_sentences
from clinicclip.data.splitting import split_findings
from clinicclip.data.text import finding_states, is_normal, report_labels, report_sections, sentences


def texts(findings: str, impression: str = "") -> list[str]:
    return [s.text for s in sentences(findings, impression)]


@pytest.mark.parametrize(
    "report, findings, impression",
    [
        ("FINDINGS: Clear lungs.\nIMPRESSION: Normal.", "Clear lungs.", "Normal."),
        ("Findings:\n Clear lungs.\n\nImpression:\n Normal.", "Clear lungs.", "Normal."),
        ("HISTORY: Cough. FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal."),
        ("INDICATION: ___\n\nFINDINGS AND IMPRESSION:\nClear.", "Clear.", ""),
        ("EXAM: Chest\n\nINDICATION: Cough\n\nLungs are clear.", "Lungs are clear.", ""),
        ("IMPRESSION: Normal.\nADDENDUM: Seen again.", "", "Normal. Seen again."),
        ("Lungs are clear.", "Lungs are clear.", ""),
        ("", "", ""),
    ],
)
def test_sections_are_found_by_their_headers(report: str, findings: str, impression: str) -> None:
    assert report_sections(report) == (findings, impression)


@pytest.mark.parametrize(
    "section, expected",
    [
        ("Heart normal. Lungs clear.", ["Heart normal.", "Lungs clear."]),
        ("1. Cardiomegaly. 2. No effusion.", ["Cardiomegaly.", "No effusion."]),
        ("1. Cardiomegaly 2. No effusion", ["Cardiomegaly.", "No effusion."]),
        ("A 1.5 cm nodule is seen. Normal.", ["A 1.5 cm nodule is seen.", "Normal."]),
        ("Discussed with Dr. Who at noon. Done now.", ["Discussed with Dr. Who at noon.", "Done now."]),
        ("Lungs are clear.Heart is normal.", ["Lungs are clear.", "Heart is normal."]),
        ("Clear lungs.. No effusion. .", ["Clear lungs.", "No effusion."]),
        ("The heart is\nnormal.\n\nlungs clear", ["The heart is normal.", "Lungs clear."]),
        ("Heart normal; lungs clear", ["Heart normal.", "Lungs clear."]),
        ("There are no XXXX of effusion. ___ tube.", ["There are no XXXX of effusion.", "___ tube."]),
        ("Is there an effusion? No.", ["Is there an effusion?", "No."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(section: str, expected: list[str]) -> None:
    assert split_sentences(section) == expected


@pytest.mark.parametrize(
    "before, after",
    [
        ("Stable cardiomegaly.", "Cardiomegaly."),
        ("Mild cardiomegaly, stable.", "Mild cardiomegaly."),
        ("Worsening left effusion.", "Left effusion."),
        ("New right lower lobe consolidation.", "Right lower lobe consolidation."),
        ("The pneumothorax has resolved.", "No pneumothorax."),
        ("Interval resolution of the left effusion.", "No left effusion."),
        ("Resolved edema.", "No edema."),
        ("The effusion is no longer seen.", "No effusion."),
        ("Interval removal of the endotracheal tube.", "No endotracheal tube."),
        ("No interval change.", ""),
        ("No significant change since prior study.", ""),
        ("Stable chest.", ""),
        ("Compared to prior radiograph.", ""),
        ("The exam is unchanged.", ""),
        ("Stable cardiomediastinal silhouette.", ""),
        ("Compared to the prior study, there is mild edema.", "There is mild edema."),
        ("Small effusion, unchanged from the prior exam.", "Small effusion."),
        ("No change in the left pleural effusion.", "Left pleural effusion."),
        ("Interval increase in right pleural effusion.", "Right pleural effusion."),
        ("Left effusion has increased.", "Left effusion."),
        ("Cardiomegaly is again noted.", "Cardiomegaly is noted."),
        ("The heart remains enlarged.", "The heart is enlarged."),
        ("Clips are again seen.", "Clips are seen."),
        ("Stable exam without acute abnormality.", "No acute abnormality."),
        ("Heart size is stable and within normal limits.", "Heart size is within normal limits."),
        ("No new consolidation.", "No consolidation."),
        ("Left opacities are better seen on the prior CT.", "Left opacities."),
        ("Previously noted catheter has been removed.", "No catheter."),
        ("Since the prior study there has been removal of the PICC.", "No PICC."),
        ("There is no pneumothorax.", "There is no pneumothorax."),
        ("Increased interstitial markings.", "Increased interstitial markings."),
        ("Larger left effusion is present.", "Left effusion is present."),
        ("There is a rounded left mid lung mass, decreased.", "There is a rounded left mid lung mass."),
        ("The nodule is larger than 3 cm.", "The nodule is larger than 3 cm."),
        ("The nodule is unchanged and is likely benign.", "The nodule is likely benign."),
        ("The left effusion seen on the prior study has resolved.", "No left effusion."),
        ("Enlargement of the heart, decreased compared to the prior study.", "Enlargement of the heart."),
        ("The effusion has not resolved.", "The effusion has not resolved."),
        ("Lung volumes may be decreased.", "Lung volumes may be decreased."),
        (
            "The right effusion is larger than the left effusion.",
            "The right effusion is larger than the left effusion.",
        ),
    ],
)
def test_comparisons_go_and_findings_and_denials_stay(before: str, after: str) -> None:
    assert remove_comparison(before) == after


@pytest.mark.parametrize(
    "whole, parts",
    [
        (
            "No effusion, consolidation or pneumothorax.",
            ["No effusion.", "No consolidation.", "No pneumothorax."],
        ),
        ("No effusion or edema is seen.", ["No effusion is seen.", "No edema is seen."]),
        ("Cardiomegaly without edema.", ["Cardiomegaly.", "No edema."]),
        ("No pneumothorax, mild left effusion.", ["No pneumothorax.", "Mild left effusion."]),
        (
            "There is no edema or effusion, and the heart is normal.",
            ["There is no edema.", "There is no effusion.", "The heart is normal."],
        ),
        (
            "Heart size and mediastinum are normal.",
            ["Heart size is normal.", "Mediastinum is normal."],
        ),
        (
            "Normal heart size and mediastinal contours.",
            ["Normal heart size.", "Normal mediastinal contours."],
        ),
        (
            "Small left and moderate right effusions.",
            ["Small left effusion.", "Moderate right effusion."],
        ),
        (
            "The lungs are clear without consolidation, effusion, or pneumothorax.",
            ["The lungs are clear.", "No consolidation.", "No effusion.", "No pneumothorax."],
        ),
        ("Cardiomegaly with small effusions.", ["Cardiomegaly.", "Small effusions."]),
        (
            "The heart is enlarged and the lungs are clear.",
            ["The heart is enlarged.", "The lungs are clear."],
        ),
        ("Atelectasis or pneumonia.", ["Atelectasis or pneumonia."]),
        ("Opacity consistent with pneumonia.", ["Opacity consistent with pneumonia."]),
        ("Atelectasis versus infiltrate.", ["Atelectasis versus infiltrate."]),
        ("There is mild cardiomegaly.", ["There is mild cardiomegaly."]),
        (
            "There are no effusions, and no pneumothorax is present.",
            ["There are no effusions.", "No pneumothorax is present."],
        ),
        (
            "Except for a small effusion, the lungs are clear.",
            ["Except for a small effusion.", "The lungs are clear."],
        ),
    ],
)
def test_coordination_is_split_where_the_statement_allows(whole: str, parts: list[str]) -> None:
    assert split_findings(whole) == parts


@pytest.mark.parametrize(
    "text, finding, polarity, side",
    [
        ("There is a small left pleural effusion.", "pleural_effusion", PRESENT, LEFT),
        ("There is no pleural effusion.", "pleural_effusion", ABSENT, NO_SIDE),
        ("The pleural effusion has resolved.", "pleural_effusion", ABSENT, NO_SIDE),
        ("Pneumothorax is not seen.", "pneumothorax", ABSENT, NO_SIDE),
        ("Negative for pneumothorax.", "pneumothorax", ABSENT, NO_SIDE),
        ("No change in the right pneumothorax.", "pneumothorax", PRESENT, RIGHT),
        ("Bilateral effusions.", "pleural_effusion", PRESENT, BOTH),
        ("Possible pneumonia.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Pneumonia cannot be excluded.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Effusion is not entirely excluded.", "pleural_effusion", UNCERTAIN, NO_SIDE),
        ("The heart is not enlarged.", "cardiomegaly", ABSENT, NO_SIDE),
        ("The cardiac silhouette is mildly enlarged.", "cardiomegaly", PRESENT, NO_SIDE),
        ("Heart size is normal.", "cardiomegaly", ABSENT, NO_SIDE),
        ("The lungs are clear.", "lung_opacity", ABSENT, BOTH),
        ("Blunting of the left costophrenic angle.", "pleural_effusion", UNCERTAIN, LEFT),
        ("Pulmonary vascular congestion.", "edema", UNCERTAIN, NO_SIDE),
        ("Pericardial effusion.", "", UNKNOWN, NO_SIDE),
        ("No evidence to suggest pneumonia.", "pneumonia", ABSENT, NO_SIDE),
        ("No acute cardiopulmonary abnormality.", "no_finding", PRESENT, NO_SIDE),
        ("The trachea is midline.", "", UNKNOWN, NO_SIDE),
        ("History of pneumonia.", "", UNKNOWN, NO_SIDE),
        ("Opacity consistent with atelectasis.", "atelectasis", PRESENT, NO_SIDE),
        ("The pneumonia has not completely resolved.", "pneumonia", PRESENT, NO_SIDE),
        ("The pneumonia has partially cleared.", "pneumonia", PRESENT, NO_SIDE),
        ("No interval resolution of the left effusion.", "pleural_effusion", PRESENT, LEFT),
        ("The effusion is partially resolved.", "pleural_effusion", PRESENT, NO_SIDE),
        ("The right costophrenic angle is not sharp.", "", UNKNOWN, NO_SIDE),
        ("Mass with sharp borders in the left lung.", "mass", PRESENT, LEFT),
        ("Pneumonia suspected in the left lung.", "pneumonia", UNCERTAIN, LEFT),
        ("Borderline cardiomegaly.", "cardiomegaly", PRESENT, NO_SIDE),
        ("Suspected pneumonia.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("There is suspected pneumonia.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Pneumonia is suspected.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Pneumonia is not ruled out.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Pneumonia is ruled out.", "pneumonia", ABSENT, NO_SIDE),
        ("Unable to exclude pneumonia.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Pneumothorax is difficult to exclude.", "pneumothorax", UNCERTAIN, NO_SIDE),
        ("It is unclear whether pneumonia is present.", "pneumonia", UNCERTAIN, NO_SIDE),
        ("Devoid of consolidation.", "consolidation", ABSENT, NO_SIDE),
        ("Borderline heart size.", "cardiomegaly", UNCERTAIN, NO_SIDE),
        ("The heart is borderline enlarged.", "cardiomegaly", PRESENT, NO_SIDE),
        ("Left ventricular enlargement.", "cardiomegaly", PRESENT, LEFT),
        ("Prominence of the cardiac silhouette.", "cardiomegaly", PRESENT, NO_SIDE),
        ("Collapsed left lung.", "atelectasis", PRESENT, LEFT),
        ("Costophrenic angles are sharp.", "pleural_effusion", ABSENT, NO_SIDE),
    ],
)
def test_a_sentence_names_finding_polarity_and_side(text: str, finding: str, polarity: int, side: int) -> None:
    found = describe(text)
    assert (FINDINGS[found.finding] if found.finding >= 0 else "", found.polarity, found.laterality) == (
        finding,
        polarity,
        side,
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Pneumothorax: none.", {"pneumothorax": ABSENT}),
        ("Pneumothorax: not seen.", {"pneumothorax": ABSENT}),
        ("Effusion: possible.", {"pleural_effusion": UNCERTAIN}),
        ("Lungs: possible pneumonia.", {"pneumonia": UNCERTAIN}),
        ("Effusion: small, pneumothorax: none.", {"pleural_effusion": PRESENT, "pneumothorax": ABSENT}),
        ("Edema: no pneumothorax.", {"edema": PRESENT, "pneumothorax": ABSENT}),
        ("Pneumonia?", {"pneumonia": UNCERTAIN}),
        ("No pneumothorax, mild left effusion.", {"pneumothorax": ABSENT, "pleural_effusion": PRESENT}),
        ("No pneumothorax; left effusion.", {"pneumothorax": ABSENT, "pleural_effusion": PRESENT}),
        ("No pneumothorax, the heart is enlarged.", {"pneumothorax": ABSENT, "cardiomegaly": PRESENT}),
        ("No pneumothorax, heart is enlarged.", {"pneumothorax": ABSENT, "cardiomegaly": PRESENT}),
        ("Right shoulder: Negative for fracture.", {"fracture": ABSENT}),
        ("Negative for: fracture, pneumothorax.", {"fracture": ABSENT, "pneumothorax": ABSENT}),
        ("History: pneumonia.", {}),
        ("May be atelectasis, mild edema.", {"atelectasis": UNCERTAIN, "edema": UNCERTAIN}),
        (
            "Opacities, edema versus consolidation.",
            {"lung_opacity": PRESENT, "edema": UNCERTAIN, "consolidation": UNCERTAIN},
        ),
        ("Atelectasis vs. infiltrate.", {"atelectasis": UNCERTAIN, "infiltration": UNCERTAIN}),
        ("Edema, versus infiltrate.", {"edema": UNCERTAIN, "infiltration": UNCERTAIN}),
        ("Borderline heart size, small effusion.", {"cardiomegaly": UNCERTAIN, "pleural_effusion": PRESENT}),
        ("Atelectasis is favored over edema.", {"atelectasis": UNCERTAIN, "edema": UNCERTAIN}),
        ("No pneumothorax after chest tube placement.", {"pneumothorax": ABSENT, "support_devices": PRESENT}),
        ("Effusion and suspected edema.", {"pleural_effusion": PRESENT, "edema": UNCERTAIN}),
        (
            "No effusion, consolidation or pneumothorax.",
            {"pleural_effusion": ABSENT, "consolidation": ABSENT, "pneumothorax": ABSENT},
        ),
    ],
)
def test_punctuation_turns_a_finding_or_ends_the_reach_of_a_cue(text: str, expected: dict[str, int]) -> None:
    by_index = {INDEX[name]: polarity for name, polarity in expected.items()}
    assert states([text]) == by_index
    assert states([s.text for s in sentences(text, "")]) == by_index


def test_clear_lungs_deny_everything_they_cover() -> None:
    said = states(["The lungs are clear."])
    for name in ("lung_opacity", "consolidation", "pneumonia", "atelectasis", "lung_lesion"):
        assert said[INDEX[name]] == ABSENT
    assert INDEX["pleural_effusion"] not in said


def test_every_finding_has_a_phrase_and_is_recognised_by_its_denied_names() -> None:
    assert set(phrases.MENTIONS) == set(FINDINGS)
    for finding, names in phrases.DENIED_NAMES.items():
        for name in names:
            assert states([f"There is {name}."]) == {INDEX[finding]: PRESENT}
            assert states([f"No {name}."]) == {INDEX[finding]: ABSENT}


def label(report: str) -> dict[str, int]:
    return dict(zip(CHEXPERT, report_labels(sentences(report, "")).tolist(), strict=True))


def test_a_present_child_makes_its_parents_present() -> None:
    got = label("Left basilar atelectasis. Mild cardiomegaly. No effusion.")
    present = {"atelectasis", "lung_opacity", "cardiomegaly", "enlarged_cardiomediastinum"}
    assert {name for name, value in got.items() if value == PRESENT} == present
    assert all(got[name] == ABSENT for name in set(CHEXPERT) - present)


def test_present_beats_uncertain_beats_absent() -> None:
    assert label("No large effusion. Small left effusion.")["pleural_effusion"] == PRESENT
    assert label("Possible effusion. No large effusion.")["pleural_effusion"] == UNCERTAIN


def test_no_finding_ignores_devices_only() -> None:
    assert label("Left pacemaker. Lungs are clear.")["no_finding"] == PRESENT
    assert label("Possible pneumonia.")["no_finding"] == ABSENT
    assert label("Small effusion.")["no_finding"] == ABSENT


def test_a_report_without_text_is_unknown() -> None:
    assert np.all(report_labels([]) == UNKNOWN)
    assert is_normal([]) == UNKNOWN
    assert np.all(finding_states([]) == UNKNOWN)


@pytest.mark.parametrize(
    "report, normal",
    [
        ("Heart size normal. Lungs clear. No effusion.", 1),
        ("Lungs clear. Right PICC line.", 1),
        ("Lungs clear. Mild scoliosis.", 0),
        ("Possible small nodule.", 0),
    ],
)
def test_normal_means_nothing_abnormal_finer_names_included(report: str, normal: int) -> None:
    assert is_normal(sentences(report, "")) == normal


def test_repeated_sentences_are_said_once() -> None:
    assert texts("Lungs are clear. No effusion.", "No effusion.") == ["Lungs are clear.", "No effusion."]


def test_a_whole_report_becomes_single_findings() -> None:
    got = texts(
        "Stable cardiomegaly without edema. Heart size and mediastinum are unchanged from prior.",
        "1. The pneumothorax has resolved. 2. No interval change.",
    )
    assert got == ["Cardiomegaly.", "No edema.", "No pneumothorax."]


WORDS = st.sampled_from(
    [
        "no",
        "without",
        "small",
        "left",
        "right",
        "effusion",
        "pneumothorax",
        "and",
        "or",
        ",",
        ".",
        "with",
        "heart",
        "lungs",
        "clear",
        "normal",
        "is",
        "are",
        "stable",
        "the",
        "has",
        "resolved",
        "may",
        "possible",
        "cardiomegaly",
        "edema",
        "consolidation",
        "XXXX",
        "___",
        "1.5",
        "cm",
        "unchanged",
        "from",
        "prior",
        "but",
        "atelectasis",
    ]
)
REPORTS = st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map(" ".join))


@settings(max_examples=150, deadline=None)
@given(REPORTS, REPORTS)
def test_any_text_gives_the_same_valid_sentences_twice(findings: str, impression: str) -> None:
    first = sentences(findings, impression)
    for cached in (mentions.mentions,):
        cached.cache_clear()
    assert sentences(findings, impression) == first
    assert all(s.text and -1 <= s.finding < len(FINDINGS) for s in first)
    assert all((s.finding < 0) == (s.polarity == UNKNOWN) for s in first)
    assert set(report_labels(first).tolist()) <= {PRESENT, ABSENT, UNCERTAIN, UNKNOWN}
    report_sections(findings + "\n" + impression)


def content_words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{2,}", text.lower()))


JOINTS = {
    "and",
    "or",
    "nor",
    "with",
    "without",
    "no",
    "but",
    "the",
    "is",
    "are",
    "appear",
    "appears",
    "there",
    "for",
}
JOINTS |= {
    "associated",
    "negative",
    "of",
    "while",
    "however",
    "though",
    "specifically",
    "otherwise",
    "adjacent",
}


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_splitting_loses_no_word_but_the_joints(report: str) -> None:
    for whole in split_sentences(report):
        parts = " ".join(split_findings(whole))
        assert content_words(whole) - JOINTS <= content_words(parts)
        assert states([whole]) == states(split_findings(whole))


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_comparison_removal_changes_no_finding(report: str) -> None:
    for whole in split_sentences(report):
        kept = remove_comparison(whole)
        assert states([kept]).keys() == states([whole]).keys()


def test_a_run_on_is_cut_into_whole_words() -> None:
    run_on = " ".join(["small effusion and cardiomegaly"] * 2000)
    parts = split_sentences(run_on)
    assert all(len(p) <= LONGEST + 1 for p in parts)
    assert " ".join(parts).replace(".", "").lower() == run_on
    assert label(run_on)["pleural_effusion"] == PRESENT
