"""Taking a sentence apart so that what it says of one finding can be denied and the rest kept word for word."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from clinicclip.data.beside import OBSERVED
from clinicclip.data.mentions import Mention, mentions, states, union
from clinicclip.data.schema import ABSENT, FINDINGS, INDEX, PARENTS, PRESENT
from clinicclip.data.sections import finish


class Part(NamedTuple):
    """A piece of a sentence."""

    text: str
    touched: bool  # it speaks of the finding
    companions: frozenset[int] = frozenset()  # findings it names only to explain the finding: "likely granuloma"


_OBSERVED = re.compile(union(OBSERVED))
# What stands behind one of these explains what stands before it.
_EXPLAINS = re.compile(
    r"\b(?:consistent with|compatible with|suggest\w*|represent\w*|reflect\w*|indicat\w*|favou?r\w*|"
    r"(?:may|might|could|can|would|cannot) be|(?:most )?(?:likely|probably|possibly|presumably|perhaps)|"
    r"(?:due|related|secondary) to|(?:concerning|worrisome|suspicious) for|versus|vs|(?<!/)or|sequelae?(?: of)?|"
    r"from|appears? to be|question of)\b"
)
_CHOICE = re.compile(r"(?:or|versus|vs)$")  # explains only when both sides are of one kind: "atelectasis or infiltrate"
_ENDS_EXPLANATION = re.compile(r"[;]|\band\b(?!/or)|\b(?:with|but|without|no)\b")
_ADJECTIVE = re.compile(r"calcifi(?:ed|c)\b")
_MAY_BE_CALCIFIED = frozenset(INDEX[name] for name in ("granuloma", "nodule", "mass", "lung_lesion", "lung_opacity"))
_CALCIFICATION = INDEX["calcification"]
_NAMES_TWO = re.compile(r" and |\bcalcified aort|\batherosclerotic\b")  # a name that runs over another one
_JOINS = re.compile(r"[,;]|\b(?:and|with|without|or|but)\b")
# Where a sentence may be cut in two, and what the second piece then starts with.
_CUTS = tuple(
    (re.compile(pattern, re.IGNORECASE), start)
    for pattern, start in (
        (r",? (?:and |but )?(?:without|with no) ", "No "),
        (r",? (?:but|however|although|though) (?:with )?(?:there (?:is|are) )?", ""),
        (r",? (?:except for|other than|besides|aside from|apart from) ", ""),
        (r",? (?:causing|resulting in|as well as|along with) ", ""),
        (r"; ", ""),
        (r", (?:and |with )?(?:there (?:is|are) )?", ""),
        (
            r"(?<!consistent)(?<!compatible)(?<!associated) with (?:some |associated |adjacent |"
            r"superimposed |overlying |resultant )?",
            "",
        ),
        (r" and (?:there (?:is|are) )?", ""),
    )
)
_HANGS = re.compile(  # no beginning of a sentence
    r"^(?:in|on|at|of|to|from|as|with|within|given|because|while|when|if|after|since|or|and|is|are|"
    r"was|were|may|might|could|can|would|which|that|"
    r"due|related|secondary|consistent|compatible|suggest\w*|represent\w*|likely|possibly|probably|seen|"
    r"noted|versus|vs|than|for|by|over\w*|project\w*|measur\w*|this|these|it|they|its|both|also)\b",
    re.IGNORECASE,
)
_BLANK = re.compile(r"(?:x{3,}|_{3,})", re.IGNORECASE)  # behind a cut it may be what joined the two halves
_WAITS = re.compile(  # no end of one, or an adjective without its noun
    r"\b(?:in|on|at|of|to|from|with|and|or|the|an?|is|are|may|be|left|right|mild|upper|lower|mid|versus|vs|some)\.$|"
    r"^(?:\w+ )?[\w-]+(?:ive|al|ic|ous|ular|ed)\.$"
)
_ADVISES = re.compile(r"(?:please|recommend|consider|suggest|correlat|clinical(?:ly)? correlat|follow)", re.IGNORECASE)
_SUMS_UP = re.compile(r"(?:the |radiographic )*findings?\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"(?:(?:the )?(?:this|these|it|they|its|the latter)\b|"
    r"(?:is|are|was|were|(?:may|might|could) (?:also )?(?:be|represent|reflect|contain|relate)|differential)\b|"
    r"(?:the |radiographic )*(?:appearance|finding)s? (?:is|are|may|might|could|suggests?|most|likely|x{3,})\b|"
    r".*\b(?:this|these) (?:appearance|finding|opacit\w+|abnormality|abnormalities|lesion|area|process)s?\b)",
    re.IGNORECASE,
)


def points_back(text: str) -> bool:
    """Whether a sentence goes on about the one before it: "It measures 2 cm.", "This may be a scar."."""
    return bool(_POINTS_BACK.match(text))


def sums_up(text: str) -> bool:
    """Whether it may be the whole report that a sentence goes on about: "Findings are consistent with edema."."""
    return bool(_SUMS_UP.match(text))


def separate(text: str, related: frozenset[int]) -> list[Part] | None:
    """The sentence as parts that speak of `related` findings alone, and parts that speak of none of them.

    The sentence itself, when it says nothing else; None when it cannot be taken apart without changing what it says.
    """
    if _ADVISES.match(text):
        return None
    companions = _companions(text, related)
    if companions is not None:
        return [Part(text, True, companions)]
    # The first cut is final: to go back to others would take time exponential in the length of a list.
    for kept, rest, first in _cuts(text, related):
        parts = separate(rest, related)
        if parts is None:
            return None
        return [Part(kept, False), *parts] if first else [*parts, Part(kept, False)]
    return None


def _companions(text: str, related: frozenset[int]) -> frozenset[int] | None:
    """Findings that the sentence names only to describe or explain a related one; None if it says anything else."""
    low = text.lower()
    found = sorted(mentions(text), key=lambda m: m.start)
    own = [m for m in found if m.finding in related and m.explicit]
    others = [m for m in found if not (m.finding in related and m.explicit)]
    if not all(any(_describes(low, other, m) for m in own) for other in others):
        return None
    if any(_NAMES_TWO.search(low, m.start, m.end) for m in own if m.finding != _CALCIFICATION):
        return None
    spans = [(m.start, m.end) for m in found]
    for observed in _OBSERVED.finditer(low):
        inside = any(start <= observed.start() and observed.end() <= end for start, end in spans)
        if not inside and not any(_is_explained(low, m, observed) for m in own):
            return None
    return frozenset(m.finding for m in others)


def _describes(low: str, other: Mention, own: Mention) -> bool:
    if other.polarity == ABSENT or not other.explicit:
        return False
    if _is_explained(low, own, other):
        return True
    is_adjective = own.finding in _MAY_BE_CALCIFIED and other.end <= own.start and _ADJECTIVE.match(low, other.start)
    return bool(is_adjective) and not _JOINS.search(low, other.end, own.start)


def _is_explained(low: str, own: Mention, other: Mention | re.Match[str]) -> bool:
    """Whether `other`, a finding or something observed, explains the finding named before it.

    The second of "A or B" does only where it is of one kind with A and doubted: if both are stated, B stays without A.
    """
    position = other.start if isinstance(other, Mention) else other.start()
    cue = _EXPLAINS.search(low, own.end, max(own.end, position))
    if cue is None or _ENDS_EXPLANATION.search(low, cue.end(), position):
        return False
    if not _CHOICE.match(cue.group()):
        return True
    return isinstance(other, Mention) and other.polarity != PRESENT and _one_kind(own.finding, other.finding)


def _one_kind(one: int, other: int) -> bool:
    kinds = [{FINDINGS[finding], *PARENTS.get(FINDINGS[finding], ())} for finding in (one, other)]
    return bool(kinds[0] & kinds[1])


def _cuts(text: str, related: frozenset[int]) -> Iterator[tuple[str, str, bool]]:
    """(what is kept, the rest, whether what is kept comes first) of every cut that changes nothing that is said."""
    for pattern, start in _CUTS:
        for match in pattern.finditer(text):
            left, right = finish(text[: match.start()]), finish(start + text[match.end() :])
            hangs = _HANGS.match(left) or _HANGS.match(right) or _BLANK.match(right)
            if hangs or states([left, right]) != states([text]):
                continue
            about = [any(m.finding in related and m.explicit for m in mentions(piece)) for piece in (left, right)]
            if about == [False, True] and _stands(left):
                yield left, right, True
            if about == [True, False] and _stands(right):
                yield right, left, False


def _stands(piece: str) -> bool:
    """Whether a piece is a statement of its own."""
    return not _WAITS.search(piece.lower()) and bool(mentions(piece) or _OBSERVED.search(piece.lower()))
