"""r^n and r^o: one finding denied or left out, everything else word for word."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data import negation
from clinicclip.data.generators.templates import EVAL, TRAIN, Templates
from clinicclip.data.mentions import describe
from clinicclip.data.negation import Plan, alter, choose, denies, negate, omit, plan
from clinicclip.data.schema import ABSENT, FINDINGS, INDEX, PRESENT, UNKNOWN, Sentence
from clinicclip.data.text import finding_states, sentences

REPORT = (
    "The heart is normal in size. There is a small left pleural effusion. It measures 2 cm. Lungs are otherwise clear.",
    "Small left effusion. No pneumothorax.",
)
MIXED = "Mild cardiomegaly. Streaky opacity consistent with atelectasis. Right rib fracture. Left pacemaker. No edema."


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def relabel(text: str) -> np.ndarray:
    return finding_states(sentences(text, ""))


def planned(text: str, finding: str) -> Plan:
    found = plan(sentences(text, ""), INDEX[finding])
    assert found is not None
    return found


def denied(text: str, finding: str) -> list[str]:
    """r^n with every denial written as "DENIED."."""
    found = planned(text, finding)
    return negate(found, ["DENIED."] * len(found.denied))


def test_every_mention_of_the_finding_is_denied_and_the_rest_untouched() -> None:
    found = plan(sentences(*REPORT), INDEX["pleural_effusion"])
    assert found is not None
    got, reason = negation.write(found, TRAIN, rng())
    kept = ["The heart is normal in size.", "Lungs are otherwise clear.", "No pneumothorax."]
    assert [t for t in got if "effusion" not in t] == kept and not reason
    assert relabel(" ".join(got))[INDEX["pleural_effusion"]] == ABSENT
    assert len([t for t in got if "effusion" in t]) == 2


def test_omission_leaves_the_finding_unmentioned_and_the_rest_untouched() -> None:
    found = plan(sentences(*REPORT), INDEX["pleural_effusion"])
    assert found is not None
    assert omit(found) == ["The heart is normal in size.", "Lungs are otherwise clear.", "No pneumothorax."]


def test_denials_of_the_finding_stay_in_the_negated_report_and_leave_the_other() -> None:
    text = "Right effusion. Clear lungs. No left effusion. No edema."
    assert denied(text, "pleural_effusion") == ["DENIED.", "Clear lungs.", "No left effusion.", "No edema."]
    assert omit(planned(text, "pleural_effusion")) == ["Clear lungs.", "No edema."]


def test_denials_of_what_would_imply_the_finding_are_left_alone() -> None:
    assert omit(planned("Basal opacity. No nodule.", "lung_opacity")) == ["No nodule."]


def test_what_goes_on_about_the_finding_goes_with_it() -> None:
    text = "Left nodule. In this setting this appearance may be a granuloma. No edema."
    assert denied(text, "nodule") == ["DENIED.", "No edema."]


def test_a_sentence_without_a_subject_goes_with_what_it_is_about() -> None:
    for rest in ("May contain calcium.", "Is XXXX due to a scar.", "Differential diagnosis includes a scar."):
        assert denied(f"Left nodule. {rest} No edema.", "nodule") == ["DENIED.", "No edema."]


def test_a_doubtful_mention_beside_a_present_one_is_denied_too() -> None:
    assert denied("Small effusion. Clear lungs. Possible left effusion.", "pleural_effusion").count("DENIED.") == 2


def test_statements_in_a_row_become_one_denial() -> None:
    text = "Left effusion. It is loculated. Right effusion. Clear lungs. Effusions."
    assert denied(text, "pleural_effusion") == ["DENIED.", "Clear lungs.", "DENIED."]
    assert denied("Right pneumothorax. Deep sulcus sign.", "pneumothorax") == ["DENIED."]


@pytest.mark.parametrize(
    ("text", "finding", "expected"),
    [
        ("Hypoinflation with basal atelectasis.", "atelectasis", ["Hypoinflation.", "DENIED."]),
        ("Mild cardiomegaly without acute abnormality.", "cardiomegaly", ["DENIED.", "No acute abnormality."]),
        ("The lungs are clear and hyperinflated.", "hyperinflation", ["The lungs are clear.", "DENIED."]),
        ("Clear lungs besides a granuloma.", "granuloma", ["Clear lungs.", "DENIED."]),
        (
            "There are low lung volumes, causing atelectasis and bronchovascular crowding.",
            "atelectasis",
            ["There are low lung volumes.", "DENIED.", "Bronchovascular crowding."],
        ),
        ("Lung mass with postobstructive collapse.", "mass", ["DENIED.", "Postobstructive collapse."]),
        ("Osteopenia and degenerative changes.", "degenerative_change", ["Osteopenia.", "DENIED."]),
    ],
)
def test_what_a_sentence_says_beside_the_finding_is_kept(text: str, finding: str, expected: list[str]) -> None:
    assert denied(text, finding) == expected


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("Postoperative and degenerative changes of the spine.", "degenerative_change"),  # neither half can stand alone
        ("Right paratracheal prominence, consistent with calcified nodes.", "calcification"),
        ("Bilateral effusions and/or atelectasis.", "pleural_effusion"),
        ("Slightly tortuous calcified aorta.", "tortuous_aorta"),
        ("Tortuosity and atherosclerosis of the aorta.", "tortuous_aorta"),
        ("Please note that a fracture should be considered.", "fracture"),
        ("Basal opacity. Normal heart. Mild heart failure.", "lung_opacity"),  # a doubted edema of its own
        ("Right nodule. This is apical, the lungs are clear.", "nodule"),
        ("Given the history of pneumonia with a left effusion.", "pleural_effusion"),
        ("Left basal density, XXXX artifact.", "lung_opacity"),
        ("Right lower lobe atelectasis or pneumonia.", "atelectasis"),
        ("Bilateral effusions, atelectasis or consolidation at the bases, and mild edema.", "atelectasis"),
        ("Left consolidation. Findings are consistent with severe pulmonary edema.", "consolidation"),
        ("Trachea is deviated to the left by the right pneumothorax.", "pneumothorax"),
    ],
)
def test_a_finding_that_cannot_be_told_apart_is_not_denied(text: str, finding: str) -> None:
    found = choose(sentences(text, ""), rng())
    assert isinstance(found, str) or FINDINGS[found.finding] != finding


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("Right nodule, presumably a granuloma.", "nodule"),
        ("Calcified granuloma in the left base.", "granuloma"),
        ("Streaky opacity consistent with atelectasis.", "atelectasis"),
        ("Hyperinflated lungs, suggestive of emphysema.", "hyperinflation"),
        ("Basal opacity. Possible infiltrate or atelectasis.", "lung_opacity"),
        ("Basal opacity. Atelectasis vs. infiltrate.", "atelectasis"),
    ],
)
def test_what_only_explains_or_describes_the_finding_goes_with_it(text: str, finding: str) -> None:
    assert set(denied(text, finding)) <= {"DENIED.", "Basal opacity."}
    found = choose(sentences(text, ""), rng())
    assert isinstance(found, Plan)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("Right nodule. Left hilar mass.", None),
        ("Right nodule. Nodular opacities in the left base.", None),
        ("Hilar calcifications. Calcified granuloma.", "granuloma"),
        ("Rib fracture. Wedging of a vertebral body.", None),
        ("Rib fracture. No wedging.", "fracture"),
        ("Left basal consolidation. Air bronchograms are present.", None),
        ("Right pneumothorax. A little air is in the right pleural space.", None),
        ("Right pneumothorax. Deep sulcus sign.", "pneumothorax"),  # the sign goes with it
        ("Right pneumothorax. The lung edge is 2 cm from the chest wall.", None),
        ("Cardiomegaly. The heart is globular.", None),
        ("Cardiomegaly. The left atrium is dilated.", None),
        ("Hiatal hernia. The herniated stomach holds fluid.", None),
        ("Right nodule. Another lesion is seen on the left.", None),
        ("Basal fibrosis. Coarse markings, in keeping with the known history of pulmonary fibrosis.", None),
    ],
)
def test_a_denial_is_not_made_where_what_stays_would_contradict_it(text: str, chosen: str | None) -> None:
    for seed in range(8):
        found = choose(sentences(text, ""), np.random.default_rng(seed))
        assert found == negation.UNSOUND if isinstance(found, str) else FINDINGS[found.finding] == chosen
        assert isinstance(found, str) == (chosen is None)


def test_only_leaves_of_the_hierarchy_are_chosen() -> None:
    found = [choose(sentences(MIXED, ""), np.random.default_rng(i)) for i in range(40)]
    chosen = {FINDINGS[p.finding] for p in found if isinstance(p, Plan)}
    assert chosen == {"cardiomegaly", "atelectasis", "fracture"}


def test_what_is_hard_to_see_is_chosen_only_when_nothing_else_will_do() -> None:
    for seed in range(8):
        found = choose(sentences("Thoracic scoliosis. Cardiomegaly.", ""), np.random.default_rng(seed))
        assert isinstance(found, Plan) and FINDINGS[found.finding] == "cardiomegaly"
    found = choose(sentences("Thoracic scoliosis. Clear lungs.", ""), rng())
    assert isinstance(found, Plan) and FINDINGS[found.finding] == "scoliosis"


def test_a_finding_stated_together_with_another_is_not_chosen() -> None:
    report = [Sentence("Atelectasis or fracture is seen here.", INDEX["atelectasis"], PRESENT, 0)]
    assert choose(report, rng()) == negation.INSEPARABLE


@pytest.mark.parametrize(
    "report",
    [
        "Old granulomatous disease. Small calcified nodules at the apex.",
        "Right lower lobe consolidation. There is dense opacification of the right base.",
        "Left upper lobe consolidation. The left upper lobe shows opacification without loss of volume.",
        "Lingular consolidation. Airspace disease in the lingula, as before.",
        "Basal infiltrate. Bilateral pneumonia.",
    ],
)
def test_what_kept_words_would_contradict_is_not_denied(report: str) -> None:
    found = choose(sentences(report, ""), rng())
    assert isinstance(found, str) or FINDINGS[found.finding] not in ("granuloma", "consolidation", "infiltration")


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ("", negation.NO_REPORT),
        ("Heart size normal. Lungs clear. No effusion.", negation.NORMAL),
        ("Right PICC line. Lungs clear.", negation.NORMAL),  # a device is how a patient is cared for
        ("Possible pneumonia.", negation.DOUBTFUL),
        ("Atelectasis or fracture is seen here.", negation.INSEPARABLE),
    ],
)
def test_reports_that_give_none_say_why(report: str, reason: str) -> None:
    got = alter(sentences(report, ""), seed=0, key="a", generator=TRAIN)
    assert got == ("", "", -1, reason) and reason in negation.REASONS


def test_a_report_of_one_sentence_is_denied_and_leaves_nothing_when_it_is_omitted() -> None:
    negated, omitted, finding, _ = alter(sentences("Cardiomegaly.", ""), seed=0, key="a", generator=TRAIN)
    assert (omitted, finding) == ("", INDEX["cardiomegaly"])
    assert relabel(negated)[finding] == ABSENT


def test_a_denial_that_fails_or_touches_another_finding_is_no_negated_report() -> None:
    found = planned("Cardiomegaly. Small effusion.", "cardiomegaly")
    assert denies(found, ["No cardiomegaly.", "Small effusion."])
    assert not denies(found, ["Cardiomegaly.", "Small effusion."])
    assert not denies(found, ["No cardiomegaly.", "No effusion."])


def test_seed_and_key_decide_alone() -> None:
    report = sentences(MIXED, "")
    assert alter(report, seed=1, key="a", generator=EVAL) == alter(report, seed=1, key="a", generator=EVAL)
    assert len({alter(report, seed=1, key=str(i), generator=EVAL) for i in range(20)}) > 3


def test_generators_choose_the_same_finding_and_omit_the_same() -> None:
    for key in "abcdefgh":
        train, test = (alter(sentences(MIXED, ""), seed=3, key=key, generator=g) for g in (TRAIN, EVAL))
        assert (train.finding, train.omitted) == (test.finding, test.omitted)
        assert train.negated != test.negated


PARTS = st.sampled_from(
    [
        "Mild cardiomegaly.",
        "Heart size is normal.",
        "Small left pleural effusion.",
        "No pleural effusion.",
        "Right apical pneumothorax.",
        "Low lung volumes with bibasilar atelectasis.",
        "Right opacity may represent pneumonia.",
        "Calcified granuloma.",
        "The lungs are clear.",
        "Diffuse interstitial edema and small effusions.",
        "This is unchanged.",
        "Degenerative changes of the spine and osteopenia.",
        "Left upper lobe nodule, possibly a granuloma.",
    ]
)
ANYTHING = st.lists(st.one_of(PARTS, st.text(max_size=60)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(ANYTHING, st.sampled_from([TRAIN, EVAL]), st.integers(0, 99))
def test_whatever_the_report_says_what_is_made_passes_its_check_and_changes_nothing_else(
    parts: list[str], generator: Templates, seed: int
) -> None:
    report = sentences(" ".join(parts), "")
    negated, omitted, finding, reason = alter(report, seed=seed, key="k", generator=generator)
    assert bool(reason) == (finding < 0) == (not negated)
    if reason:
        assert reason in negation.REASONS and not omitted
        return
    found = choose(report, negation.chooser(seed, "k"))
    assert isinstance(found, Plan) and found.finding == finding
    before = finding_states(report)
    assert before[finding] == PRESENT
    denials = generator.deny(finding, found.statements, rng())
    for texts, wanted in ((negate(found, denials), (ABSENT,)), (omit(found), (ABSENT, UNKNOWN))):
        after = finding_states([describe(text) for text in texts])
        assert after[finding] in wanted
        assert all(after[i] == before[i] for i in range(len(FINDINGS)) if i not in found.touched)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, max_size=8), st.integers(0, 99))
def test_every_kept_word_is_a_word_of_the_report_in_its_order(parts: list[str], seed: int) -> None:
    report = sentences(" ".join(parts), "")
    found = choose(report, np.random.default_rng(seed))
    if isinstance(found, str):
        return
    said = re.findall(r"\w+", " ".join(s.text for s in report).lower())
    for texts in (negate(found, ["" for _ in found.denied]), omit(found)):
        rest = iter(said)
        assert all(word in rest for word in re.findall(r"\w+", " ".join(texts).lower()))
    touched = {i for run in found.denied for i in run} | found.omitted
    untouched = [s.text for s in report if s in found.report and found.report.index(s) not in touched]
    assert [t for t in omit(found) if t in untouched] == untouched
