"""One finding a sentence: coordination is taken apart without changing what is stated.

Every candidate split is checked: the parts must state exactly the findings of the whole, else the whole stays.
"""

import re

from clinicclip.data import phrases
from clinicclip.data.mentions import mentions, states, union
from clinicclip.data.sections import finish

_OTHER = re.compile(union(phrases.OTHER_NOUNS))
_ANATOMY = re.compile(union(tuple(p for subjects, _ in phrases.ANATOMY.values() for p in subjects)))
_DENIAL = r"(?:no|without|negative for|free of|clear of|absence of|lack of)"
_FILLER = r"(?:(?:any|the|a|an|visible|definite|convincing|evidence|sign|signs|suggestion|xxxx|findings|typical|of|for) )*"
_LEAD = rf"(?:(?:specifically|otherwise|additionally|in addition|also)[, ]+)?(?P<pre>(?:there (?:is|are|was|were|has been) |i see )?(?:{_DENIAL}) {_FILLER})"
_PREDICATE = (
    r" (?:is|are|was|were|can be|has been|have been) (?:(?:now|also|clearly|definitely|otherwise|currently) )*(?:seen|identified|noted|present|visuali[sz]ed|evident|demonstrated|appreciated|visible|detected|suspected|observed|apparent|suggested)\b.*"
    r"| (?:seen|identified|noted|present|visuali[sz]ed|evident|demonstrated|appreciated|visible|detected)\b.*"
)
_DENIED_LIST = re.compile(rf"^{_LEAD}(?P<list>.+?)(?P<post>{_PREDICATE})?[.?]?$", re.IGNORECASE)
_NORMAL_LIST = re.compile(
    r"^(?:the )?(?P<list>[^.;:]+?) (?P<verb>is|are|appears?|remains?)? ?(?P<state>(?:(?:all|both|also|grossly|otherwise|again|within|in|of|the|broad|normal|clear|unremarkable|intact) ?)*"
    r"(?:normal|clear|unremarkable|limits|intact)(?: (?:in|for|size|and|contour|appearance|shape|configuration|caliber|limits|patient|age|technique|of|normal|position|overall|radiographically|bilaterally)\b)*)[.]?$",
    re.IGNORECASE,
)
_NORMAL_FIRST = re.compile(
    r"^(?P<state>(?:grossly )?(?:normal|unremarkable|clear)(?: appearance of(?: the)?)?) (?P<list>[^.;:]+?)[.]?$",
    re.IGNORECASE,
)
_PLAIN_LIST = re.compile(
    rf"^(?P<pre>there (?:is|are)(?: also)? |)(?P<list>.+?)(?P<post>{_PREDICATE})?[.]?$", re.IGNORECASE
)
_ITEM_CUT = re.compile(r",? (?:and/or|and|or|nor) |, ?|/(?=[a-z])")
_SIDES = re.compile(
    r"^(?P<pre>.*?)(?P<one>(?:\w+ )?(?:left|right)) (?:and|greater than) (?P<two>(?:\w+ )?(?:left|right))(?P<tail>(?:-sided)?(?: \w+)* effusions?)\b(?P<post>.*)$",
    re.IGNORECASE,
)
# Where a sentence may be cut in two, and what the second half then starts with.
_CUTS = (
    (
        re.compile(
            r"(?:,)? (?:but |and |though )?(?:without|with no|with no evidence of|negative for|and no|but no)(?: (?=evidence|any|findings|signs))? ?(?=\w)",
            re.IGNORECASE,
        ),
        "No ",
    ),
    (re.compile(r", (?:and |but |with )?(?=no )", re.IGNORECASE), ""),
    (
        re.compile(
            r",? (?:and|but|while|although|however|though),? (?=(?:there|the|heart|lungs?|both|no|pulmonary|cardiac|mediastin\w*|cardio\w*|bony|osseous|trachea|left|right|is|are|it)\b)",
            re.IGNORECASE,
        ),
        "",
    ),
    (re.compile(r"(?:,)? (?:but|however|although),? ", re.IGNORECASE), ""),
    (
        re.compile(
            r", (?=(?:there (?:is|are)|the|heart|lungs?|pulmonary vasc\w+|mediastin\w+|cardiomediastinal)\b)",
            re.IGNORECASE,
        ),
        "",
    ),
    (
        re.compile(
            r"(?<!consistent)(?<!compatible)(?<!associated) with (?:associated |adjacent |superimposed |overlying )?(?!a normal)",
            re.IGNORECASE,
        ),
        "",
    ),
    (re.compile(r",? (?:and|as well as|plus|along with) ", re.IGNORECASE), ""),
    (re.compile(r", ", re.IGNORECASE), ""),
)


def topics(text: str) -> frozenset[int]:
    """Findings a sentence speaks of, one for each statement: named ones, and the main one of covered anatomy."""
    found: set[int] = set()
    spans: set[tuple[int, int]] = set()
    for mention in mentions(text):
        span = (mention.start, mention.end)
        if mention.explicit or span not in spans:
            found.add(mention.finding)
        spans.add(span)
    return frozenset(found)


def _items(text: str, known: re.Pattern[str] | None = None) -> list[str]:
    """The members of a list; a piece that names nothing belongs to the next piece, at the end to the last."""
    pieces, joints, start = [], [], 0
    for cut in _ITEM_CUT.finditer(text):
        pieces.append(text[start : cut.start()])
        joints.append(cut.group())
        start = cut.end()
    pieces.append(text[start:])
    joints.append("")
    items, pending = [], ""
    for piece, joint in zip(pieces, joints, strict=True):
        pending += piece
        low = pending.lower()
        if mentions(pending) or _OTHER.search(low) or (known is not None and known.search(low)):
            items.append(pending)
            pending = ""
        else:
            pending += joint
    if pending:
        items = [*items[:-1], f"{items[-1]} {pending}"] if items else [pending]
    return items


def _is_plural(noun: str) -> bool:
    last = noun.split()[-1].lower() if noun.split() else ""
    return (last.endswith("s") and not last.endswith(("ss", "sis", "us", "ax", "is"))) or last.endswith(
        ("ces", "hila")
    )


def _split_denied(sentence: str) -> list[str]:
    match = _DENIED_LIST.match(sentence)
    if not match:
        return [sentence]
    items = _items(match["list"])
    pre, post = match["pre"], match["post"] or ""
    return [finish(f"{pre}{item}{post}") for item in items]


def _split_normal(sentence: str) -> list[str]:
    match = _NORMAL_LIST.match(sentence)
    if match:
        items = _items(match["list"], _ANATOMY)
        if len(items) < 2:
            return [sentence]
        verb = (match["verb"] or "").lower()
        plural = {
            "is": "are",
            "are": "are",
            "appear": "appear",
            "appears": "appear",
            "remain": "remain",
            "remains": "remain",
        }
        single = {
            "is": "is",
            "are": "is",
            "appear": "appears",
            "appears": "appears",
            "remain": "remains",
            "remains": "remains",
        }
        return [
            finish(" ".join((i, (plural if _is_plural(i) else single).get(verb, ""), match["state"])))
            for i in items
        ]
    match = _NORMAL_FIRST.match(sentence)
    if match:
        items = _items(match["list"], _ANATOMY)
        if not any(
            union_word in i.lower().split()[0:1] for i in items for union_word in ("clear", "normal", "no")
        ):
            return [finish(f"{match['state']} {i}") for i in items]
    return [sentence]


def _split_plain(sentence: str) -> list[str]:
    match = _PLAIN_LIST.match(sentence)
    if not match:
        return [sentence]
    return [finish(f"{match['pre']}{item}{match['post'] or ''}") for item in _items(match["list"])]


def _same(whole: str, parts: list[str]) -> bool:
    return len(parts) > 1 and all(parts) and states(parts) == states([whole])


def _cut(sentence: str) -> list[str]:
    for pattern, start in _CUTS:
        for match in pattern.finditer(sentence):
            head, tail = finish(sentence[: match.start()]), sentence[match.end() :].strip()
            if start and tail.lower().startswith(("evidence", "findings", "signs", "any")):
                tail = f"{start}{tail}"
            elif start:
                tail = f"{start}{tail}"
            parts = [head, finish(tail)]
            if len(parts[0].split()) > 0 and topics(parts[0]) and topics(parts[1]) and _same(sentence, parts):
                return parts
    return [sentence]


def split_findings(sentence: str) -> list[str]:
    """The sentence as sentences about one finding each; whole where taking it apart would change what it states."""
    sides = _SIDES.match(sentence)
    if sides:
        parts = [
            finish(f"{sides['pre']}{side}{sides['tail'].rstrip('s')}")
            for side in (sides["one"], sides["two"])
        ]
        if not sides["post"].strip(" .") and _same(sentence, parts):
            return parts
    if len(topics(sentence)) < 2:
        return [sentence]
    for split in (_split_denied, _split_normal, _cut, _split_plain):
        parts = split(sentence)
        if _same(sentence, parts):
            return [small for part in parts for small in split_findings(part)]
    return [sentence]
