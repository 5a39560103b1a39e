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


APART = """
Small bilateral effusions and bibasilar atelectasis. => Small bilateral effusions. | Bibasilar atelectasis.
Left greater than right pleural effusions. => Left pleural effusion. | Right pleural effusion.
There is no consolidation, effusion or edema. => There is no consolidation. | There is no effusion. | There is no edema.
No edema, effusion, or pneumothorax is seen. => No edema is seen. | No effusion is seen. | No pneumothorax is seen.
No evidence of pneumonia or edema. => No evidence of pneumonia. | No evidence of edema.
Negative for effusion and consolidation. => Negative for effusion. | Negative for consolidation.
The lungs are free of consolidation and edema. => The lungs are free of consolidation. | No edema.
Neither pneumothorax nor effusion is seen. => No pneumothorax is seen. | No effusion is seen.
No pneumothorax nor effusion. => No pneumothorax. | No effusion.
No effusions, no pneumothorax, no edema. => No effusions. | No pneumothorax. | No edema.
There is cardiomegaly but no edema. => There is cardiomegaly. | No edema.
Cardiomegaly, edema and effusions are present. => Cardiomegaly. | Edema. | Effusions are present.
There are small effusions and mild edema. => There are small effusions. | Mild edema.
The heart, mediastinum and hila are normal. => Heart is normal. | Mediastinum is normal. | Hila are normal.
The lungs and pleural spaces are clear. => Lungs are clear. | Pleural spaces are clear.
Mild cardiomegaly with small effusion and no edema. => Mild cardiomegaly. | Small effusion. | No edema.
A 3 mm nodule, 2.5 cm mass and small effusion. => A 3 mm nodule. | 2.5 cm mass. | Small effusion.
Opacities, likely atelectasis, and small effusions. => Opacities, likely atelectasis. | Small effusions.
No acute fracture, dislocation or edema. => No acute fracture. | No dislocation. | No edema.
There is no effusion and the heart is normal. => There is no effusion. | The heart is normal.
Lungs are clear except for left basilar atelectasis. => Lungs are clear except for left basilar atelectasis.
A 1.5 cm nodule and a 0.8 cm nodule are seen. => A 1.5 cm nodule and a 0.8 cm nodule are seen.
No tension pneumothorax, but a small effusion remains. => No tension pneumothorax. | A small effusion remains.
No effusion though mild edema is present. => No effusion. | Mild edema is present.
No evidence of a mass or a nodule. => No evidence of a mass. | No evidence of a nodule.
Moderate right and small left pneumothoraces. => Moderate right pneumothorax. | Small left pneumothorax.
Small left and large right opacities are seen. => Small left opacity is seen. | Large right opacity is seen.
Neither the effusion nor the edema has changed. => Neither the effusion nor the edema has changed.
Neither the effusion nor an edema is seen. => No effusion is seen. | No edema is seen.
Atelectasis and/or consolidation. => Atelectasis and/or consolidation.
Edema, vs. consolidation. => Edema, vs. consolidation.
Cardiomegaly and edema versus pneumonia. => Cardiomegaly. | Edema versus pneumonia.
Edema versus pneumonia and effusion. => Edema versus pneumonia and effusion.
Opacity may represent pneumonia, edema or aspiration. => Opacity may represent pneumonia, edema or aspiration.
Possible atelectasis or pneumonia at the left base. => Possible atelectasis or pneumonia at the left base.
"""


@pytest.mark.parametrize("case", APART.strip().splitlines())
def test_lists_clauses_and_sides_come_apart_and_choices_do_not(case: str) -> None:
    whole, parts = case.split(" => ")
    assert " | ".join(split_findings(whole)) == parts


# Words that only join what is taken apart.
JOINTS = """and or nor with without no but the is are appear appears there for associated negative of while however
though specifically otherwise adjacent"""


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_splitting_loses_no_word_but_the_joints(report: str) -> None:
    for whole in split_sentences(report):
        parts = " ".join(split_findings(whole))
        lost = content_words(whole) - content_words(parts)
        assert set(lost) <= set(JOINTS.split())
        assert states([whole]) == states(split_findings(whole))
