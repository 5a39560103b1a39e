"""Comparison removal: a sentence about change becomes a sentence about the present state, or nothing.

A radiograph shows no change, so text that is paired with one image must not speak of any. No finding and no denial
may be lost: a rewritten sentence that states other findings than the original is given up and the original kept.
"""

import re

from clinicclip.data.mentions import mentions, states
from clinicclip.data.sections import finish

_BLANK = r"(?:x{2,}|_{2,})"
_PRIOR = (
    rf"(?:(?:the|a|an|his|her|their|this|most|patient's) )*(?:(?:prior|previous|preceding|last|old|older|earlier|recent|comparison|outside|baseline|{_BLANK}|"
    r"[\d/.-]+)[ ,]*)+(?:(?:chest|pa|ap|lateral|portable|frontal|ct|and) )*(?:exam(?:ination)?s?|stud(?:y|ies)|radiographs?|x-?rays?|x-?xxxx|films?|ct|imaging|images?|scans?|chest|one|"
    rf"priors?|comparisons?|dated|from|{_BLANK}|[\d/.-]+|,)*(?: (?:dated|from|of|performed(?: on)?|on|at|study|exam(?:ination)?) [\w/.,: -]*)?"
)
_DEGREE = r"(?:(?:very|slightly|mildly|grossly|overall|essentially|relatively|largely|markedly|significantly|minimally|somewhat|much|not significantly|not substantially|no significant(?:ly)?|little|generally|fairly|clearly|definitely) )*"
_BE = r"(?:is|are|was|were|remains?|appears?|has been|have been|has|have|seems?|continues? to be)(?: (?:also|again|now|otherwise))?"
_CHANGED = r"(?:stable|unchanged|similar|constant|improved|improving|worsened|worsening|increased|decreased|enlarged in the interval|progressed|(?:the )?same|changed)"

_GONE = (
    # what stood there and does so no more: the rewriting denies it
    (
        rf"^(?:the |there (?:is|has been) )?(?:{_DEGREE}|interval |complete |near |nearly |a )*(?:resolution|clearing|disappearance|removal) (?:of|in) (?:the |a )?(?P<x>.+)$",
        r"No \g<x>",
    ),
    (
        r"^(?:the |a )?(?P<x>.+?) (?:has|have)(?: now| since| completely| nearly| essentially| almost| subsequently)* (?:resolved|cleared|disappeared|been removed)\b.*$",
        r"No \g<x>",
    ),
    (
        r"^(?:the |a )?(?P<x>.+?) (?:is|are) (?:now )?(?:no longer (?:\w+ )?(?:seen|present|visible|visuali[sz]ed|identified|evident|appreciated)|resolved|gone)\b.*$",
        r"No \g<x>",
    ),
    (r"^(?:interval(?:ly)? )?resolved (?P<x>.+)$", r"No \g<x>"),
)
_DROPPED = (
    rf"^(?:there (?:is|has been|have been) |with )?(?:{_DEGREE}|any |otherwise |no |without |significant |appreciable |acute |interval |x+ )*(?:interval )?changes?(?: (?:is|are) (?:seen|noted|identified|found|appreciated))?(?: (?:from|since|in the|compared|when|as|over|to)\b.*)?$",
    rf"^(?:(?:the|an?|overall) )*(?:{_DEGREE}|otherwise )*(?:stable|unchanged|similar)(?: (?:radiographic|chest|overall|interval))*(?: (?:appearance|exam(?:ination)?|study|chest|findings?|radiographs?|x-?\w+|follow ?-?up|since|of the chest))+(?: (?:from|since|compared|when|as|to|with)\b.*)?$",
    rf"^(?:the )?(?:exam(?:ination)?|study|appearance(?: of the chest)?|findings?|chest) {_BE} {_DEGREE}(?:stable|unchanged|similar)\b.*$",
    r"^(?:in )?(?:comparison|compared?|correlation)(?: (?:is|was|are|made|to|with|the|none)\b.*)?$",
    rf"^(?:no|none)(?: available)? (?:prior|previous|comparison)s?(?: \S+)*$",
    rf"^(?:{_DEGREE})*(?:stable|unchanged)$",
)
_REWRITES = (
    # whole phrases that only point to another examination
    (
        rf"[,(]? ?\b(?:when |as )?(?:compared|comparison|relative|in comparison)(?: (?:to|with))(?: {_PRIOR})?\)?,?",
        " ",
    ),
    (
        rf"[,(]? ?\b(?:in the interval|interval(?:ly)?|since|from|on|than(?: on)?|as on|as seen on|seen on|over|to) {_PRIOR}(?=$|[,.;)]| (?:and|with|but|without|are|is)\b)\)?",
        " ",
    ),
    (r",? ?\b(?:in|over|during) the (?:short )?interval\b", " "),
    (rf",? ?\bsince (?:the )?{_BLANK}(?: \w+)?\b", " "),
    (r",? ?\b(?:as (?:before|previously(?: \w+)?)|as seen previously|previously)\b,?", " "),
    # change denied: the thing itself stays
    (
        rf"^(?:there (?:is|has been) )?(?:{_DEGREE}|no |without )+(?:significant |appreciable |interval |definite |further )*(?:change|increase|decrease|progression) (?:in|of) (?:the )?(?:appearance of |size of )?(?:the )?",
        "",
    ),
    (r",? (?:without|with no)(?: (?:significant|appreciable|interval|substantial|definite))* change\b", " "),
    # change affirmed: likewise
    (
        rf"^(?:the |there (?:is|has been) )?(?:{_DEGREE}|interval |continued |an? )*(?:development|increase|decrease|improvement|worsening|progression|enlargement|reduction|appearance) (?:of|in) (?:the )?(?:size of |appearance of )?(?:the |a )?(?!heart|cardiac|lung|aort|mediast|pulmonary art|hil)",
        "",
    ),
    (
        rf",? {_BE} {_DEGREE}(?:stable|unchanged|similar|improved|improving|worsened|worsening|progressed)(?: in (?:size|appearance|extent|position|configuration|the interval))?(?: (?:and|but|in|or) (?:stable|unchanged))?(?=$|[,.;]| (?:and|with|but|without)\b)",
        "",
    ),
    (
        rf",? (?:and |but |is |are )?{_DEGREE}(?:stable|unchanged|similar)(?: in (?:size|appearance|extent|position))?$",
        "",
    ),
    (
        r"\b(?:is|are) (?:again|redemonstrated|once again)(?= (?:seen|noted|identified|demonstrated|visuali[sz]ed|present|evident|enlarged|low|hyper\w+)\b)",
        "is",
    ),
    (r"\b(?:is|are) redemonstrated\b", "is seen"),
    (r"\b(?:persists?|continues?)(?=$|[,.;])", "is present"),
    (r"\bremains\b", "is"),
    (r"\bremain\b", "are"),
    (
        rf"\b(?:{_DEGREE}(?:stable|unchanged)|new(?:ly)?|interval(?:ly)?|persist(?:ent(?:ly)?|ing)|worsening|worsened|improving|improved|resolving|(?:once )?again|redemonstrated|redemonstration of|re-?identified|progressive(?:ly)?|residual|(?<!of )known|continued|evolving|developing|(?:in|de)creas(?:ed|ing) (?=(?:in )?(?:size|(?:\w+ ){{0,3}}(?:effusions?|pneumothorax|atelectasis|consolidation|edema|cardiomegaly|infiltrates?))\b))(?: (?:and|but|or) (?:stable|unchanged|improved))?\b(?! (?:line|lines)\b),?",
        "",
    ),
    (
        r"^(?:there (?:is|are) )?(?:in|de)creas(?:ed|ing) (?=(?:size of (?:the )?)?(?:\w+ ){0,3}(?:effusion|pneumothorax|atelectasis|consolidation|edema))",
        "",
    ),
)
_GONE_RULES = tuple((re.compile(p, re.IGNORECASE), r) for p, r in _GONE)
_DROP_RULE = re.compile("|".join(f"(?:{p})" for p in _DROPPED), re.IGNORECASE)
_REWRITE_RULES = tuple((re.compile(p, re.IGNORECASE), r) for p, r in _REWRITES)
_HINT = re.compile(
    r"chang|stable|interval|prior|previous|compar|since|again|persist|remain|continu|new|worse|improv|increas|decreas|progress|"
    r"similar|resol|clear(?:ed|ing)|disappear|remov|longer|redemonstrat|develop|before|residual|known|evolv|than|gone|from|identified",
    re.IGNORECASE,
)
_TIDY = (
    (re.compile(r"\s+([,.;)])"), r"\1"),
    (re.compile(r"([,(])\s*(?=[,.;)])"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r"^(?:and|but|or|with)\b ?", re.I), ""),
    (re.compile(r"\b(?:and|but|or|with|in|of|the|a|is|are|,)\s*$", re.I), ""),
)
_BARE = re.compile(
    r"^(?:(?:the|a|an|is|are|and|of|in|appearance|findings?|heart|cardiac|lungs?|mediastin\w+|cardio ?-?mediastin\w+|silhouettes?|contours?|size|chest|hil\w+|bony|osseous|structures|pulmonary|vascularity|vasculature|x+|on|this|that|these|it|there|otherwise|exam(?:ination)?|study)[ ,]*)*$",
    re.IGNORECASE,
)


def _tidy(text: str) -> str:
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return finish(text)


def _denied(sentence: str) -> str | None:
    """ "The effusion has resolved" -> "No effusion."; None where nothing is said to have gone."""
    body = sentence.rstrip(".")
    for pattern, replacement in _GONE_RULES:
        match = pattern.match(body)
        if match and any(m.explicit for m in mentions(match.group("x"))):
            thing = re.sub(
                r"^(?:previous(?:ly)?(?: (?:seen|noted|described|identified))?|prior|stable|old|small|the|a|an) ",
                "",
                match.group("x"),
                flags=re.I,
            )
            return _tidy(f"No {thing[0].lower()}{thing[1:]}")
    return None


def remove_comparison(sentence: str) -> str:
    """One sentence without reference to other examinations; '' when nothing else was in it."""
    if not _HINT.search(sentence):
        return sentence
    before = states([sentence], explicit=True)
    denied = _denied(sentence)
    if denied is not None and states([denied], explicit=True).keys() == before.keys():
        return denied
    if not before and _DROP_RULE.match(sentence.rstrip(". ")):
        return ""
    text = sentence.rstrip(".")
    for pattern, replacement in _REWRITE_RULES:
        text = pattern.sub(replacement, text)
    text = _tidy(text)
    if not mentions(sentence) and (_BARE.match(text.rstrip(".")) or _DROP_RULE.match(text.rstrip("."))):
        return ""
    return text if states([text]) == states([sentence]) else sentence
