"""One finding a sentence: what is taken apart, and what stays whole."""

import pytest
from hypothesis import given, settings
from written import REPORTS, content_words

from clinicclip.data.mentions import states
from clinicclip.data.sections import split_sentences
from clinicclip.data.splitting import split_findings


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


# Words that only join what is taken apart.
JOINTS = """and or nor with without no but the is are appear appears there for associated negative of while however
though specifically otherwise adjacent"""


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_splitting_loses_no_word_but_the_joints(report: str) -> None:
    for whole in split_sentences(report):
        parts = " ".join(split_findings(whole))
        assert content_words(whole) - set(JOINTS.split()) <= content_words(parts)
        assert states([whole]) == states(split_findings(whole))
