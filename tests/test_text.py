"""Whole reports: sentences of the present state, labels, normality; whatever the text."""

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import pytest
from comparisons import CASES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from written import REPORTS, STUTTERS

from clinicclip.data import negation, rule_graphs
from clinicclip.data.generators import templates
from clinicclip.data.schema import ABSENT, CHEXPERT, FINDINGS, PRESENT, UNCERTAIN, UNKNOWN
from clinicclip.data.text import finding_states, forget, is_normal, report_labels, report_sections, sentences


def texts(findings: str, impression: str = "") -> list[str]:
    return [s.text for s in sentences(findings, impression)]


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


@settings(max_examples=150, deadline=None)
@given(REPORTS, REPORTS)
@example("", "")
def test_any_text_gives_the_same_valid_sentences_twice(findings: str, impression: str) -> None:
    first = sentences(findings, impression)
    forget()
    assert sentences(findings, impression) == first
    assert all(s.text and -1 <= s.finding < len(FINDINGS) for s in first)
    assert all((s.finding < 0) == (s.polarity == UNKNOWN) for s in first)
    assert set(report_labels(first).tolist()) <= {PRESENT, ABSENT, UNCERTAIN, UNKNOWN}
    assert is_normal(first) in ((0, 1) if first else (UNKNOWN,))
    report_sections(findings + "\n" + impression)


@settings(max_examples=150, deadline=None)
@given(REPORTS)
def test_sections_lose_no_text_without_headers(report: str) -> None:
    findings, impression = report_sections(report)
    if ":" not in report and "impression" not in report.lower():
        assert "".join(findings.split()) == "".join(report.split()) and impression == ""


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "no ",
            "1. ",
            ". ",
            "\n",
            "XXXX ",
            "é\u0301 ",
            "FINDINGS:\n",
            "no effusion, ",
            "No effusion. ",
            "stable ",
        ),
        *("the lungs are clear and ", "increased ", "in size and position ", "lung interstitial ", "prior chest "),
    ],
)
def test_a_megabyte_is_read_in_bounded_time(piece: str) -> None:
    report = (piece * (1_000_000 // len(piece) + 1))[:1_000_000]
    start = time.process_time()
    found = sentences(*report_sections(report))
    report_labels(found)
    assert time.process_time() - start < 20
    assert all(s.text for s in found)


@settings(max_examples=200, deadline=2000)
@given(STUTTERS)
@example("resolving in in " * 35)
def test_no_sentence_takes_long(stutter: str) -> None:
    assert finding_states(sentences(stutter, "")).shape == (len(FINDINGS),)


def test_processes_annotate_as_one_does() -> None:
    alter = partial(negation.alter, seed=0, key="k", generator=templates.TRAIN)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:

        @settings(max_examples=20, deadline=None)
        @given(st.lists(REPORTS, min_size=2, max_size=6))
        @example([f"{before} {after}" for before, after in CASES])
        def alike(reports: list[str]) -> None:
            said = list(map(sentences, reports, repeat("")))
            assert list(pool.map(sentences, reports, repeat(""), chunksize=50)) == said
            for annotate in (alter, rule_graphs.build):
                assert list(pool.map(annotate, said, chunksize=50)) == list(map(annotate, said))

        alike()


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Stable effusion. No new effusion.", ["Effusion."]),
        ("No new effusion. Small effusion on the left.", ["Small effusion on the left."]),
        ("Clear lungs. No new effusion.", ["Clear lungs.", "No effusion."]),
    ],
)
def test_what_is_not_new_is_denied_only_where_it_is_not_there(said: str, read: list[str]) -> None:
    assert [sentence.text for sentence in sentences(said, "")] == read
