"""Which findings a sentence names, whether it affirms, denies or doubts them, on which side and how severe.

Own rules instead of a library: negspacy and medspaCy's ConText, given our names, agree less with human coding
(bench/language.md); both miss "has resolved" and know nothing of normal-anatomy statements.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from clinicclip.data import anatomy, clauses, cues, phrases
from clinicclip.data.clauses import Cue, Span
from clinicclip.data.schema import (
    ABSENT,
    BOTH,
    FINDINGS,
    INDEX,
    LEFT,
    NO_SEVERITY,
    NO_SIDE,
    PARENTS,
    PRESENT,
    RIGHT,
    UNCERTAIN,
    UNKNOWN,
    Sentence,
)


class Mention(NamedTuple):
    """One finding in one sentence; `explicit` is False where normal anatomy merely covers the finding."""

    finding: int
    polarity: int
    start: int
    end: int
    explicit: bool


def union(patterns: tuple[str, ...]) -> str:
    """One non-capturing alternation of `patterns` that cuts no word in two.

    A match may touch a word where it begins or ends with punctuation or a space, as ``:`` does in "Effusion: none".
    """
    return r"(?:(?<!\w)|(?!\w))(?:" + "|".join(patterns) + r")(?:(?!\w)|(?<!\w))"


def _named(table: Mapping[str, tuple[str, ...]]) -> re.Pattern[str]:
    groups = (f"(?P<{name}>{'|'.join(patterns)})" for name, patterns in table.items())
    return re.compile(union(tuple(groups)))


def _before_colon(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The cues with a colon of their own, which does not end their reach: "negative for: fracture"."""
    return tuple(f"(?:{pattern})(?: ?:)?" for pattern in patterns)


_SIGN = "sign_"
_FINDING = _named({**phrases.MENTIONS, **{_SIGN + name: p for name, p in phrases.SIGNS.items()}})
_CUE = _named(
    {
        "neutral": cues.NEUTRAL,
        "doubt_after": cues.DOUBT_AFTER,
        "deny_after": cues.DENY_AFTER,
        "deny_next": cues.DENY_NEXT,
        "deny_around": cues.DENY_AROUND,
        "doubt_around": cues.DOUBT_AROUND,
        "alternative": cues.ALTERNATIVE,
        "doubt_before": _before_colon(cues.DOUBT_BEFORE),
        "doubt_item": cues.DOUBT_ITEM,
        "deny_before": _before_colon(cues.DENY_BEFORE),
        "history": _before_colon(cues.HISTORY),
        "end": cues.SCOPE_END,
        "goes_on": cues.GOES_ON,
        "resumes": cues.RESUMES,
        "denial_end": cues.DENIAL_END,
        "list_end": cues.LIST_END,
    }
)
_ANATOMY = _named({name.replace(" ", "_"): subjects for name, (subjects, _) in anatomy.ANATOMY.items()})
_COVERED = {name.replace(" ", "_"): tuple(INDEX[f] for f in covered) for name, (_, covered) in anatomy.ANATOMY.items()}
_STATE = _named({"borderline": phrases.BORDERLINE, "normal": anatomy.NORMAL})
# Before a state it is denied: "not entirely clear", "cannot say the lungs are clear".
_NOT_SO = re.compile(
    r"\b(?:not|no longer|never|hardly|neither|cannot|can't|unable)\b(?:(?!\b(?:and|but)\b)[^,;]){0,50}$"
)
_VERB = re.compile(anatomy.VERBS)
_ABNORMAL = re.compile(anatomy.ABNORMAL)
_CLAUSE_END = re.compile(r";|\.(?= |$)|\b(?:but|however|although|though|with(?!in)|except|other than)\b")
_LEFT, _RIGHT = re.compile(r"\bleft\b"), re.compile(r"\bright\b")
_BOTH = re.compile(r"\b(?:both|bilateral(?:ly)?|bi(?:basilar|basal|apical)|lungs are)\b")
_DEGREES = tuple((degree, re.compile(union(words))) for degree, words in cues.SEVERITY)
# A pronoun that stands for the finding before it: "no pneumothorax, but there is one on the left".
_ONE = re.compile(
    r"\b(?:but|though|although|however|while)\b[^.;]*?(?<!the )(?<!this )\b(?P<one>ones?)"
    r"(?= ?(?:[.,;]|$)| (?:on|in|at|is|are|may|might|can|cannot|could|remains?|persists?|seen|present)\b)"
)
_OTHER = re.compile(union(phrases.OTHER_ABNORMALITIES))
NO_FINDING, _DEVICES = INDEX["no_finding"], INDEX["support_devices"]
_WANTED = re.compile(cues.WANTED)


@lru_cache(maxsize=65536)
def named(low: str) -> tuple[tuple[tuple[str, int, int], ...], tuple[tuple[int, int], ...]]:
    """(name in `_FINDING`, start, end) of findings, (start, end) of abnormalities without a name among them."""
    found = tuple((str(m.lastgroup), *m.span()) for m in _FINDING.finditer(low))
    return found, tuple(m.span() for m in _OTHER.finditer(low))


@lru_cache(maxsize=65536)
def turns(low: str) -> tuple[Cue, ...]:
    """Cues and the boundaries between statements, in order; what may turn either side turns the nearer one."""
    found, others = named(low)
    spans = [Span(start, end, INDEX[name.removeprefix(_SIGN)]) for name, start, end in found]
    spans += [Span(*span, -1) for span in others if not any(s.start < span[1] and span[0] < s.end for s in spans)]
    spans.sort()
    reaching: list[Cue] = []
    for match in _CUE.finditer(low):
        cue = Cue(str(match.lastgroup), match.start(), match.end())
        if cue.kind == "alternative":
            reaching += clauses.alternative(low, cue, spans)
        elif cue.kind == "deny_around":
            reaching.append(cue._replace(kind="deny_before" if clauses.attributive(low, cue, spans) else "deny_after"))
        else:
            reaching.append(cue)
    reaching += clauses.boundaries(low, spans)
    return tuple(sorted(reaching, key=lambda cue: cue.start))


def _named_findings(low: str) -> list[Mention]:
    spans = list(named(low)[0])
    one = _ONE.search(low, spans[0][2]) if spans else None
    if one:
        spans.append((next(name for name, _, end in reversed(spans) if end <= one.start()), *one.span("one")))
    mentions = []
    for name, start, end in spans:
        index = INDEX[name.removeprefix(_SIGN)]
        if (index == _DEVICES and _WANTED.match(low, end)) or (index == NO_FINDING and _NOT_SO.search(low[:start])):
            continue
        state = PRESENT if index == NO_FINDING else clauses.polarity(start, end, turns(low))
        if name.startswith(_SIGN) and state == PRESENT:
            state = UNCERTAIN
        if state is not None:
            mentions.append(Mention(index, state, start, end, True))
    return mentions


def _clauses(low: str) -> list[tuple[int, int]]:
    cuts = [0, *(m.start() for m in _CLAUSE_END.finditer(low)), len(low)]
    return [(a, b) for a, b in pairwise(cuts) if b > a]


def _subjects_of(state: re.Match[str], subjects: list[re.Match[str]], low: str, floor: int) -> list[re.Match[str]]:
    """Anatomy that a state word ("normal", "clear") speaks about: what stands before it, else what follows."""
    before = []
    for subject in subjects:
        between = low[subject.end() : state.start()]
        stands_before = floor <= subject.start() and subject.end() <= state.start()
        if stands_before and not _ABNORMAL.search(between) and len(_VERB.findall(between)) <= 1:
            before.append(subject)
    if before:
        return before
    after = []
    for subject in subjects:
        between = low[state.end() : subject.start()]
        if subject.start() >= state.end() and not _VERB.search(between) and not _ABNORMAL.search(between):
            after.append(subject)
    return after


def _called_normal(low: str) -> Iterator[tuple[re.Match[str], re.Match[str], bool]]:
    """(anatomy, state, whether the state is denied) of "the lungs are clear", "normal heart", "not normal"."""
    for start, end in _clauses(low):
        subjects = list(_ANATOMY.finditer(low, start, end))
        floor = start
        for state in _STATE.finditer(low, start, end) if subjects else ():
            denied = bool(_NOT_SO.search(low[floor : state.start()]))
            yield from ((subject, state, denied) for subject in _subjects_of(state, subjects, low, floor))
            floor = state.end()


def _normal_anatomy(low: str) -> list[Mention]:
    """Findings denied by statements such as "the lungs are clear" or "normal heart size"."""
    found: list[Mention] = []
    for subject, state, denied in _called_normal(low):
        polarity = UNCERTAIN if state.lastgroup == "borderline" else ABSENT
        covered = () if denied else _COVERED[str(subject.lastgroup)]
        found.extend(Mention(f, polarity, subject.start(), state.end(), False) for f in covered)
    return found


@lru_cache(maxsize=65536)
def mentions(text: str) -> tuple[Mention, ...]:
    """All findings that one sentence names, then those it covers by calling anatomy normal."""
    low = text.lower()
    return tuple(_named_findings(low) + _normal_anatomy(low))


def laterality(text: str) -> int:
    """The side a sentence speaks of: `schema.NO_SIDE`, `LEFT`, `RIGHT` or `BOTH`."""
    low = text.lower()
    left, right = _LEFT.search(low), _RIGHT.search(low)
    if _BOTH.search(low) or (left and right):
        return BOTH
    return LEFT if left else RIGHT if right else NO_SIDE


def severity(text: str) -> int:
    """How severe a sentence calls what it speaks of: `schema.NO_SEVERITY`, `MILD`, `MODERATE` or `SEVERE`, the most."""
    low = text.lower()
    return next((degree for degree, words in _DEGREES if words.search(low)), NO_SEVERITY)


@lru_cache(maxsize=65536)
def is_abnormal_otherwise(text: str) -> bool:
    """Whether a sentence affirms or doubts an abnormality that no finding of `schema.FINDINGS` stands for."""
    low = text.lower()
    found, others = named(low)
    if any(clauses.polarity(*span, turns(low)) in (PRESENT, UNCERTAIN) for span in others):
        return True
    normal = (start for name, start, _ in found if name == "no_finding")
    return any(denied for *_, denied in _called_normal(low)) or any(_NOT_SO.search(low[:start]) for start in normal)


_RANK = {PRESENT: 0, UNCERTAIN: 1, ABSENT: 2}


def _specific_first(found: tuple[Mention, ...]) -> list[Mention]:
    implied = {INDEX[p] for m in found if m.explicit for p in PARENTS.get(FINDINGS[m.finding], ())}
    return sorted(
        found,
        key=lambda m: (not m.explicit, _RANK[m.polarity], m.finding in implied, m.finding == NO_FINDING),
    )


def describe(text: str) -> Sentence:
    """The sentence with its main finding: named before covered, present before doubted before denied."""
    found = _specific_first(mentions(text))
    if not found:
        return Sentence(text, -1, UNKNOWN, NO_SIDE)
    main = found[0]
    degree = severity(text) if main.polarity in (PRESENT, UNCERTAIN) and main.finding != NO_FINDING else NO_SEVERITY
    return Sentence(text, main.finding, main.polarity, laterality(text), degree)


def states(texts: tuple[str, ...] | list[str], *, explicit: bool = False) -> dict[int, int]:
    """Polarity of every finding the sentences speak of: present beats uncertain beats absent.

    `explicit` leaves out what normal anatomy merely covers. No hierarchy is applied.
    """
    result: dict[int, int] = {}
    for text in texts:
        for mention in mentions(text):
            if explicit and not mention.explicit:
                continue
            known = result.get(mention.finding)
            if known is None or _RANK[mention.polarity] < _RANK[known]:
                result[mention.finding] = mention.polarity
    return result


def polarity(text: str, start: int, end: int) -> int | None:
    """What the words around [start, end) of one lower-case sentence make of what stands there.

    PRESENT, ABSENT or UNCERTAIN; None when it is the patient's past.
    """
    return clauses.polarity(start, end, turns(text))
