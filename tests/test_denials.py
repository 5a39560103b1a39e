"""The sentences that deny a finding say that and nothing else, whoever writes them."""

import itertools

import numpy as np
import pytest

from clinicclip.data import negation
from clinicclip.data.generators import templates
from clinicclip.data.generators.templates import EVAL, TRAIN, Templates
from clinicclip.data.phrases import DENIED_NAMES
from clinicclip.data.schema import ABSENT, FINDINGS, INDEX, UNKNOWN
from clinicclip.data.text import finding_states, sentences


@pytest.mark.parametrize(
    ("denial", "plain"),
    [
        ("No left pleural effusion.", True),
        ("No pleural effusion.", True),
        ("No right pleural effusion.", False),
        ("No large left pleural effusion.", False),
        ("No left pleural effusion or edema.", False),
        ("No left pleural effusion with lymphadenopathy.", False),
        ("No left pleural effusion compared with the prior study.", False),
        ("The previously seen left pleural effusion has resolved.", False),
        ("No left pleural effusion, follow-up CT is advised.", False),
        ("Left pleural effusion.", False),
    ],
)
def test_a_denial_says_nothing_but_that_the_finding_is_absent(denial: str, plain: bool) -> None:
    assert negation.is_plain(denial, INDEX["pleural_effusion"], "Small left pleural effusion.") == plain


@pytest.mark.parametrize("generator", [TRAIN, EVAL], ids=lambda g: g.name)
def test_every_template_is_plain(generator: Templates) -> None:
    for finding, names in DENIED_NAMES.items():
        for pattern, name in itertools.product(generator.patterns, names):
            assert negation.is_plain(generator.write(pattern, name), INDEX[finding], "Stated.")


def test_generators_share_no_template_and_no_sentence() -> None:
    assert not set(TRAIN.patterns) & set(EVAL.patterns)
    names = {name for known in DENIED_NAMES.values() for name in known}
    assert not any(TRAIN.write(pattern, name) in EVAL for pattern in TRAIN.patterns for name in names)
    assert "No edema is seen." not in TRAIN and "No pulmonary edema is seen." in EVAL


@pytest.mark.parametrize("generator", [TRAIN, EVAL], ids=lambda g: g.name)
def test_every_denial_is_read_back_as_that_denial_alone(generator: Templates) -> None:
    for finding, names in DENIED_NAMES.items():
        for name in names:
            for pattern in generator.patterns:
                states = finding_states(sentences(generator.write(pattern, name), ""))
                assert states[INDEX[finding]] == ABSENT, (pattern, name)
                assert np.flatnonzero(states != UNKNOWN).tolist() == [INDEX[finding]], (pattern, name)


def test_every_finding_but_no_finding_has_a_name_to_deny_it_by() -> None:
    assert set(DENIED_NAMES) == set(FINDINGS) - {"no_finding"}
    assert templates.BY_NAME == {"train": TRAIN, "eval": EVAL}


def test_a_generator_that_fails_its_check_gives_none_and_the_reason() -> None:
    class Lazy:
        name = "lazy"

        def __init__(self, text: str) -> None:
            self._text = text

        def deny(self, finding: int, statements: object, rng: np.random.Generator) -> list[str]:
            return [self._text]

    report = sentences("Cardiomegaly. Small effusion.", "")
    for text, reason in (("", negation.NO_DENIAL), ("All is as it was.", negation.NOT_DENIED)):
        assert negation.alter(report, seed=0, key="a", generator=Lazy(text)) == ("", "", -1, reason)
