"""From raw report text to its FINDINGS and IMPRESSION sections, and from a section to sentences."""

import re
import textwrap

LONGEST = 600  # characters of a sentence; real ones stay far below
_HEADERS = {
    "findings": r"findings?(?: ?(?:and|/|&) ?impressions?)?|impressions? ?(?:and|/|&) ?findings?|report",
    "impression": r"impressions?(?: ?(?:and|/|&) ?recommendations?(?: ?\(s\))?)?|conclusions?|opinion|"
    r"interpretation|summary|addendum(?: by [^:\n]{1,60}(?=:))?",
    "other": r"exam(?:ination)?s?|indications?|(?:clinical )?(?:history|information|indication)|"
    r"reason for (?:the )?exam(?:ination)?|"
    r"techniques?|procedures?|views?|comparisons?|recommendations?(?: ?\(s\))?|notifications?|final report|"
    r"wet read|"
    r"preliminary report|type of exam(?:ination)?|study|clinical data|medical history|signs and symptoms",
}
# At a line start in any case, or inside a line in capitals; the colon may lack where capitals fill a line, or behind
# the joint header.
_HEADER = re.compile(
    r"(?:(?<=\n)|^)[ \t]*(?:"
    + "|".join(f"(?P<{name}>{p})" for name, p in _HEADERS.items())
    + r")[ \t]*(?::|(?-i:(?<=[A-Z][A-Z]))[ \t]*\n|(?<=impression)[ \t]*\n|(?<=IMPRESSION)[ \t]*\n|(?<=REPORT)[ \t]*\n"
    r"|(?-i:(?<=ADDENDUM))(?=[ \t]))",
    re.IGNORECASE,
)
_INLINE = re.compile(
    r"(?:(?<=[.\s])(?<!AND )(?=[A-Z]{4})|(?<=[.;:] )(?=[A-Z][a-z]))"  # in capitals anywhere, else behind a sentence
    r"(FINDINGS?(?: AND IMPRESSIONS?)?|IMPRESSIONS?(?: AND (?:RECOMMENDATION|FINDING)S?)?|CONCLUSIONS?|COMPARISONS?|"
    r"INDICATIONS?|TECHNIQUE|HISTORY|RECOMMENDATIONS?|ADDENDUM|OPINION|NOTIFICATIONS?|Findings?|Impressions?|Conclusions?|Addendum):"
)

_ABBREVIATIONS = frozenset(
    {"dr", "mr", "mrs", "ms", "st", "vs", "e.g", "i.e", "approx", "cf", "fig", "p.o", "a.m", "p.m", "etc", "lat"}
)
_MAY_END = frozenset({"a.m", "p.m", "etc", "p.o"})  # before a capital: "at 5 a.m. Severe edema"
_NEXT = re.compile(r"\.\s+(?!Dr|M[rs]s?\b)(?:(?P<capital>[A-Z][a-z])|(?P<small>[a-z]))?")
_BOUNDARY = re.compile(
    r"(?<=[^.\d\s])[.!?]+(?=[A-Z][a-z])"  # a space was forgotten: "clear.Heart"
    r"|[.!?]+(?=\s|$)"
    r"|;\s*"
    r"|\n\s*\n"
)
_NUMBER = re.compile(r"(?:(?<=^)|(?<=[.;:\n] )|(?<=[;:\n])|(?<=[^\W\d]\.)|(?<=\s\s))\(?(\d{1,2})[.)](?!\d)\s*")
_NUMBERED_TAIL = re.compile(r"(?<=[a-z]) (?=(\d)\. [A-Z])")
_ITEM = re.compile(r"\n(?=\s*(?:\(?\d{1,2}[.)](?!\d)|[-*•]\s|[A-Z][A-Za-z/ ]{2,30}:))")  # a line that begins anew
_MARKUP = re.compile(r"\*\*|^[ \t]*#+[ \t]|^[ \t]*_{5,}[ \t]*$", re.MULTILINE)
_ONLY_COMPARED = re.compile(r"[^.]*\b(?:compar|prior|previous)[^.]*\.?\s*", re.IGNORECASE)
_LABEL = re.compile(r"(?i)(?:^|(?<=\n))\s*(?:findings?|impressions?)\s*:")
_SPACE = re.compile(r"\s+")
_SENTENCE = re.compile(r"[a-z]{2}\.(?:\s|$)")
_WORD = re.compile(r"[^\W\d_]{2}")


def report_sections(text: str) -> tuple[str, str]:
    """FINDINGS and IMPRESSION of a whole report ('' where missing).

    Headers count at a line start in any case, or inside a line in capitals. A joint "FINDINGS AND IMPRESSION" is
    findings; an addendum belongs to the impression. Without findings, what follows the first paragraph under the last
    other header is findings, or else what stands before all headers; beside an impression, if it is a sentence.
    """
    text = _MARKUP.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _INLINE.sub(r"\n\1:", text)
    parts: dict[str, list[str]] = {"findings": [], "impression": [], "other": []}
    headers = list(_HEADER.finditer(text))
    preamble = text[: headers[0].start()] if headers else text
    ends = [*(header.start() for header in headers), len(text)][1:]
    for header, end in zip(headers, ends, strict=True):
        parts[str(header.lastgroup)].append(text[header.end() : end].strip())
    findings, impression = (" ".join(p for p in parts[k] if p) for k in ("findings", "impression"))
    if not findings:
        paragraphs = [p for p in re.split(r"\n\s*\n", parts["other"][-1]) if p.strip()] if parts["other"] else []
        own = [p for p in paragraphs[1:] if not _ONLY_COMPARED.fullmatch(p.strip())]
        body = "\n\n".join(map(str.strip, own)) or preamble.strip()
        findings = body if not impression or _SENTENCE.search(body) else ""
    return findings, impression


def _ends_abbreviation(text: str, stop: int) -> bool:
    word = text[max(0, stop - 16) : stop].rsplit(None, 1)[-1:] or [""]
    abbreviation, following = word[0].lower().lstrip("("), _NEXT.match(text, stop)
    if abbreviation == "v":
        return following is not None and following["small"] is not None
    ends = abbreviation in _MAY_END and following is not None and following["capital"] is not None
    return abbreviation in _ABBREVIATIONS and not ends


def _cut_at_numbers(section: str) -> str:
    """Ends the sentence before a number that goes on with a list: "clear 2. No effusion", not "ribs 5 and 6. No"."""
    listed = {0, *(int(number[1]) for number in _NUMBER.finditer(section))}

    def end(number: re.Match[str]) -> str:
        if int(number[1]) - 1 not in listed:
            return " "
        listed.add(int(number[1]))
        return ". "

    return _NUMBERED_TAIL.sub(end, section)


def split_sentences(section: str) -> list[str]:
    """Sentences of a section without their numbers in a list; decimals and abbreviations stay whole.

    Single line breaks are wrapping; blank lines and semicolons end a sentence. Every sentence ends in a mark.
    """
    section = re.sub(r"(?m)^\s*[-*•]+\s+", "", _ITEM.sub("\n\n", section))
    section = _cut_at_numbers(section)
    section = _NUMBER.sub("", section)
    section = _LABEL.sub("", section)
    pieces, start = [], 0
    for match in _BOUNDARY.finditer(section):
        if match.group().startswith(".") and _ends_abbreviation(section, match.start()):
            continue
        keep_mark = "?" if "?" in match.group() else ""
        pieces.append(section[start : match.start()] + keep_mark)
        start = match.end()
    pieces.append(section[start:])
    cleaned = (_SPACE.sub(" ", _NUMBER.sub("", p.strip())).strip(" ,-:") for p in pieces)
    return [finish(part) for p in cleaned if _WORD.search(p) for part in _bounded(p)]


def _bounded(sentence: str) -> list[str]:
    """A run-on without marks in pieces of whole words: everything later works on one sentence at a time."""
    if len(sentence) <= LONGEST:
        return [sentence]
    return textwrap.wrap(sentence, LONGEST, break_on_hyphens=False)


def finish(sentence: str) -> str:
    """The sentence with a capital letter in front and one mark at its end ('' stays '')."""
    sentence = _SPACE.sub(" ", sentence).strip(" ,.-")
    if not sentence:
        return ""
    return sentence[0].upper() + sentence[1:] + ("" if sentence[-1] in "?!" else ".")
