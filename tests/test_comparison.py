"""Comparison removal: the present state stays with every finding and denial, the change goes."""

import pytest
from comparisons import CASES
from hypothesis import given, settings
from written import REPORTS, content_words

from clinicclip.data.comparison import remove_comparison
from clinicclip.data.mentions import is_abnormal_otherwise, states
from clinicclip.data.sections import split_sentences
from clinicclip.data.text import sentences


@pytest.mark.parametrize("before, after", CASES, ids=[before for before, _ in CASES])
def test_comparisons_go_and_findings_and_denials_stay(before: str, after: str) -> None:
    assert remove_comparison(before) == after


@pytest.mark.parametrize("before", [before for before, _ in CASES])
def test_what_is_left_holds_no_comparison_and_states_the_same(before: str) -> None:
    after = remove_comparison(before)
    assert remove_comparison(after) == after
    assert states([after]) == states([before])
    assert is_abnormal_otherwise(after) == is_abnormal_otherwise(before)


@pytest.mark.parametrize(
    "report, expected",
    [
        ("The effusion is stable but the edema has worsened.", ["Effusion.", "Edema."]),
        (
            "The right effusion has resolved; the left effusion persists.",
            ["No right effusion.", "The left effusion is present."],
        ),
        (
            "The right effusion has resolved but the left effusion persists.",
            ["No right effusion.", "The left effusion is present."],
        ),
        ("The effusion has resolved, and no pneumothorax is seen.", ["No effusion.", "No pneumothorax is seen."]),
        (
            "Stable cardiomegaly and mild edema with small but increasing right effusion.",
            ["Cardiomegaly.", "Mild edema.", "Small right effusion."],
        ),
        ("No interval change in cardiomegaly or edema.", ["Cardiomegaly.", "Edema."]),
        (
            "Mild edema, no effusion, and pneumothorax has resolved.",
            ["Mild edema.", "No effusion.", "No pneumothorax."],
        ),
        (
            "Multifocal opacities, suspicious for pneumonia, have resolved.",
            ["No multifocal opacities, suspicious for pneumonia."],
        ),
        ("?Pneumonia. No effusion.", ["?Pneumonia.", "No effusion."]),
        ("No new or worsening effusion, consolidation or edema.", ["No effusion.", "No consolidation.", "No edema."]),
    ],
)
def test_each_clause_keeps_its_own_present_state(report: str, expected: list[str]) -> None:
    assert [s.text for s in sentences(report, "")] == expected


# What a rewriting may put in the place of a comparison.
WRITTEN = content_words("no or and there is are seen present enlarged clear")


@pytest.mark.parametrize("before", [before for before, _ in CASES])
def test_what_is_left_is_made_of_the_words_and_numbers_that_were_there(before: str) -> None:
    assert content_words(remove_comparison(before)) <= content_words(before) + WRITTEN


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_comparison_removal_changes_no_finding(report: str) -> None:
    for whole in split_sentences(report):
        assert states([remove_comparison(whole)]) == states([whole])
