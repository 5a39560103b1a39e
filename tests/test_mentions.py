"""Findings of a sentence with polarity, side and severity."""

import pytest

from clinicclip.data import phrases
from clinicclip.data.mentions import describe, states
from clinicclip.data.schema import (
    ABSENT,
    BOTH,
    FINDINGS,
    INDEX,
    LEFT,
    MILD,
    MODERATE,
    NO_SEVERITY,
    NO_SIDE,
    PRESENT,
    RIGHT,
    SEVERE,
    UNCERTAIN,
    UNKNOWN,
)
from clinicclip.data.text import sentences


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
    "text, severity",
    [
        ("Small left effusion.", MILD),
        ("Mildly enlarged heart.", MILD),
        ("Moderate cardiomegaly.", MODERATE),
        ("Mild to moderate edema.", MODERATE),
        ("Large right pneumothorax.", SEVERE),
        ("Possible tiny nodule.", MILD),
        ("Left effusion.", NO_SEVERITY),
        ("No large effusion.", NO_SEVERITY),
        ("The lungs are clear except for minimal scarring.", MILD),
    ],
)
def test_severity_is_that_of_a_finding_which_is_there(text: str, severity: int) -> None:
    assert describe(text).severity == severity


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
            {"lung_opacity": PRESENT, "edema": PRESENT, "consolidation": UNCERTAIN},
        ),
        ("Atelectasis vs. infiltrate.", {"atelectasis": PRESENT, "infiltration": UNCERTAIN}),
        ("Edema, versus infiltrate.", {"edema": PRESENT, "infiltration": UNCERTAIN}),
        ("Edema vs infiltrate cannot be excluded.", {"edema": UNCERTAIN, "infiltration": UNCERTAIN}),
        ("Possible edema vs infiltrate.", {"edema": UNCERTAIN, "infiltration": UNCERTAIN}),
        ("No edema versus infiltrate.", {"edema": ABSENT, "infiltration": ABSENT}),
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


# What is said => finding and polarity (+ present, - absent, ? uncertain) of every finding that is named.
POLARITIES = """
# change that is denied leaves the finding
There is no relevant change in the right effusion. => pleural_effusion+
No measurable change of the edema. => edema+
No changes of edema. => edema-
No great increase in the effusions. => pleural_effusion+
The effusion has not improved. => pleural_effusion+
The nodule has not grown. => nodule+
The mass is not larger. => mass+
The effusion is not significantly different. => pleural_effusion+
The effusion is not as large as before. => pleural_effusion+
No improvement of the consolidation. => consolidation+
No worsening of the edema. => edema+
Neither the effusion nor the edema has changed. => pleural_effusion+ edema+
Neither effusion nor edema is seen. => pleural_effusion- edema-
Right basal opacity not seen previously. => lung_opacity+
The nodule was not there on the prior study. => nodule+
The interstitial markings are not increased. => lung_opacity-
No larger nodule is seen. => nodule-
# the heart
Heart size is unchanged and remains enlarged. => cardiomegaly+
Heart size is stable, mildly enlarged. => cardiomegaly+
Cardiomediastinal silhouette is unchanged and enlarged. => enlarged_cardiomediastinum+
Heart: enlarged. => cardiomegaly+
No change in the appearance of the heart, which is enlarged. => cardiomegaly+
Heart size is unchanged and the aorta is large. =>
Large heart. => cardiomegaly+
Marked enlargement of the left atrium. => cardiomegaly+
No enlargement of the heart. => cardiomegaly-
# what is unlikely is denied, what is less likely is doubted
Unlikely pneumonia. => pneumonia-
Pneumonia unlikely. => pneumonia-
The opacity is unlikely to represent pneumonia. => lung_opacity+ pneumonia-
Pneumonia is doubtful. => pneumonia?
Pneumonia is less likely. => pneumonia?
Atelectasis, less likely pneumonia. => atelectasis+ pneumonia?
There is nothing to suggest pneumonia. => pneumonia-
Failed to demonstrate pneumothorax. => pneumothorax-
Effusion negative. => pleural_effusion-
Pneumothorax - no. => pneumothorax-
The effusion has been drained. => pleural_effusion-
Minimal, if any, effusion. => pleural_effusion?
If effusion is present it is tiny. => pleural_effusion?
Atelectasis is more likely than pneumonia. => atelectasis? pneumonia?
CT if pneumonia is clinically suspected. =>
# how far a denial reaches
No pneumothorax is seen despite the rib fractures. => pneumothorax- fracture+
No pneumonia in the setting of emphysema. => pneumonia- emphysema+
No pneumothorax, right effusion. => pneumothorax- pleural_effusion+
No pneumothorax, right effusion, or edema. => pneumothorax- pleural_effusion- edema-
Removal of the chest tube, sternal wires are intact. => support_devices+
Scarring from resolved pneumonia. => lung_opacity+ pneumonia-
No pneumothorax on the right, but there is one on the left. => pneumothorax+
No definite nodule, though a tiny one cannot be excluded. => nodule?
Effusion, which was present previously, is no longer seen. => pleural_effusion-
History of pneumonia and current effusion. => pleural_effusion+
The right lung has collapsed. => atelectasis+
"""
_SIGN = {"+": PRESENT, "-": ABSENT, "?": UNCERTAIN}


@pytest.mark.parametrize("case", [line for line in POLARITIES.splitlines() if "=>" in line])
def test_cues_turn_what_they_reach_and_nothing_else(case: str) -> None:
    said, expected = case.split("=>")
    assert states([said.strip()], explicit=True) == {INDEX[e[:-1]]: _SIGN[e[-1]] for e in expected.split()}


def test_lungs_that_have_cleared_are_clear() -> None:
    assert states(["The lungs have cleared."]) == states(["The lungs are clear."])


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
