"""Report graphs by rules, in RadGraph's form, for reports that no graph was published for.

Nodes are words of the vocabularies `phrases` (findings) and `graph_words` (anatomy, modifiers, states), observations
typed by the polarity `mentions` reads. Edges run from modifier to what it modifies, from observation to its place,
and from an observation to the one it suggests. Source of the form: Jain et al., RadGraph (NeurIPS 2021 datasets);
vocabulary and rules are ours.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from clinicclip.data import graph_words as words
from clinicclip.data import phrases as names
from clinicclip.data.mentions import NO_FINDING, mentions, polarity, union
from clinicclip.data.schema import ABSENT, GRAPH_TYPES, PRESENT, UNCERTAIN, Graph, Sentence

NAME = "rules"  # of these graphs in a record's `graph_by`

_TOKEN = re.compile(r"\w+(?:[-'./]\w+)*|[^\w\s]")
_BORDERLINE = re.compile(union((*names.BORDERLINE, *words.HEDGES)))
_NAMED = (("", "observation"), ("quality",))  # a finding's name may hold any word
_STATED = (("observation",),)  # "no definite radiographic evidence of disease" is no name
_DENIAL = re.compile(r"no\b|without|negative for")
_ANATOMY = GRAPH_TYPES.index("ANAT-DP")
_TYPES = {
    PRESENT: GRAPH_TYPES.index("OBS-DP"),
    UNCERTAIN: GRAPH_TYPES.index("OBS-U"),
    ABSENT: GRAPH_TYPES.index("OBS-DA"),
}


class _Node(NamedTuple):
    """Tokens first..last of one kind: "anatomy", "place", "observation" or "quality"."""

    first: int
    last: int
    kind: str
    state: int  # polarity, of observations


class _Phrase(NamedTuple):
    """Neighbouring nodes, by number, and the words between them and the phrase before."""

    anatomy: list[int]
    places: list[int]
    observations: list[int]
    qualities: list[int]
    link: list[str]


def build(sentences: Sequence[Sentence]) -> Graph:
    """The graph of a report's sentences, over their words and punctuation marks as tokens.

    A function of the text alone; no edge joins two sentences. A report that names nothing has no nodes.
    """
    tokens: list[str] = []
    spans: list[tuple[int, int]] = []
    types: list[int] = []
    edges: list[tuple[int, int]] = []
    for sentence in sentences:
        part = _sentence_graph(sentence.text)
        ahead, before = len(tokens), len(spans)
        tokens += part.tokens
        spans += [(first + ahead, last + ahead) for first, last in part.spans]
        types += part.types
        edges += [(source + before, target + before) for source, target in part.edges]
    return Graph(tuple(tokens), tuple(spans), tuple(types), tuple(edges))


@lru_cache(maxsize=65536)
def _sentence_graph(text: str) -> Graph:
    """The graph of one sentence; remembered, since reports repeat themselves."""
    low = text.lower()
    found = list(_TOKEN.finditer(low))
    shown = text if len(text) == len(low) else low  # a few letters are longer in lower case
    tokens = tuple(shown[match.start() : match.end()] for match in found)
    nodes = _nodes(low, found)
    phrases = _phrases(nodes, [match.group() for match in found])
    edges = [*_modifications(phrases), *_locations(phrases), *_suggestions(phrases)]
    states = _states(nodes, edges)
    types = tuple(_TYPES[state] if state is not None else _ANATOMY for state in states)
    return Graph(tokens, tuple((node.first, node.last) for node in nodes), types, tuple(edges))


def _nodes(low: str, found: list[re.Match[str]]) -> list[_Node]:
    """Every node in order; neighbouring words of one anatomy, or of one observation, are one."""
    kinds = [words.KINDS.get(match.group(), "") for match in found]
    states: list[int | None] = [None] * len(found)
    _mark_findings(low, found, kinds, states)
    nodes: list[_Node] = []
    for i, kind in enumerate(kinds):
        if kind == "place" and i + 1 < len(found) and found[i + 1].group() in words.ELSEWHERE:
            continue
        state = states[i] if states[i] is not None else PRESENT
        if kind == "observation" and states[i] is None:
            state = polarity(low, found[i].start(), found[i].end())
        if not kind or state is None:
            continue
        last = nodes[-1] if nodes else None
        runs_on = last is not None and last.last == i - 1 and (last.kind, last.state) == (kind, state)
        if last is not None and runs_on and kind in ("anatomy", "observation"):
            nodes[-1] = last._replace(last=i)
        else:
            nodes.append(_Node(i, i, kind, state))
    return nodes


def _mark_findings(low: str, found: list[re.Match[str]], kinds: list[str], states: list[int | None]) -> None:
    """What the words of a finding's name are besides its anatomy and modifiers: the observation."""
    ends = [match.end() for match in found]

    def inside(start: int, end: int) -> list[int]:
        reach = range(bisect_left(ends, start + 1), min(bisect_left(ends, end) + 1, len(found)))
        return [i for i in reach if found[i].group() not in words.FUNCTION and found[i].group()[0].isalnum()]

    for match in _BORDERLINE.finditer(low):
        for i in inside(match.start(), match.end()):
            kinds[i], states[i] = "observation", UNCERTAIN
    for mention in mentions(low):
        state = mention.polarity
        if mention.finding == NO_FINDING:
            state = ABSENT if _DENIAL.match(low, mention.start) else PRESENT
        accepted = _STATED if mention.finding == NO_FINDING else _NAMED
        for i in _observed(inside(mention.start, mention.end), kinds, accepted) if mention.explicit else ():
            kinds[i], states[i] = "observation", state


def _observed(inside: list[int], kinds: list[str], accepted: tuple[tuple[str, ...], ...]) -> list[int]:
    """The words of the first kinds that occur, else the last word."""
    for some in accepted:
        named = [i for i in inside if kinds[i] in some]
        if named:
            return named
    return inside[-1:]


def _phrases(nodes: list[_Node], tokens: list[str]) -> list[_Phrase]:
    """Nodes between which no other word stands."""
    phrases: list[_Phrase] = []
    end = -1
    for number, node in enumerate(nodes):
        if not phrases or node.first > end + 1:
            phrases.append(_Phrase([], [], [], [], tokens[end + 1 : node.first]))
        phrase = phrases[-1]
        members = {
            "anatomy": phrase.anatomy,
            "place": phrase.places,
            "observation": phrase.observations,
            "quality": phrase.qualities,
        }
        members[node.kind].append(number)
        end = node.last
    return phrases


def _modifications(phrases: list[_Phrase]) -> Iterator[tuple[int, int]]:
    """(modifier, what it modifies): the next head of its phrase, else the last, else that of a neighbour."""
    for at, phrase in enumerate(phrases):
        for place in phrase.places:
            head = _nearest(place, phrase.anatomy)
            if head is None and not phrase.observations:
                head = _nearest(place, _continued(phrases, at).anatomy)
            if head is None and not any(place < observation for observation in phrase.observations):
                head = _nearest(place, _subject(phrases, at))
            if head is not None:
                yield place, head
        for quality in phrase.qualities:
            heads = phrase.observations or _continued(phrases, at).observations
            elsewhere = [o for other in phrases for o in other.observations]
            before = [o for o in elsewhere if o < quality]
            head = _nearest(quality, heads or before or phrase.anatomy or elsewhere)
            if head is not None:
                yield quality, head


def _continued(phrases: list[_Phrase], at: int) -> _Phrase:
    """The phrase a list goes on with ("left and right lungs", "mild to moderate edema"), or an empty one."""
    after = phrases[at + 1] if at + 1 < len(phrases) else None
    if after is not None and len(after.link) <= 2 and after.link[0] in words.COORDINATES | {"to"}:
        return after
    return _Phrase([], [], [], [], [])


def _nearest(node: int, heads: list[int]) -> int | None:
    later = [head for head in heads if head > node]
    return later[0] if later else heads[-1] if heads else None


def _locations(phrases: list[_Phrase]) -> Iterator[tuple[int, int]]:
    """(observation, its place): of its own phrase, else behind a preposition, else the subject before it."""
    for at, phrase in enumerate(phrases):
        if phrase.observations:
            leading = [place for place in phrase.places if place < phrase.observations[0]]
            own = phrase.anatomy and _joined(phrases, at) + phrase.anatomy
            places = own or leading or _behind(phrases, at) or _subject(phrases, at) or phrase.places
            yield from ((observation, place) for observation in phrase.observations for place in places)


def _joined(phrases: list[_Phrase], at: int) -> list[int]:
    """The anatomy a list has before the phrase: "heart" in "heart and mediastinum normal"."""
    anatomy: list[int] = []
    for number in range(at, 0, -1):
        before, link = phrases[number - 1], phrases[number].link
        if before.observations or len(link) > 2 or link[0] not in words.COORDINATES:
            break
        anatomy = before.anatomy + anatomy
    return anatomy


def _behind(phrases: list[_Phrase], at: int) -> list[int]:
    """ "in the left base", also across a list that shares it: "opacity or effusion at the left base"."""
    for after in phrases[at + 1 :]:
        coordinates = words.COORDINATES.intersection(after.link)
        if words.ENDS.intersection(after.link):
            break
        sites = after.anatomy or after.places
        if sites and not after.observations and not coordinates and words.PREPOSITIONS.intersection(after.link):
            return sites
        if sites or (after.observations and not coordinates):
            break
    return []


def _subject(phrases: list[_Phrase], at: int) -> list[int]:
    """The anatomy a statement is about, with what is joined to it: "heart and mediastinum are normal"."""
    anatomy: list[int] = []
    places: list[int] = []
    for number in range(at, 0, -1):
        before = phrases[number - 1]
        if words.ENDS.intersection(phrases[number].link) or before.observations:
            break
        anatomy = before.anatomy + anatomy
        places = before.places + places
    return anatomy or places


def _suggestions(phrases: list[_Phrase]) -> Iterator[tuple[int, int]]:
    """(observation, the one it suggests)."""
    for at, phrase in enumerate(phrases[1:], 1):
        before = [o for earlier in phrases[:at] for o in earlier.observations]
        if phrase.observations and before and words.SUGGESTS.intersection(phrase.link):
            yield before[-1], phrase.observations[0]


def _states(nodes: list[_Node], edges: list[tuple[int, int]]) -> list[int | None]:
    """Polarity of every node, None for anatomy; a modifier has that of the observation it modifies."""
    states = [node.state if node.kind in ("observation", "quality") else None for node in nodes]
    for modifier, head in edges:
        if nodes[modifier].kind == "quality" and states[head] is not None:
            states[modifier] = states[head]
    return states
