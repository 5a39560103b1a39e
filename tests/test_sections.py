"""Reports to sections, and sections to sentences."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data.schema import INDEX, PRESENT
from clinicclip.data.sections import LONGEST, report_sections, split_sentences
from clinicclip.data.text import report_labels, sentences


@pytest.mark.parametrize(
    "report, findings, impression",
    [
        ("FINDINGS: Clear lungs.\nIMPRESSION: Normal.", "Clear lungs.", "Normal."),
        ("Findings:\n Clear lungs.\n\nImpression:\n Normal.", "Clear lungs.", "Normal."),
        ("HISTORY: Cough. FINDINGS: Clear. IMPRESSION: Normal.", "Clear.", "Normal."),
        ("INDICATION: ___\n\nFINDINGS AND IMPRESSION:\nClear.", "Clear.", ""),
        ("EXAM: Chest\n\nINDICATION: Cough\n\nLungs are clear.", "Lungs are clear.", ""),
        ("IMPRESSION: Normal.\nADDENDUM: Seen again.", "", "Normal. Seen again."),
        ("FINDINGS: Clear. IMPRESSION: Normal. ADDENDUM: A nodule.", "Clear.", "Normal. A nodule."),
        ("Impression: 1. Normal. Findings: Clear lungs.", "Clear lungs.", "1. Normal."),
        ("IMPRESSION AND RECOMMENDATION(S): Normal.\nNOTIFICATION: Called.", "", "Normal."),
        ("FINDINGS/IMPRESSION:\nClear lungs.", "Clear lungs.", ""),
        ("WET READ: Clear.\n FINAL REPORT\n FINDINGS: Edema.\n\n IMPRESSION:\n 1. Edema.", "Edema.", "1. Edema."),
        ("FINAL REPORT\n CHEST\n\n INDICATION: ___\n\n Compared to ___.\n\n Mild edema.", "Mild edema.", ""),
        ("FINDINGS\nTiny effusion.\nIMPRESSION\nEffusion.", "Tiny effusion.", "Effusion."),
        ("ADDENDUM\nA tiny nodule.\n\nFINDINGS: Clear.", "Clear.", "A tiny nodule."),
        ("ADDENDUM  A nodule.\n______\n FINAL REPORT\n FINDINGS: Clear.", "Clear.", "A nodule."),
        ("ADDENDUM BY DR. XX: A nodule.\nFINDINGS: Clear.", "Clear.", "A nodule."),
        ("IMPRESSION AND FINDINGS: Clear.", "Clear.", ""),
        ("HISTORY: cough\n\nClear lungs.\n\nBig heart.", "Clear lungs.\n\nBig heart.", ""),
        ("**FINDINGS:** Clear.\n## IMPRESSION: Normal.", "Clear.", "Normal."),
        ("IMPRESSION: Edema. NOTIFICATION: Told the ward.", "", "Edema."),
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
        (
            "Seen at 9:30 a.m. by Dr. Lee. Approx. 1.5 x 2.0 cm.",
            ["Seen at 9:30 a.m. by Dr. Lee.", "Approx. 1.5 x 2.0 cm."],
        ),
        ("AP chest, 5:12 a.m. Severe edema.", ["AP chest, 5:12 a.m.", "Severe edema."]),
        ("Atelectasis v. pneumonia. Factor V. Done.", ["Atelectasis v. pneumonia.", "Factor V.", "Done."]),
        ("Lungs are clear.Heart is normal.", ["Lungs are clear.", "Heart is normal."]),
        ("Clear lungs.. No effusion. .", ["Clear lungs.", "No effusion."]),
        ("The heart is\nnormal.\n\nlungs clear", ["The heart is normal.", "Lungs clear."]),
        ("Heart normal; lungs clear", ["Heart normal.", "Lungs clear."]),
        ("There are no XXXX of effusion. ___ tube.", ["There are no XXXX of effusion.", "___ tube."]),
        ("The nodule is 1.5. No effusion.", ["The nodule is 1.5.", "No effusion."]),
        ("Fractures of ribs 7 and 8. No pneumothorax.", ["Fractures of ribs 7 and 8.", "No pneumothorax."]),
        ("1. Edema 2. No effusion 3. No mass", ["Edema.", "No effusion.", "No mass."]),
        ("1.Tiny effusion\n2.No mass", ["Tiny effusion.", "No mass."]),
        ("LUNGS: clear\nPLEURA: tiny effusion\nHEART: big", ["LUNGS: clear.", "PLEURA: tiny effusion.", "HEART: big."]),
        ("Is there an effusion? No.", ["Is there an effusion?", "No."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(section: str, expected: list[str]) -> None:
    assert split_sentences(section) == expected


@pytest.mark.parametrize(
    ("report", "findings"),
    [
        ("Lungs: small effusion.\n\nIMPRESSION: Small effusion.", "Lungs: small effusion."),
        ("INDICATION: cough\n\nThe lungs are clear.\n\nIMPRESSION: Normal.", "The lungs are clear."),
        ("PORTABLE CHEST\nIMPRESSION: Normal.", ""),
    ],
)
def test_a_body_without_a_header_is_findings_beside_an_impression(report: str, findings: str) -> None:
    assert report_sections(report)[0] == findings


def test_empty_sections_are_a_report_without_text() -> None:
    assert report_sections("FINDINGS:\n\nIMPRESSION:\n") == ("", "")


def test_a_run_on_is_cut_into_whole_words() -> None:
    run_on = " ".join(["small effusion and cardiomegaly"] * 2000)
    parts = split_sentences(run_on)
    assert all(len(p) <= LONGEST + 1 for p in parts)
    assert " ".join(parts).replace(".", "").lower() == run_on
    assert report_labels(sentences(run_on, ""))[INDEX["pleural_effusion"]] == PRESENT


MARKS = st.sampled_from([" ", "  ", "\n", "\n\n", ". ", "; ", "? ", ", ", " - ", " ___ ", "\t"])
WORDS = st.text(st.characters(categories=["Lu", "Ll", "Lo"]), min_size=3, max_size=9)


MEASURED = st.sampled_from(["nodule of 1.5 cm", "ribs 5 and 6", "at T12", "a 3 mm node", "level 2.0", "lungs 95 mm"])


@settings(max_examples=150, deadline=None)
@given(st.lists(MEASURED, max_size=12))
def test_sentences_keep_every_number(written: list[str]) -> None:
    parts = " ".join(split_sentences(" ".join(f"{text.capitalize()}." for text in written)))
    assert re.findall(r"\d+(?:\.\d+)?", parts) == re.findall(r"\d+(?:\.\d+)?", " ".join(written))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(WORDS, MARKS), max_size=40))
def test_sentences_keep_every_word_in_its_order(written: list[tuple[str, str]]) -> None:
    parts = split_sentences("".join(word + mark for word, mark in written))
    words = [part for sentence in parts for part in re.findall(r"[^\W_]+", sentence)]
    assert "".join(words).upper() == "".join(word for word, _ in written).upper()
