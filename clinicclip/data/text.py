"""Report language: raw report to single-finding sentences, and sentences to labels."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int8

from clinicclip.data import mentions
from clinicclip.data.comparison import denies_change, remove_comparison
from clinicclip.data.mentions import describe, is_abnormal_otherwise, states
from clinicclip.data.schema import (
    ABSENT,
    CHEXPERT,
    FINDINGS,
    INDEX,
    NOT_ABNORMAL,
    PARENTS,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Sentence,
)
from clinicclip.data.sections import report_sections, split_sentences
from clinicclip.data.splitting import split_findings

__all__ = ["finding_states", "forget", "is_normal", "report_labels", "report_sections", "sentences"]

_ORDER = {UNKNOWN: 0, ABSENT: 1, UNCERTAIN: 2, PRESENT: 3}
_ABNORMAL = tuple(INDEX[name] for name in FINDINGS if name not in NOT_ABNORMAL)


@lru_cache(maxsize=65536)
def _statements(raw: str) -> tuple[Sentence, ...]:
    """One raw sentence as statements of the present state; remembered, since reports repeat themselves."""
    present = filter(None, map(remove_comparison, split_findings(raw)))
    return tuple(describe(text) for part in present for text in split_findings(part))


def forget() -> None:
    """Empties what is remembered from one report to the next, as a measurement of speed must."""
    for remembered in (_statements, mentions.mentions, mentions.named, mentions.turns, mentions.is_abnormal_otherwise):
        remembered.cache_clear()


def sentences(findings: str, impression: str) -> list[Sentence]:
    """Both sections as sentences about one finding each, in order, without comparisons and repetitions.

    "No new effusion" says that there is none, unless another sentence says that there is one: then it goes.
    """
    result: dict[str, Sentence] = {}
    of_change: set[str] = set()
    for section in (findings, impression):
        for raw in split_sentences(section):
            for sentence in _statements(raw):
                key = sentence.text.casefold()
                if key not in result and denies_change(raw):
                    of_change.add(key)
                result.setdefault(key, sentence)
    if not of_change:
        return list(result.values())
    there = finding_states(list(result.values())) == PRESENT
    return [
        sentence
        for key, sentence in result.items()
        if not (key in of_change and sentence.polarity == ABSENT and sentence.finding >= 0 and there[sentence.finding])
    ]


def finding_states(report: Sequence[Sentence]) -> Int8[np.ndarray, "27"]:
    """State of every finding of `schema.FINDINGS` (present / absent / uncertain / unknown = not spoken of).

    Present beats uncertain beats absent, over sentences and from child to parent (`schema.PARENTS`).
    """
    values = np.full(len(FINDINGS), UNKNOWN, np.int8)
    for finding, polarity in states([s.text for s in report]).items():
        values[finding] = polarity
    for child, parents in PARENTS.items():
        state = int(values[INDEX[child]])
        for parent in parents if state in (PRESENT, UNCERTAIN) else ():
            if _ORDER[state] > _ORDER[int(values[INDEX[parent]])]:
                values[INDEX[parent]] = state
    return values


def report_labels(report: Sequence[Sentence]) -> Int8[np.ndarray, "14"]:
    """The fourteen training labels of a report: 1 present, -1 uncertain, 0 absent or not mentioned.

    "No finding" is 1 when none of the others, support devices aside, is present or uncertain, else 0. A report
    without text is all -128 (unknown). For training, unmentioned counts as absent.
    """
    if not report:
        return np.full(len(CHEXPERT), UNKNOWN, np.int8)
    values = finding_states(report)[: len(CHEXPERT)]
    values[values == UNKNOWN] = ABSENT
    others = [INDEX[name] for name in CHEXPERT if name not in NOT_ABNORMAL]
    values[INDEX["no_finding"]] = ABSENT if np.any(values[others] != ABSENT) else PRESENT
    return values


def is_normal(report: Sequence[Sentence]) -> int:
    """1 when no abnormal finding, finer names included, is present or uncertain; else 0; -128 without text.

    Support devices do not count; abnormalities without a name in `schema.FINDINGS`, such as adenopathy, do.
    """
    if not report:
        return UNKNOWN
    states = finding_states(report)[list(_ABNORMAL)]
    named = np.any((states == PRESENT) | (states == UNCERTAIN))
    return int(not named and not any(is_abnormal_otherwise(s.text) for s in report))
