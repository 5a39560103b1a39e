"""One finding a sentence: coordination is taken apart without changing what is stated.

Every split is checked: the parts must state exactly the findings of the whole, else the whole stays.
"""

import re

from clinicclip.data import anatomy, cues, phrases
from clinicclip.data.mentions import mentions, states, union
from clinicclip.data.sections import finish


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_OTHER = re.compile(union(phrases.OTHER_NOUNS))
_ANATOMY = re.compile(union(tuple(p for subjects, _ in anatomy.ANATOMY.values() for p in subjects)))
_DENIAL = r"(?:no|without|negative for|free of|clear of|absence of|lack of)"
_FILLER = (
    r"(?:(?:any|the|a|an|visible|definite|convincing|evidence|radiographic|sign|signs|suggestion|x{3,}|"
    r"findings|typical|of|for)"
    r" )*+"
)
_SEEN = (
    r"(?:seen|identified|noted|present|visuali[sz]ed|evident|demonstrated|appreciated|visible|detected|"
    r"observed|apparent)"
)
_PREDICATE = (
    rf" (?:(?:is|are|was|were|can be|has been|have been) (?:(?:now|also|clearly|definitely|"
    rf"currently) )*)?{_SEEN}\b.*"
)
# "There is no A, B or C seen.", with a subject in front too: "The lungs are free of A and B."
_DENIED_LIST = _compile(
    r"^(?:(?:specifically|otherwise|additionally|in addition|also)[, ]+)?"
    rf"(?P<pre>(?P<bare>(?:there (?:is|are|was|were|has been) |i see )?{_DENIAL} |"
    rf"(?P<subject>[^,;:]{{1,60}}? (?:is|are|appears?) "
    rf"(?:\w+ ){{0,3}}?{_DENIAL} )){_FILLER})(?P<list>.+?)(?P<post>{_PREDICATE})?[.?]?$"
)
_NEITHER = _compile(r"^(There is )?Neither (?:the )?")
# A clause of its own in a list of denials: "no tension, but a small pneumothorax".
_TURNS = _compile(r"\b(?:but|(?:al)?though|however|whereas|despite)\b")
_SINGULAR = (
    (_compile(r"ies$"), "y"),
    (_compile(r"(?:ces|xes)$"), "x"),
    (_compile(r"(?<![isu])s$"), ""),
)
_NORMAL_LIST = _compile(
    r"^(?:the )?(?P<list>[^.;:]+?)(?: (?P<verb>is|are|appears?))? (?P<state>(?:(?:all|both|also|grossly|"
    r"otherwise) )*"
    r"(?:(?:with)?in (?:the )?(?:broad )?(?:normal limits|limits of normal)|normal|clear|unremarkable|intact)"
    r"(?: (?:in|for|size|and|contour|appearance|shape|configuration|caliber|patient|age|technique|of|"
    r"position|overall|"
    r"radiographically|bilaterally)\b)*)[.]?$"
)
_NORMAL_FIRST = _compile(
    r"^(?P<state>(?:grossly )?(?:normal|unremarkable|"
    r"clear)(?: appearance of(?: the)?)?) (?P<list>[^.;:]+?)[.]?$"
)
_STATES_ITSELF = _compile(
    r"\b(?:is|are|appears?|limits|normal|clear|enlarged|no|without|except|other than|apart|aside)\b"
)
_PLAIN_LIST = _compile(rf"^(?P<pre>there (?:is|are)(?: also)? |)(?P<list>.+?)(?P<post>{_PREDICATE})?[.]?$")
_CHOICE = _compile(r"\bor\b|/|\bversus\b|\bvs?\b")  # one of two: taking it apart would claim both
_DENIED_ITEM = _compile(rf"{_DENIAL} ")
_ARTICLE = _compile(r"^(?:the|an?) (?=\w)")  # in a list that has its own: "no evidence of a mass or a nodule"
_ITEM_CUT = re.compile(r",? (?:and/or|and|or|nor) |, ?|/(?=[a-z])")
_SIDES = _compile(
    r"^(?P<pre>.*?)(?P<one>(?:\w+ )?(?:left|right)) (?:and|greater than) (?P<two>(?:\w+ )?(?:left|right))"
    r"(?P<tail>(?:-sided)?(?: \w+){0,2} (?:effusions?|pneumothora(?:x|ces|xes)|opacit(?:y|ies)|[a-z]+osis|"
    r"consolidations?|infiltrates?|nodules?))(?P<post>(?: (?:is|are))? (?:seen|noted|present))?[.]?$"
)
# Where a sentence may be cut in two, and what the second half then starts with; the safest cuts first.
_SUBJECT = (
    r"(?:there|the|heart|lungs?|both|no|pulmonary|cardiac|mediastin\w*|cardio\w*|bony|osseous|trachea|left|"
    r"right|is|are|it)"
)
_CUTS = tuple(
    (_compile(pattern), start)
    for pattern, start in (
        (r",? (?:but |and |though )?(?:without|with no|negative for|and no|but no) (?=\w)", "No "),
        (r", (?:and |but |with )?(?=no )", ""),
        (rf",? (?:and|but|while|although|however|though),? (?={_SUBJECT}\b)", ""),
        (r",? (?:but|however|(?:al)?though|otherwise),? ", ""),
        (
            r", (?=(?:there (?:is|are)|the|heart|lungs?|pulmonary vasc\w+|mediastin\w+|"
            r"cardiomediastinal)\b)",
            "",
        ),
        (r" (?=(?:the )?(?:lungs?|heart(?: size)?|mediastinum) (?:is|are|appears?) )", ""),
        (
            r"(?<!consistent)(?<!compatible)(?<!associated) with (?:associated |adjacent |superimposed |"
            r"overlying )?",
            "",
        ),
        (r",? (?:and|as well as|plus|along with) (?:associated |adjacent )?", ""),
        (r", ", ""),
    )
)
# A second half that cannot stand alone, and a first half that waits for more.
_NO_START = _compile(
    r"^(?:there (?:is|are) )?(?:no )?(?:x{3,} )*(?:compatible|consistent|suspicious|suggest\w*|represent\w*|indicat\w*|"
    r"presumably|possibly|perhaps|probably|likely|most|"
    r"due|related|secondary|seen|noted|which|that|in|on|at|of|to|from|as|with|or|and|versus|vs|is|are|may|could|"
    r"projecting|overlying|"
    r"concerning|worrisome|favor\w*|extending|involving|greater|worse)\b|^(?:\w+(?:ic|ed|ous)|x{3,})\.$"
)
_NO_END = _compile(
    r"\b(?:in|on|at|of|to|from|with|and|or|the|an?|consistent|compatible|may|be|due|is|are|"
    r"left|right|versus|vs|v)\.$|(?:^|\b(?:with|and|an?|no|or)|,) ?"  # or a size that waits for its noun
    rf"(?:{'|'.join(word for _, words in cues.SEVERITY for word in words)})\.$"
)
_LOOSE_ADJECTIVE = _compile(
    r"\b(?:emphysematous|atherosclerotic|tortuous|calcified|fibrotic|ectatic|"
    r"degenerative)\.$"
)
_VERB = _compile(r"\b(?:is|are|appears?|was|were)\b")
_OPEN_LIST = _compile(r"\b(?:differential|considerations|include)")  # what follows is doubted as a whole


def topics(text: str) -> frozenset[int]:
    """Findings a sentence speaks of: those it names, and of anatomy called normal the main one it covers."""
    found: set[int] = set()
    spans: set[tuple[int, int]] = set()
    for mention in mentions(text):
        span = (mention.start, mention.end)
        if mention.explicit or span not in spans:
            found.add(mention.finding)
        spans.add(span)
    return frozenset(found)


def _items(text: str, known: re.Pattern[str] = _OTHER) -> list[str]:
    """The members of a list; a piece that names nothing belongs to the next piece, at the end to the last."""
    items: list[str] = []
    pending, start = "", 0
    for cut in (*_ITEM_CUT.finditer(text), None):
        pending += text[start : cut.start() if cut else len(text)]
        start = cut.end() if cut else start
        if mentions(pending) or known.search(pending.lower()):
            items.append(pending)
            pending = ""
        elif cut:
            pending += cut.group()
    if pending:
        items = [*items[:-1], f"{items[-1]} {pending}"] if items else [pending]
    return items


def _split_denied(sentence: str) -> list[str]:
    match = _DENIED_LIST.match(_NEITHER.sub(r"\g<1>No ", sentence))
    if (
        not match or _VERB.search(match["list"]) or _TURNS.search(match["list"])
    ):  # a verb in the list: a statement of its own has begun
        return [sentence]
    parts: list[str] = []
    items = [_ARTICLE.sub("", item) for item in _items(match["list"])]
    shares_end = not any(map(_DENIED_ITEM.match, items))  # a denial of its own takes the predicate for itself
    for item in items:
        pre = "" if _DENIED_ITEM.match(item) else "No " if match["subject"] and parts else match["pre"]
        post = match["post"] or "" if shares_end or item is items[-1] else ""
        parts.append(finish(f"{pre}{item}{post}"))
    return parts


def _is_plural(noun: str) -> bool:
    last = noun.split()[-1].lower()
    return last == "hila" or (last.endswith("s") and not last.endswith(("ss", "is", "us")))


def _split_normal(sentence: str) -> list[str]:
    match = _NORMAL_LIST.match(sentence)
    if match and not _STATES_ITSELF.search(match["list"]):
        parts: list[str] = []
        for item in _items(match["list"], _ANATOMY):
            verb = (match["verb"] or "").lower()
            if verb in ("is", "are"):
                verb = "are" if _is_plural(item) else "is"
            elif verb:
                verb = "appear" if _is_plural(item) else "appears"
            parts.append(finish(f"{item} {verb} {match['state']}"))
        return parts
    match = _NORMAL_FIRST.match(sentence)
    if match and not _STATES_ITSELF.search(match["list"]):
        return [finish(f"{match['state']} {item}") for item in _items(match["list"], _ANATOMY)]
    return [sentence]


def _split_plain(sentence: str) -> list[str]:
    match = _PLAIN_LIST.match(sentence)
    if not match or _CHOICE.search(match["list"]):
        return [sentence]
    return [
        finish(f"{'' if _DENIED_ITEM.match(item) else match['pre']}{item}{match['post'] or ''}")
        for item in _items(match["list"])
    ]


def _split_sides(sentence: str) -> list[str]:
    match = _SIDES.match(sentence)
    if not match:
        return [sentence]
    tail = match["tail"]
    for plural, singular in _SINGULAR:
        tail = plural.sub(singular, tail)
    post = (match["post"] or "").replace(" are ", " is ")
    return [finish(f"{match['pre']}{side}{tail}{post}") for side in (match["one"], match["two"])]


def _stands_alone(part: str) -> bool:
    if _LOOSE_ADJECTIVE.search(part) and not _VERB.search(part):
        return False
    return bool(part) and not _NO_START.search(part) and not _NO_END.search(part)


def _same(whole: str, parts: list[str]) -> bool:
    return len(parts) > 1 and all(map(_stands_alone, parts)) and states(parts) == states([whole])


def _cut(sentence: str) -> list[str]:
    for pattern, start in _CUTS:
        for match in pattern.finditer(sentence):
            parts = [finish(sentence[: match.start()]), finish(start + sentence[match.end() :])]
            if _OPEN_LIST.search(parts[0]):
                continue
            if topics(parts[0]) and topics(parts[1]) and _same(sentence, parts):
                return parts
    return [sentence]


def split_findings(sentence: str) -> list[str]:
    """The sentence as sentences about one finding each; whole where a split would change what it states."""
    parts = _split_sides(sentence)
    if _same(sentence, parts):
        return parts
    if len(topics(sentence)) < 2 and len({m.polarity for m in mentions(sentence)}) < 2:
        return [sentence]
    for split in (_split_denied, _split_normal, _cut, _split_plain):
        parts = split(sentence)
        if _same(sentence, parts):
            return [small for part in parts for small in split_findings(part)]
    return [sentence]
