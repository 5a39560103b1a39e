"""Comparison removal: a sentence about change becomes a sentence about the present state, or nothing.

A radiograph shows no change, so text that is paired with one image must not speak of any. No finding and no
denial may be lost: a rewriting that states other findings than the original is given up for the original.
"""

import re

from clinicclip.data.anatomy import VERBS
from clinicclip.data.changes import DROPPED, EARLIER_ADJECTIVE, GONE, REWRITES, SEEN_EARLIER
from clinicclip.data.mentions import is_abnormal_otherwise, mentions, states
from clinicclip.data.sections import finish

_ALSO_DENIED = re.compile(r",? (?:and |but |with )?(?:no|without) | and ", re.IGNORECASE)
_HINT = re.compile(  # cheap test: most sentences hold none of these and are left alone
    r"chang|stabl|interval|prior|previous|compar|since|again|persist|remain|continu|new|wors|improv|"
    r"increas|decreas|larger|smaller|progress|"
    r"similar|resol|clear(?:ed|ing)|disappear|remov|longer|redemonstrat|develop|before|residual|known|"
    r"evolv|than|gone|from|identified|enlarging|recur|grown|better|yesterday|appeared|still|today|less|more|"
    r"different|neither|there on|drained|evacuated|constant|same|enlarged|"
    r"expanded|reaccum|become|extubated|whereas|\bleaving|\bnow\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?) (?=\S)", re.IGNORECASE)  # of a noun phrase that has lost its verb
_VERB = re.compile(rf"{VERBS}|\b(?:may|might|could|can|should|project\w*|extend\w*)\b", re.IGNORECASE)
_DANGLING = "and|but|or|with|in|of|the|a|is|are|was|were|has|have|be|could|may|might|which|some of which|similar to"
_TIDY = (
    (re.compile(r"\s+([,.;)])"), r"\1"),
    (re.compile(r"([,(])\s*(?=[,.;)])"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r"\ban (?=[bcdfgjklmnpqrstvwyz][a-z])"), "a "),
    (re.compile(r"\ba (?=[aeio][a-z])"), "an "),
    (re.compile(r"^(?:and|but|or|with|whereas|leaving)\b ?", re.IGNORECASE), ""),
    (re.compile(rf"(?:[ ,]*+\b(?:{_DANGLING})\b)++\s*$", re.IGNORECASE), ""),
)
_BARE = re.compile(  # anatomy of which nothing is said any more
    r"(?:(?:the|a|an|is|are|and|of|in|appearance|findings?|heart|cardiac|lungs?|mediastin\w+|"
    r"cardio ?-?mediastin\w+|silhouettes?|volumes?|"
    r"contours?|size|chest|hil\w+|bony|osseous|structures|pulmonary|vascularity|vasculature|x+|on|this|"
    r"that|these|it|there|"
    r"otherwise|exam(?:ination)?|study|aeration|left|right|bases?|bilateral|radiographically|soft|tissues?)\b[ ,]*)*+",
    re.IGNORECASE,
)


_NO_CHANGE = re.compile(
    r"(?i)\b(?:no|not|without|nor)\b[^.;]*\b(?:new|newly|worse|worsen\w*|increas\w+|progress\w+|develop\w+|additional|"
    r"enlarg(?:ing|ement))\b"
)


def _tidy(text: str) -> str:
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return finish(text)


def _denied(text: str) -> str | None:
    """The denial in "the effusion has resolved": "No effusion."; None where nothing is said to have gone."""
    for pattern in GONE:
        match = pattern.match(text.rstrip("."))
        if match and any(m.explicit for m in mentions(match.group("x"))):
            thing = SEEN_EARLIER.sub("", EARLIER_ADJECTIVE.sub("", match.group("x")))
            thing = _ALSO_DENIED.sub(" or ", thing.removeprefix("no ").removeprefix("No "))
            return _tidy(f"No {thing if thing[:2].isupper() else thing[0].lower() + thing[1:]}")
    return None


def denies_change(sentence: str) -> bool:
    """Whether it denies that something is new or worse ("no new effusion"), which may yet be there."""
    return bool(_NO_CHANGE.search(sentence))


def remove_comparison(sentence: str) -> str:
    """One sentence without reference to other examinations; '' when nothing else was in it.

    Source: the comparison removal of BC2C's released scripts (arXiv:2505.22079), by rules instead of a language model.
    """
    if not _HINT.search(sentence):
        return sentence
    before = states([sentence])
    nothing_said = not before and not is_abnormal_otherwise(sentence)
    text = sentence.rstrip(". ")
    if nothing_said and DROPPED.match(text):
        return ""
    for pattern, replacement in REWRITES:
        new = " ".join(pattern.sub(replacement, text).split())
        text = new if new == text or states([new]) == before else text
    text = _tidy(text)
    for candidate in (text, sentence):
        denied = _denied(candidate)
        if denied is not None and states([denied]) == before:
            return denied
    if nothing_said and (_BARE.fullmatch(text.rstrip(".")) or DROPPED.match(text.rstrip("."))):
        return ""
    if text != sentence and not _VERB.search(text):
        text = finish(_ARTICLE.sub("", text))
    same = states([text]) == before and is_abnormal_otherwise(text) == is_abnormal_otherwise(sentence)
    return text if same else sentence
