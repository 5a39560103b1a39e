"""Writes a study's report by a varied grammar, with the truth of every sentence and the report's graph."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from clinicclip.data.phantom import phrases
from clinicclip.data.phantom.findings import Item
from clinicclip.data.schema import ABSENT, BOTH, LEFT, NO_SIDE, PARENTS, PRESENT, RIGHT, UNCERTAIN, Graph

SIDE_WORDS = {LEFT: "left/a", RIGHT: "right/a", BOTH: "bilateral/a", NO_SIDE: ""}
ADVERBS = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}
_TOKEN = re.compile(r"[^\s.,]+|[.,]")
_TYPES = {PRESENT: 1, UNCERTAIN: 2, ABSENT: 3}  # of observations, indices into schema.GRAPH_TYPES


class Statement(NamedTuple):
    """One sentence as written, and what it says of each finding it names: (finding, polarity, laterality)."""

    text: str
    section: str  # "findings" or "impression"
    about: tuple[tuple[str, int, int], ...]


class Report(NamedTuple):
    """A report's two sections, its sentences' truth, and its graph over tokens of findings + impression."""

    findings: str
    impression: str
    statements: tuple[Statement, ...]
    graph: Graph


@dataclass
class _Sheet:
    """The report while it is written: tagged sentences with their polarity, a section at a time."""

    rng: np.random.Generator
    lines: list[tuple[str, str, int, tuple[tuple[str, int, int], ...]]] = field(default_factory=list)

    def say(self, section: str, tagged: str, polarity: int, about: Sequence[tuple[str, int, int]] = ()) -> None:
        self.lines.append((section, _tidy(tagged), polarity, tuple(about)))

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]


def _tidy(tagged: str) -> str:
    """Single spaces, "an" before a vowel, a capital at the start."""
    text = re.sub(r"\s+", " ", tagged).replace(" .", ".").replace(" ,", ",").strip()
    text = re.sub(r"(?<![/\w])([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[:1].upper() + text[1:]


def _plain(tagged: str) -> str:
    return re.sub(r"/[oma](?=[\s.,]|$)", "", tagged)


def _slots(sheet: _Sheet, item: Item, words: phrases.Words) -> dict[str, str]:
    """What fills the slots of the item's phrases; size and trend are sometimes left unsaid, the side never."""
    plural = words.plural or (item.finding in phrases.PLURAL_WHEN_BOTH and item.side == BOTH)
    size = words.sizes[item.size] if sheet.rng.random() < 0.8 else ""
    trend = sheet.pick(phrases.TRENDS[item.trend]) if item.trend and sheet.rng.random() < 0.3 else ""
    return {
        "size": f"{size}/m" if size else "",
        "sizely": f"{ADVERBS.get(size, '')}/m" if size in ADVERBS else "",
        "side": SIDE_WORDS[item.side],
        "zone": phrases.ZONES[words.places][item.zone],
        "trend": trend,
        "s": "s" if plural or item.side == BOTH else "",
        "there": "There are" if plural else "There is a" if words.counted else "There is",
        "is": "are" if plural else "is",
    }


def _words(item: Item) -> phrases.Words:
    many = item.finding == "fracture" and item.kind == "rib" and item.size == 2
    return phrases.PRESENT[item.finding, "ribs" if many else item.kind]


def _affirm(sheet: _Sheet, item: Item, section: str, hedged: bool) -> None:
    """A sentence that says the item is there; alone as a noun phrase in most impressions."""
    words = _words(item)
    slots = _slots(sheet, item, words)
    noun = sheet.pick(words.nouns).format(**slots)
    if hedged:
        shape = sheet.pick(phrases.HEDGED)
    elif section == "impression" and sheet.rng.random() < 0.7:
        shape = "{noun}."
    else:
        own = len(words.sentences) / (len(words.sentences) + len(words.nouns))
        shape = sheet.pick(words.sentences if sheet.rng.random() < own else phrases.COMMON)
    text = shape.format(noun=noun, **slots)
    if item.trend and not slots["trend"] and not hedged and sheet.rng.random() < 0.25:
        text = text.rstrip(". ") + f", {sheet.pick(phrases.COMPARED[item.trend])}."
    polarity = UNCERTAIN if hedged else PRESENT
    side = BOTH if "bilateral/a" in text else item.side
    sheet.say(section, text, polarity, [(item.finding, polarity, side)])


def _deny(sheet: _Sheet, absent: Sequence[str], section: str) -> None:
    """One sentence that denies up to three absent findings."""
    if not absent:
        return
    count = min(len(absent), 1 + int(sheet.rng.integers(3)))
    chosen = [absent[int(i)] for i in sorted(sheet.rng.permutation(len(absent))[:count])]
    names = [sheet.pick(phrases.LISTED[name]) for name in chosen]
    listed = names[0] if count == 1 else f"{', '.join(names[:-1])}{',' * (count > 2)} or {names[-1]}"
    text = sheet.pick(phrases.DENIAL).replace("{list}", listed).replace("{is}", "is")
    sheet.say(section, text, ABSENT, [(name, ABSENT, NO_SIDE) for name in chosen])


def _resolve(sheet: _Sheet, item: Item, present: set[str]) -> None:
    """Now and then, a sentence that something seen at the last visit has gone."""
    if item.finding in phrases.RESOLVING and item.finding not in present and sheet.rng.random() < 0.4:
        name = phrases.RESOLVING[item.finding]
        text = sheet.pick(phrases.RESOLVED).format(side=SIDE_WORDS[item.side], name=name)
        sheet.say("findings", text, ABSENT, [(item.finding, ABSENT, item.side)])


def _normal_parts(sheet: _Sheet, present: set[str]) -> None:
    """Some sentences of normal anatomy, at most one a finding, none that the findings contradict."""
    said: set[str] = set()
    options = [phrases.NORMAL[int(i)] for i in sheet.rng.permutation(len(phrases.NORMAL))]
    for text, needs, denied in options[: 3 + int(sheet.rng.integers(4))]:
        if denied in said or present & set(needs):
            continue
        said.add(denied)
        sheet.say("findings", text, PRESENT, [(denied, ABSENT, NO_SIDE)] if denied else [])


def write(items: tuple[Item, ...], resolved: tuple[Item, ...], hedged: float, rng: np.random.Generator) -> Report:
    """The report of a study that shows `items`; a share `hedged` of them is only suspected."""
    sheet = _Sheet(rng)
    present = {item.finding for item in items}
    present |= {parent for name in present for parent in PARENTS.get(name, ())}
    doubt = {item.finding: bool(rng.random() < hedged) for item in items}
    doubt["support_devices"] = False
    order = [items[int(i)] for i in rng.permutation(len(items))]
    brief = rng.random() < 0.12  # only an impression
    absent = [name for name in phrases.LISTED if name not in present]
    if not brief:
        for item in order:
            _affirm(sheet, item, "findings", doubt[item.finding])
        _normal_parts(sheet, present)
        for _ in range(int(rng.integers(1, 3))):
            _deny(sheet, absent, "findings")
            absent = [name for name in absent if all(name != a[0] for line in sheet.lines for a in line[3])]
        for item in resolved:
            _resolve(sheet, item, present)
    summary = [item for item in order if item.finding != "support_devices" or brief]
    for item in summary if brief else summary[:3]:
        _affirm(sheet, item, "impression", doubt[item.finding])
    if present <= {"support_devices"}:
        text = sheet.pick(phrases.NORMAL_IMPRESSION)
        polarity = ABSENT if text.startswith("No ") else PRESENT
        sheet.say("impression", text, polarity, [("no_finding", PRESENT, NO_SIDE)])
    elif rng.random() < 0.3:
        _deny(sheet, absent, "impression")
    return _finish(sheet)


def _finish(sheet: _Sheet) -> Report:
    sections: Mapping[str, list[str]] = {"findings": [], "impression": []}
    statements = []
    for section, tagged, _, about in sheet.lines:
        sections[section].append(_plain(tagged))
        statements.append(Statement(_plain(tagged), section, about))
    return Report(
        " ".join(sections["findings"]),
        " ".join(sections["impression"]),
        tuple(statements),
        _graph([(tagged, polarity) for _, tagged, polarity, _ in sheet.lines]),
    )


def _spans(marked: list[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Runs of neighbouring words of one mark: (first, last, mark)."""
    runs: list[tuple[int, int, str]] = []
    for i, (_, mark) in enumerate(marked):
        if mark and runs and runs[-1][1] == i - 1 and runs[-1][2] == mark:
            runs[-1] = (runs[-1][0], i, mark)
        elif mark:
            runs.append((i, i, mark))
    return runs


def _head(marked: list[tuple[str, str]], runs: list[tuple[int, int, str]], which: int) -> int | None:
    """The observation a modifier or an anatomy belongs to: the next before a comma, else the last, else the next."""
    heads = [i for i, run in enumerate(runs) if run[2] == "o"]
    after = [i for i in heads if i > which]
    before = [i for i in heads if i < which]
    if after:
        between = [word for word, _ in marked[runs[which][1] : runs[after[0]][0]]]
        if "," not in between or not before:
            return after[0]
    return before[-1] if before else None


def _graph(lines: list[tuple[str, int]]) -> Graph:
    """RadGraph's form: spans of tokens, edges from modifier to observation and from observation to its place."""
    tokens: list[str] = []
    spans: list[tuple[int, int]] = []
    types: list[int] = []
    edges: list[tuple[int, int]] = []
    for tagged, polarity in lines:
        marked = []
        for token in _TOKEN.findall(tagged):
            word, _, mark = token.rpartition("/")
            marked.append((word, mark) if mark in ("o", "m", "a") and word else (token, ""))
        runs, first = _spans(marked), len(spans)
        for which, (start, end, mark) in enumerate(runs):
            spans.append((len(tokens) + start, len(tokens) + end))
            types.append(0 if mark == "a" else _TYPES[polarity])
            head = None if mark == "o" else _head(marked, runs, which)
            if head is not None:
                edges.append((first + which, first + head) if mark == "m" else (first + head, first + which))
        tokens += [word for word, _ in marked]
    return Graph(tuple(tokens), tuple(spans), tuple(types), tuple(edges))
