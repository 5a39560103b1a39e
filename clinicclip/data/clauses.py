"""Where one statement of a sentence ends and the next begins: a cue reaches the findings of its own statement.

A joint (comma, "and", "but") between two findings begins a statement where the second has a predicate, and it is not
one predicate for both: "effusion is small and pneumothorax has resolved", but "effusion, edema and pneumothorax have
resolved". Everything is read off lower-cased text.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from clinicclip.data.cues import SEVERITY
from clinicclip.data.schema import ABSENT, INDEX, PRESENT, UNCERTAIN


class Cue(NamedTuple):
    """A word that turns the mentions before or after it, or ends the reach of such words."""

    kind: str
    start: int
    end: int


class Span(NamedTuple):
    """Where a finding is named; -1 is an abnormality without a name in `schema.FINDINGS`."""

    start: int
    end: int
    finding: int


_NO_FINDING = INDEX["no_finding"]
# What is stated for years, and not listed among what a denial excludes.
_CHRONIC = frozenset(
    INDEX[name]
    for name in (
        "cardiomegaly",
        "hyperinflation",
        "scoliosis",
        "degenerative_change",
        "tortuous_aorta",
        "calcification",
    )
)
_JOINT = re.compile(r",(?: (?:and|but))? (?!(?:and|but|or|nor)\b)|\b(?:and|but) ")
_ITEM_END = re.compile(r",|;|\b(?:and|or|nor|but|with|which|while|although|though)\b")
_SEEN = r"(?:seen|noted|identified|visuali[sz]ed|present|evident|demonstrated|appreciated|visible|detected|observed)"
_FINITE = (
    r"(?:is|are|was|were|has|have|had|remains?|persists?|appears?|seems?|cannot|can|could|may|might|ends|terminates|"
    r"lies|projects|extends|overlies|measures)"
)
_STATE = (
    rf"(?:{_SEEN}|stable|unchanged|(?:improv|worsen|increas|decreas|resolv|clear)(?:ed|ing)|worse|better|larger|smaller|"
    r"excluded|gone|absent|unlikely|doubtful)"
)
_PREDICATE = re.compile(rf"\b(?:(?P<verb>{_FINITE})|{_STATE}(?= ?(?:[.,;?]|$)| (?:and|but)\b))\b")
_THERE_IS = re.compile(r"\bthere (?:is|are) (?!no\b|not\b)")
_NEGATIVE = re.compile(
    r"\b(?:not|no longer|cannot|resolved|cleared|gone|absent|excluded|ruled out|removed|drained|disappeared|withdrawn|"
    r"evacuated|unlikely|doubtful)\b"
)
_ONLY_SEEN = re.compile(rf"(?:(?:is|are|was|were) (?:[a-z]+ )?)?{_SEEN}\b")
_PLURAL_VERB = re.compile(r"(?:are|were|have|remain|persist|appear|seem)$")
_SINGULAR_VERB = re.compile(r"(?:is|was|has|remains|persists|appears|seems)$")
_PLURAL_NOUN = re.compile(r"(?<!s)(?<!si)(?<!u)s$|(?:ces|ae|ata)$")
_GOES_ON = re.compile(rf"(?:(?:which|that|now|also|again|still|[a-z]+ly) )*{_FINITE}\b")
_BESIDE = re.compile(r"(?:an? )?(?:underlying|superimposed|adjacent|associated|coexist(?:ing|ent)|concurrent)\b")
_CHOICE = re.compile(r"\b(?:or|nor)\b")
_LISTED = re.compile(r",|\b(?:and|or|nor)\b")
_DEGREES = "|".join(word for _, words in SEVERITY for word in words)
_ASSERTED = re.compile(rf"\b(?:{_DEGREES}|possible|probable|likely|suspected|questionable)\b")
_DEGREE_WORD = rf"(?:{_DEGREES}|left|right|upper|lower|acute|chronic|old|focal|diffuse|ap|pa|supine|upright)"
_DEGREE, _DEGREE_FIRST = re.compile(rf"\b{_DEGREE_WORD}$"), re.compile(rf" ?(?:an? )?{_DEGREE_WORD}\b")
_EARLIER = re.compile(
    r" ?(?:the |an? |her |his )?(?:prior|previous|earlier|old(?:er)?|last|comparison|recent|outside|most)\b"
)
_PLACE = re.compile(r"(?: (?:in|at|of|on|within|over|near)\b.*)?")
_DENIAL = re.compile(r"\b(?:no|not|without|negative|neither|any)\b")
_WORD = re.compile(r"\b(?!(?:the|an?)\b)[a-z]+")


# What each ends on its way to a finding behind it, of "deny", "doubt" and "history".
_STOPS = {
    "end": frozenset(("deny", "doubt", "history")),
    "goes_on": frozenset(("deny", "doubt", "history")),
    "resumes": frozenset(("deny", "doubt", "history")),
    "clause": frozenset(("deny", "doubt", "history")),
    "statement": frozenset(("doubt", "history")),
    "denial_end": frozenset(("deny", "history")),
}
_ENDS = ("end", "clause", "statement", "aside", "deny_before")  # the way back to a finding; these may, till it resumes:
_SUSPENDS = ("denial_end", "doubt_before")
_DOUBTS = ("doubt_before", "doubt_around", "alternative")


def polarity(start: int, end: int, turns: Sequence[Cue]) -> int | None:
    """What the cues that reach [start, end) make of it: PRESENT, ABSENT or UNCERTAIN; None if it is history."""
    found, stopped = PRESENT, frozenset[str]()
    for cue in reversed([c for c in turns if c.start < end]):
        if cue.end <= start:
            stopped |= _STOPS.get(cue.kind, frozenset())
            if cue.kind == "history" and "history" not in stopped:
                return None
        if cue.kind == "deny_before" and "deny" not in stopped:
            return ABSENT
        if cue.kind in _DOUBTS and "doubt" not in stopped:
            found = UNCERTAIN
    next_to_cue, suspended = True, False
    for cue in (c for c in turns if c.start >= end):
        if cue.kind in _ENDS:
            break
        suspended = cue.kind in _SUSPENDS or (suspended and cue.kind != "resumes")
        if suspended:
            continue
        if cue.kind == "deny_after" or (cue.kind == "deny_next" and cue.start <= end + 1):
            return ABSENT
        if cue.kind == "doubt_after" or (cue.kind in ("doubt_around", "doubt_item") and next_to_cue):
            found = UNCERTAIN
        next_to_cue = next_to_cue and cue.kind != "list_end"
    return found


def boundaries(low: str, spans: Sequence[Span]) -> Iterator[Cue]:
    """The joints that begin a statement, as cues of kind "clause", "statement", "aside" or "denial_end".

    "statement" lets a denial pass ("no effusion, edema is seen"); "aside" stops only what looks back.
    """
    begins = 0
    for one, other in pairwise(spans):
        joint = next(reversed(list(_JOINT.finditer(low, one.end, other.start))), None)
        if joint is None or _GOES_ON.match(low, joint.end()):
            continue
        kind = _kind(low, begins, one, joint, other)
        if kind:
            yield Cue(kind, joint.start(), joint.end())
        if kind in ("clause", "statement"):
            begins = joint.end()


def _kind(low: str, begins: int, one: Span, joint: re.Match[str], other: Span) -> str:
    end = _ITEM_END.search(low, other.end)
    stop = end.start() if end else len(low)
    predicate = _PREDICATE.search(low, other.start, stop)
    if _PREDICATE.search(low, one.start, joint.start()) or _THERE_IS.search(low, begins, joint.start()):
        shared = predicate or _PREDICATE.search(low, other.end)
        return "clause" if shared and (predicate or not _ONLY_SEEN.match(low, shared.start())) else "aside"
    if predicate is None:
        return "denial_end" if _is_no_list(low, begins, one, joint, other) else ""
    verb = predicate["verb"] or ""
    joined = joint.group().strip() != "," and not _DENIAL.search(low, begins, one.start)
    if _PLURAL_VERB.match(verb) and (joined or not _PLURAL_NOUN.search(low, other.start, other.end)):
        return ""  # one predicate for both
    if _NEGATIVE.search(low, predicate.start(), stop):
        return "clause" if _is_apart(low, begins, one, joint, verb) else ""
    return "statement" if _ONLY_SEEN.match(low, predicate.start()) else "clause"


def _is_apart(low: str, begins: int, one: Span, joint: re.Match[str], verb: str) -> bool:
    """Whether what is denied or doubted behind a joint leaves alone what stands before it without a predicate."""
    starts = max((end.end() for end in _ITEM_END.finditer(low, begins, one.start)), default=begins)
    modifiers = low[starts : one.start]
    if _DENIAL.search(low, begins, one.start):
        return True
    singular = bool(_SINGULAR_VERB.match(verb))
    if joint.group().strip() == ",":
        return singular or bool(_WORD.search(modifiers))
    return bool(_BESIDE.match(low, joint.end())) or (singular and bool(_ASSERTED.search(modifiers)))


def _is_no_list(low: str, begins: int, one: Span, joint: re.Match[str], other: Span) -> bool:
    """Whether "no A, B" denies A alone: a list of what is denied has an "or", and names nothing chronic."""
    if joint.group().strip() != "," or _CHOICE.search(low, other.end):
        return False
    if one.finding == _NO_FINDING:
        return True
    is_last = not _LISTED.search(low, other.end) and "," not in low[begins : one.start]
    return is_last and other.finding in _CHRONIC


def attributive(low: str, cue: Cue, spans: Sequence[Span]) -> bool:
    """Whether a cue that may stand before or behind what it turns stands before: "resolved left effusion"."""
    following = next((span for span in spans if span.end > cue.start), None)
    if following is None:
        return False
    between = low[cue.end : following.start]
    return len(between.split()) <= 4 and not _ITEM_END.search(between) and not _PREDICATE.search(between)


def alternative(low: str, cue: Cue, spans: Sequence[Span]) -> Iterator[Cue]:
    """What "A versus B" turns: B, if A is another finding; A, if B is none ("skin fold"); else nothing.

    Nothing is in doubt between degrees, sides or views ("small versus moderate") or beside another examination.
    """
    if _EARLIER.match(low, cue.end):
        return
    head = low[: cue.start].rstrip(" ,")
    begins = max((end.end() for end in _ITEM_END.finditer(head)), default=0)
    end = _ITEM_END.search(low, cue.end)
    stop = end.start() if end else len(low)
    before = [span for span in spans if begins <= span.start < cue.start]
    after = [span for span in spans if cue.end <= span.start < stop]
    if _DEGREE.search(head) and (not before or _DEGREE_FIRST.match(low, cue.end)):
        return
    if not after:
        if before and _PLACE.fullmatch(head, before[-1].end):
            yield cue._replace(kind="doubt_item")
    elif not before or before[-1].finding != after[0].finding or before[-1].finding < 0:
        yield cue
    elif _DENIAL.search(head, begins):
        yield from (cue, cue._replace(kind="denial_end"))
