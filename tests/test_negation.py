"""r^n and r^o: one finding denied or left out, everything else word for word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data.negation import NONE, TEMPLATES, alter, choose, denies, negate, omit
from clinicclip.data.phrases import DENIED_NAMES
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


def test_every_mention_of_the_finding_is_denied_and_the_rest_untouched() -> None:
    report = sentences(*REPORT)
    got = negate(report, INDEX["pleural_effusion"], "train", rng())
    kept = ["The heart is normal in size.", "Lungs are otherwise clear.", "No pneumothorax."]
    assert [t for t in got if "effusion" not in t] == kept
    assert relabel(" ".join(got))[INDEX["pleural_effusion"]] == ABSENT
    assert len([t for t in got if "effusion" in t]) == 2


def test_omission_leaves_the_finding_unmentioned_and_the_rest_untouched() -> None:
    got = omit(sentences(*REPORT), INDEX["pleural_effusion"])
    assert got == ["The heart is normal in size.", "Lungs are otherwise clear.", "No pneumothorax."]


def test_a_doubtful_mention_beside_a_present_one_is_denied_too() -> None:
    report = sentences("Small effusion.", "Possible left effusion.")
    got = negate(report, INDEX["pleural_effusion"], "train", rng())
    assert relabel(" ".join(got))[INDEX["pleural_effusion"]] == ABSENT


def test_generators_share_no_template_and_no_sentence() -> None:
    assert not set(TEMPLATES["train"]) & set(TEMPLATES["eval"])
    written = {
        generator: {t.format(x=n, X=n[0].upper() + n[1:]) for t in ts for ns in DENIED_NAMES.values() for n in ns}
        for generator, ts in TEMPLATES.items()
    }
    assert not written["train"] & written["eval"]


@pytest.mark.parametrize("generator", ["train", "eval"])
def test_every_denial_is_read_back_as_a_denial(generator: str) -> None:
    for finding, names in DENIED_NAMES.items():
        for name in names:
            for template in TEMPLATES[generator]:
                states = relabel(template.format(x=name, X=name[0].upper() + name[1:]))
                assert states[INDEX[finding]] == ABSENT, template


def test_only_leaves_of_the_hierarchy_are_chosen() -> None:
    report = sentences(MIXED, "")
    chosen = {choose(report, np.random.default_rng(i)) for i in range(40)}
    assert chosen == {INDEX["cardiomegaly"], INDEX["atelectasis"], INDEX["fracture"]}


def test_what_is_hard_to_see_is_chosen_only_when_nothing_else_is_there() -> None:
    assert choose(sentences("Right PICC line. Lungs clear.", ""), rng()) == INDEX["support_devices"]


def test_a_finding_stated_together_with_another_is_not_chosen() -> None:
    report = [Sentence("Atelectasis or fracture is seen here.", INDEX["atelectasis"], PRESENT, 0)]
    assert choose(report, rng()) is None


@pytest.mark.parametrize("report", ["", "Heart size normal. Lungs clear. No effusion.", "Possible pneumonia."])
def test_reports_without_a_present_finding_give_none(report: str) -> None:
    assert alter(sentences(report, ""), seed=0, key="a", generator="train") == NONE


def test_a_report_of_one_sentence_is_denied_and_leaves_nothing_when_it_is_omitted() -> None:
    negated, omitted, finding = alter(sentences("Cardiomegaly.", ""), seed=0, key="a", generator="train")
    assert (omitted, finding) == ("", INDEX["cardiomegaly"])
    assert relabel(negated)[finding] == ABSENT


def test_a_denial_that_fails_or_touches_another_finding_is_no_negated_report() -> None:
    report = sentences("Cardiomegaly. Small effusion.", "")
    finding = INDEX["cardiomegaly"]
    assert denies(report, ["No cardiomegaly.", "Small effusion."], finding)
    assert not denies(report, ["Cardiomegaly.", "Small effusion."], finding)
    assert not denies(report, ["No cardiomegaly.", "No effusion."], finding)


def test_seed_and_key_decide_alone() -> None:
    report = sentences(MIXED, "")
    assert alter(report, seed=1, key="a", generator="eval") == alter(report, seed=1, key="a", generator="eval")
    assert len({alter(report, seed=1, key=str(i), generator="eval") for i in range(20)}) > 3


def test_generators_choose_the_same_finding_and_omit_the_same() -> None:
    for key in "abcdefgh":
        train, test = (alter(sentences(MIXED, ""), seed=3, key=key, generator=g) for g in ("train", "eval"))
        assert (train.finding, train.omitted) == (test.finding, test.omitted)
        assert train.negated != test.negated


PARTS = st.sampled_from(
    [
        "Mild cardiomegaly.",
        "Heart size is normal.",
        "Small left pleural effusion.",
        "No pleural effusion.",
        "Right apical pneumothorax.",
        "Bibasilar atelectasis.",
        "Right opacity may represent pneumonia.",
        "Calcified granuloma.",
        "The lungs are clear.",
        "Diffuse interstitial edema and small effusions.",
        "This is unchanged.",
        "Degenerative changes of the spine.",
        "Left upper lobe nodule.",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, max_size=8), st.sampled_from(["train", "eval"]), st.integers(0, 99))
def test_what_is_made_passes_its_check_and_changes_no_other_finding(
    parts: list[str], generator: str, seed: int
) -> None:
    report = sentences(" ".join(parts), "")
    negated, omitted, finding = alter(report, seed=seed, key="k", generator=generator)
    if finding < 0:
        assert (negated, omitted) == ("", "")
        return
    assert finding_states(report)[finding] == PRESENT
    assert relabel(negated)[finding] == ABSENT
    assert relabel(omitted)[finding] in (UNKNOWN, ABSENT)
    untouched = [s.text for s in report if s.text in negated]
    assert [t for t in untouched if t in omitted] == [s.text for s in report if s.text in omitted]


def test_every_finding_but_no_finding_can_be_denied() -> None:
    assert set(DENIED_NAMES) == set(FINDINGS) - {"no_finding"}
