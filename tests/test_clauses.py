"""How far a cue reaches: truths written by hand, and sentences put together of clauses of known polarity."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data.mentions import is_abnormal_otherwise, states
from clinicclip.data.releases import padchest, vindr_cxr
from clinicclip.data.schema import ABSENT, INDEX, NOT_ABNORMAL, PRESENT, UNCERTAIN
from clinicclip.data.text import is_normal, sentences

# What is said => finding and polarity (+ present, - absent, ? uncertain) of every finding that is named.
POLARITIES = """
# what has gone or is doubted leaves alone the statement before it, and takes a list whole
Cardiomegaly is stable, effusion has resolved. => cardiomegaly+ pleural_effusion-
Atelectasis has improved, effusion has resolved. => atelectasis+ pleural_effusion-
Consolidation has worsened and effusion has resolved. => consolidation+ pleural_effusion-
Effusion has improved and pneumothorax is no longer seen. => pleural_effusion+ pneumothorax-
Small left pneumothorax, chest tube has been removed. => pneumothorax+ support_devices-
Right pneumothorax is stable and left chest tube has been removed. => pneumothorax+ support_devices-
Moderate cardiomegaly, pneumothorax is not seen. => cardiomegaly+ pneumothorax-
Right effusion is small and pneumothorax is not seen. => pleural_effusion+ pneumothorax-
Left effusion, pneumothorax excluded. => pleural_effusion+ pneumothorax-
Mild edema persists, effusions have resolved. => edema+ pleural_effusion-
Small left effusion and resolved right effusion. => pleural_effusion+
Pneumonia, resolved effusion. => pneumonia+ pleural_effusion-
Left basilar atelectasis, pneumonia cannot be excluded. => atelectasis+ pneumonia?
Moderate left effusion and underlying consolidation cannot be excluded. => pleural_effusion+ consolidation?
Effusion, edema and pneumothorax have resolved. => pleural_effusion- edema- pneumothorax-
Effusion and edema have resolved. => pleural_effusion- edema-
Effusion or pneumothorax is not seen. => pleural_effusion- pneumothorax-
Effusion and consolidation cannot be excluded. => pleural_effusion? consolidation?
Cardiomegaly is present, effusion and edema have resolved. => cardiomegaly+ pleural_effusion- edema-
Effusion is stable, pneumonia unlikely. => pleural_effusion+ pneumonia-
Consolidation, effusion, or pneumothorax is not seen. => consolidation- pleural_effusion- pneumothorax-
Heart is enlarged and effusion has resolved. => cardiomegaly+ pleural_effusion-
Opacity, likely atelectasis, has resolved. => lung_opacity- atelectasis-
Multifocal opacities, suspicious for pneumonia, have resolved. => lung_opacity- pneumonia-
Multifocal opacities, suspicious for pneumonia, have improved. => lung_opacity+ pneumonia?
Left opacity, previously seen, has cleared. => lung_opacity-
Pulmonary nodules, if any, are not seen. => nodule-
Effusion has resolved, pneumonia possible. => pleural_effusion- pneumonia?
# a denial ends where a statement begins
No effusion, atelectasis has improved. => pleural_effusion- atelectasis+
No pneumothorax and effusion is stable. => pneumothorax- pleural_effusion+
No effusion or pneumothorax, multiple rib fractures. => pleural_effusion- pneumothorax- fracture+
No effusion, extensive right lung consolidation. => pleural_effusion- consolidation+
No effusion, diffuse edema. => pleural_effusion- edema+
No pneumothorax, enlarged heart. => pneumothorax- cardiomegaly+
No pleural effusion, hyperinflated lungs. => pleural_effusion- hyperinflation+
No acute findings, cardiomegaly. => no_finding+ cardiomegaly+
No CHF, COPD. => edema- hyperinflation+
# so does a history
History of CHF, small effusion. => pleural_effusion+
Hx of pneumonia, effusion persists. => pleural_effusion+
Evaluate for pneumonia, small effusion is seen. => pleural_effusion+
Evaluate for pneumonia, effusion is seen. => pleural_effusion+
Tuberculous pleural effusion on the right. => pleural_effusion+
# advice is no fact
Follow-up radiographs to document resolution of pneumonia are recommended. => pneumonia?
Recommend repeat radiograph to confirm clearing of the infiltrate. => infiltration?
Consider pneumonia in the right clinical setting. => pneumonia?
Consider atelectasis or early pneumonia. => atelectasis? pneumonia?
Right basilar opacity, pneumonia in the appropriate clinical setting. => lung_opacity+ pneumonia?
# "versus" between degrees, sides, views or examinations is no doubt; what is no finding is no alternative
Small versus moderate right effusion. => pleural_effusion+
Mild vs moderate pulmonary edema. => edema+
Left versus right pleural effusion. => pleural_effusion+
Improved versus prior, small effusion remains. => pleural_effusion+
Heart size is unchanged versus prior exam, moderate effusion. => pleural_effusion+
Effusion versus prior study. => pleural_effusion+
AP versus PA technique exaggerates cardiomegaly. => cardiomegaly+
It is difficult to distinguish atelectasis versus pneumonia. => atelectasis? pneumonia?
Pneumothorax versus skin fold. => pneumothorax?
Nodule vs vessel on end. => nodule?
Rib fracture versus overlying vessel. => fracture?
No pneumothorax versus small apical pneumothorax. => pneumothorax?
# change
Pneumothorax has not enlarged. => pneumothorax+
Pneumothorax has not expanded. => pneumothorax+
Opacity in the left base, not previously seen. => lung_opacity+
Small pneumothorax, which has resolved. => pneumothorax-
# markings that are called normal
Interstitial markings are normal. =>
Interstitial markings are unremarkable. =>
Normal bronchovascular markings. =>
# what was taken out or is not there yet
Status post resection of lung mass. =>
No pneumothorax s/p chest tube removal. => pneumothorax- support_devices-
ET tube ends 3 cm above the carina and NG tube has been removed. => support_devices+
Swan-Ganz catheter has been withdrawn. => support_devices-
Chest tube recommended. =>
Fractured sternotomy wire. => support_devices+
Rib fracture with sternal wires. => fracture+ support_devices+
The drain has been removed and the effusion persists. => support_devices- pleural_effusion+
"""
_SIGN = {"+": PRESENT, "-": ABSENT, "?": UNCERTAIN}


@pytest.mark.parametrize("case", [line for line in POLARITIES.splitlines() if "=>" in line])
def test_a_cue_turns_its_own_statement_alone(case: str) -> None:
    said, expected = case.split("=>")
    assert states([said.strip()], explicit=True) == {INDEX[e[:-1]]: _SIGN[e[-1]] for e in expected.split()}


# Polarity of a finding in a statement that has a predicate, or denies, and so may stand anywhere.
STATEMENTS = (
    *(("{} is stable", PRESENT), ("{} persists", PRESENT), ("{} has improved", PRESENT), ("{} is small", PRESENT)),
    *(("there is moderate {}", PRESENT), ("{} has not enlarged", PRESENT)),
    *(("{} has resolved", ABSENT), ("{} is not seen", ABSENT), ("{} is no longer seen", ABSENT)),
    *(("no {}", ABSENT), ("no {} is seen", ABSENT), ("there is no {}", ABSENT), ("{} is unlikely", ABSENT)),
    *(("{} cannot be excluded", UNCERTAIN), ("{} is suspected", UNCERTAIN), ("{} may be present", UNCERTAIN)),
)
LAST = (*STATEMENTS, ("small {}", PRESENT), ("extensive {}", PRESENT), ("possible {}", UNCERTAIN))
JOINTS = (", ", " and ", ", and ", ", but ", " but ", ", while ")
NAMES = {
    "effusion": "pleural_effusion",
    "pneumothorax": "pneumothorax",
    "edema": "edema",
    "consolidation": "consolidation",
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_clause_keeps_its_polarity_whatever_it_is_joined_to(data: st.DataObject) -> None:
    named = data.draw(st.lists(st.sampled_from(sorted(NAMES)), min_size=2, max_size=3, unique=True))
    firsts = named[:-1]
    drawn = [data.draw(st.sampled_from(STATEMENTS)) for _ in firsts] + [data.draw(st.sampled_from(LAST))]
    joints = [data.draw(st.sampled_from(JOINTS)) for _ in firsts]
    said = drawn[0][0].format(named[0])
    for joint, (clause, _), name in zip(joints, drawn[1:], named[1:], strict=True):
        said += joint + clause.format(name)
    truth = {INDEX[NAMES[name]]: polarity for name, (_, polarity) in zip(named, drawn, strict=True)}
    whole = said[0].upper() + said[1:] + "."
    assert states([whole]) == truth
    assert states([sentence.text for sentence in sentences(whole, "")]) == truth


@pytest.mark.parametrize("predicate, polarity", [("have resolved", ABSENT), ("cannot be excluded", UNCERTAIN)])
@pytest.mark.parametrize("subject", ["{}, {} and {}", "{}, {}, and {}", "{}, {} or {}"])
def test_a_list_has_one_predicate(subject: str, predicate: str, polarity: int) -> None:
    named = ("effusion", "edema", "pneumothorax")
    said = f"{subject.format(*named).capitalize()} {predicate}."
    assert states([said]) == {INDEX[NAMES[name]]: polarity for name in named}


NOT_CALLED_NORMAL = """The lungs are not clear. | The lungs are not entirely clear. | Right lung is no longer clear.
Not a normal study. | Neither lung is clear. | Cannot say the lungs are clear. | Heart size is not normal.
The mediastinum is not within normal limits."""


@pytest.mark.parametrize("said", NOT_CALLED_NORMAL.replace("\n", " | ").split(" | "))
def test_a_denied_normal_state_denies_no_finding_and_is_not_normal(said: str) -> None:
    assert states([said]) == {} and is_abnormal_otherwise(said)


ABNORMAL = """lung cyst, bleb, dilated aorta, aortic enlargement, miliary pattern, abscess, pneumatocele, aspiration,
DJD, vertebral collapse, bronchial cuffing, deep sulcus sign, cardiac decompensation, tuberculous cavity,
collapsed vertebral body, increased cardiothoracic ratio"""


@pytest.mark.parametrize("name", [" ".join(name.split()) for name in ABNORMAL.split(",")])
def test_a_report_that_names_an_abnormality_is_not_normal_and_one_that_denies_it_is(name: str) -> None:
    assert is_normal(sentences(f"{name.capitalize()}. No effusion.", "")) == 0
    assert is_normal(sentences(f"No evidence of {name}.", "")) == 1


@pytest.mark.parametrize(
    "said",
    ["Findings suspicious for active tuberculosis.", "The aorta is dilated.", "Cardiothoracic ratio is increased."],
)
def test_a_sentence_that_states_an_abnormality_is_not_normal(said: str) -> None:
    assert is_normal(sentences(said, "")) == 0


# Too general, misspelt, or no name of an abnormality of the chest.
NOT_READ = """air bronchogram, chronic changes, pneumoperitoneo, respiratory distress, obesity, Other lesion,
Other diseases, costochondral junction hypertrophy, sternoclavicular junction hypertrophy,
subacromial space narrowing"""


def test_every_abnormality_that_releases_name_is_one() -> None:
    without = [name for name, reason in padchest.REASONS.items() if reason not in padchest.NOT_ABNORMAL]
    named = padchest.NAMED | vindr_cxr.NAMED
    abnormal = [name for name, finding in named.items() if finding not in NOT_ABNORMAL]
    missed = {n for n in (*without, *vindr_cxr.UNNAMED, *abnormal) if is_normal(sentences(f"{n}.", "")) != 0}
    assert missed == {" ".join(name.split()) for name in NOT_READ.split(",")}
