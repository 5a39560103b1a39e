"""Reports with one present finding denied (r^n) or left out (r^o); everything else stays word for word.

What is denied is decided here, whoever writes the denial: a `generators.Generator` is asked for sentences only,
and what it writes is read back before it is used.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from clinicclip.data import separating
from clinicclip.data.beside import AT_ODDS, REFERS
from clinicclip.data.comparison import remove_comparison
from clinicclip.data.generators import Generator
from clinicclip.data.mentions import describe, is_abnormal_otherwise, laterality, mentions, severity, union
from clinicclip.data.phrases import DENIED_NAMES, OTHER_ABNORMALITIES
from clinicclip.data.schema import (
    ABSENT,
    CHEXPERT,
    FINDINGS,
    INDEX,
    NO_SEVERITY,
    NO_SIDE,
    NOT_ABNORMAL,
    PARENTS,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Altered,
    Sentence,
)
from clinicclip.data.separating import Part
from clinicclip.data.text import finding_states, is_normal

# Why a report gives none: there is none; it is normal; it only doubts; what it states shares its sentences with
# something else; even the plainest denial does not read back as one; the generator wrote nothing of use, or what
# does not deny.
NO_REPORT, NORMAL, DOUBTFUL, INSEPARABLE, UNSOUND, NO_DENIAL, NOT_DENIED = REASONS = (
    "no_report",
    "normal",
    "only_uncertain",
    "inseparable",
    "fails_self_check",
    "no_denial",
    "not_denied",
)


class Plan(NamedTuple):
    """What denying or leaving out one finding does to a report."""

    finding: int
    report: tuple[Sentence, ...]  # sentences that also say something else are taken apart
    denied: tuple[tuple[int, ...], ...]  # neighbouring positions in `report` that one denial takes the place of
    omitted: frozenset[int]  # positions that r^o does without
    touched: frozenset[int]  # findings whose state may change: the finding, its family, what merely explains it

    @property
    def statements(self) -> list[str]:
        """What the report says where r^n has its denials."""
        return [" ".join(self.report[i].text for i in run) for run in self.denied]


# Read off the image alone and worth denying; the rest is chosen only when none of these will do.
_VISIBLE = tuple(
    f
    for f in (*CHEXPERT, "emphysema", "nodule", "mass", "hernia", "pleural_thickening", "infiltration")
    if f not in (*NOT_ABNORMAL, "pneumonia")
)

_POSITIVE = (PRESENT, UNCERTAIN)
_OTHER = re.compile(union(OTHER_ABNORMALITIES))
_ADVISES = re.compile(
    r"(?:recommend|advis|correlat|consider|follow|repeat|please|\bct\b|\bmri\b|ultraso)", re.IGNORECASE
)
_DENIAL = re.compile(r"\b(?:no|not|without|negative|free|absent)\b")


def _family(finding: int) -> tuple[frozenset[int], frozenset[int]]:
    """The finding with everything that implies it, and everything it implies."""
    name = FINDINGS[finding]
    below = frozenset({finding, *(INDEX[c] for c, parents in PARENTS.items() if name in parents)})
    return below, frozenset(INDEX[p] for p in PARENTS.get(name, ()))


def _names(text: str, findings: frozenset[int], polarities: tuple[int, ...]) -> bool:
    return any(m.explicit and m.finding in findings and m.polarity in polarities for m in mentions(text))


def stated(sentences: Sequence[Sentence]) -> list[int]:
    """The abnormal findings that sentences name as present, in the order of `schema.FINDINGS`."""
    named = {m.finding for s in sentences for m in mentions(s.text) if m.explicit and m.polarity == PRESENT}
    return sorted(f for f in named if FINDINGS[f] not in NOT_ABNORMAL)


def plan(sentences: Sequence[Sentence], finding: int) -> Plan | None:
    """How `finding` can be denied without touching another one; None when it shares its sentences with others."""
    below, above = _family(finding)
    report: list[Sentence] = []
    denied: list[int] = []
    dropped: list[int] = []
    companions: frozenset[int] = frozenset()
    for sentence in sentences:
        follows = bool(denied) and denied[-1] == len(report) - 1
        parts = _parts(sentence, finding, below | above, follows)
        if parts is None:
            return None
        for part in parts:
            if part.touched:
                denial = _names(part.text, frozenset({finding}), (ABSENT,)) and not _names(part.text, below, _POSITIVE)
                (dropped if denial else denied).append(len(report))
                companions |= part.companions
            report.append(sentence if part.text == sentence.text else describe(part.text))
    runs = groupby(enumerate(denied), lambda pair: pair[1] - pair[0])
    return Plan(
        finding,
        tuple(report),
        tuple(tuple(position for _, position in run) for _, run in runs),
        frozenset(denied + dropped),
        below | above | companions,
    )


def _parts(sentence: Sentence, finding: int, related: frozenset[int], follows: bool) -> list[Part] | None:
    """A sentence as parts to be touched and parts to be kept; None where they cannot be told apart.

    `follows`: the sentence before it is denied. What only points back to that one, or doubts on about it, goes too.
    """
    below, _ = _family(finding)
    states_it = _names(sentence.text, frozenset({finding}), (*_POSITIVE, ABSENT))
    if not states_it and follows and separating.points_back(sentence.text):
        named = mentions(sentence.text)
        if separating.sums_up(sentence.text) and any(m.finding not in related for m in named):
            return None
        whole = Part(sentence.text, True, frozenset(m.finding for m in named))
        return [whole] if all(m.explicit and m.polarity != ABSENT for m in named) else None
    if not states_it and not _names(sentence.text, below, _POSITIVE):
        return [Part(sentence.text, False)]
    return separating.separate(sentence.text, related) if states_it or follows else None


def choose(sentences: Sequence[Sentence], rng: np.random.Generator) -> Plan | str:
    """A plan for a present finding that can be denied without touching another one, or the reason there is none.

    Leaves of the hierarchy only (denying "opacity" beside "atelectasis" would deny both), what is visible on its
    own first. A plan is kept only if the plainest denial and the omission both pass their self-checks.
    """
    if not sentences:
        return NO_REPORT
    named = stated(sentences)
    if not named:
        return NORMAL if is_normal(sentences) == 1 else DOUBTFUL
    states = finding_states(sentences)
    leaves = [f for f in named if all(states[c] != PRESENT for c in _family(f)[0] - {f})]
    leaves = [leaves[i] for i in rng.permutation(len(leaves))]
    reason = INSEPARABLE
    for finding in sorted(leaves, key=lambda f: FINDINGS[f] not in _VISIBLE):
        found = plan(sentences, finding)
        if found is not None:
            if _is_sound(found):
                return found
            reason = UNSOUND
    return reason


def _is_sound(found: Plan) -> bool:
    plain = f"No {DENIED_NAMES[FINDINGS[found.finding]][0]}."
    left = omit(found)
    at_odds = (REFERS, AT_ODDS.get(FINDINGS[found.finding], REFERS))
    if any(words.search(text.lower()) and not _denied(text) for text in left for words in at_odds):
        return False
    return denies(found, negate(found, [plain] * len(found.denied))) and (
        not left or _changes_only(found, left, (UNKNOWN, ABSENT))
    )


def _denied(text: str) -> bool:
    """Whether a sentence only denies."""
    return bool(_DENIAL.search(text.lower())) and describe(text).polarity not in _POSITIVE


def negate(found: Plan, denials: Sequence[str]) -> list[str]:
    """Texts of r^n: each of `denials` in the place of what it denies."""
    first = {run[0]: denial for run, denial in zip(found.denied, denials, strict=True)}
    gone = {position for run in found.denied for position in run}
    return [first.get(i, s.text) for i, s in enumerate(found.report) if i in first or i not in gone]


def omit(found: Plan) -> list[str]:
    """Texts of r^o: every sentence that names the finding, or what implies it, is left out, denials too."""
    return [s.text for i, s in enumerate(found.report) if i not in found.omitted]


def _changes_only(found: Plan, texts: Sequence[str], wanted: tuple[int, ...]) -> bool:
    """Whether `texts` read back with the finding in a wanted state and every unrelated one as in the report."""
    otherwise = [any(map(is_abnormal_otherwise, said)) for said in (texts, [s.text for s in found.report])]
    before, after = finding_states(found.report), finding_states([describe(t) for t in texts])
    others = [i for i in range(len(FINDINGS)) if i not in found.touched]
    return (
        otherwise[0] == otherwise[1]
        and int(after[found.finding]) in wanted
        and bool(np.all(after[others] == before[others]))
    )


def denies(found: Plan, negated: Sequence[str]) -> bool:
    """Self-check of an r^n by re-labelling: the finding is denied, and no unrelated finding has changed."""
    return _changes_only(found, negated, (ABSENT,))


def is_plain(denial: str, finding: int, statement: str) -> bool:
    """Whether a denial of `statement` names `finding` alone: no other side, no degree, no comparison, no advice."""
    low = denial.lower()
    named = mentions(denial)
    inside = [(m.start, m.end) for m in named]
    others = [m for m in _OTHER.finditer(low) if not any(a <= m.start() and m.end() <= b for a, b in inside)]
    return (
        {(m.finding, m.polarity) for m in named} == {(finding, ABSENT)}
        and not others
        and laterality(denial) in (NO_SIDE, laterality(statement))
        and severity(denial) == NO_SEVERITY
        and remove_comparison(denial) == denial
        and not _ADVISES.search(denial)
    )


def write(found: Plan, generator: Generator, rng: np.random.Generator) -> tuple[list[str], str]:
    """Texts of r^n as the generator writes it and "", or no text and the reason it is of no use."""
    denials = generator.deny(found.finding, found.statements, rng)
    if not all(denials):
        return [], NO_DENIAL
    plain = all(is_plain(d, found.finding, s) for d, s in zip(denials, found.statements, strict=True))
    negated = negate(found, denials)
    return (negated, "") if plain and denies(found, negated) else ([], NOT_DENIED)


def chooser(seed: int, key: str) -> np.random.Generator:
    """The random numbers of one report."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def alter(sentences: Sequence[Sentence], *, seed: int, key: str, generator: Generator) -> Altered:
    """r^n and r^o of one report, a function of (seed, key, generator) and text alone.

    Normal reports give none, and so does every alteration that fails its self-check. r^o is empty where every
    sentence speaks of the finding.
    """
    rng = chooser(seed, key)
    found = choose(sentences, rng)
    if isinstance(found, str):
        return Altered("", "", -1, found)
    negated, reason = write(found, generator, rng)
    if reason:
        return Altered("", "", -1, reason)
    return Altered(" ".join(negated), " ".join(omit(found)), found.finding)
