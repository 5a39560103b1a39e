"""Training of a WordPiece vocabulary, reproducible to the last id (the stock trainer orders ties by hash)."""

import heapq
import itertools
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from clinicclip.errors import UserError

Pair = tuple[str, str]


def count(words: Sequence[Sequence[str]], patients: Iterable[str] | None = None, min_patients: int = 1) -> Counter[str]:
    """How often each word occurs; with `patients` (one a text), without digits and rare words."""
    counts = Counter(word for text in words for word in text)
    if patients is None:
        return counts
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for text, patient in zip(words, patients, strict=True):
        for word in text:
            seen[word].add(patient)
    allowed = (w for w, who in seen.items() if len(who) >= min_patients and not any(c.isdigit() for c in w))
    return Counter({word: counts[word] for word in allowed})


def train(counts: Mapping[str, int], size: int, *, digits: bool) -> list[str]:
    """At most `size` pieces: single characters in order, then the pairs merged most often first.

    The most frequent pair of neighbouring pieces is merged, ties by spelling, until the vocabulary is full or
    no pair occurs twice (byte-pair merging, as the usual trainers do). `digits`: with 0-9 as pieces.

    Raises:
      UserError: `size` is smaller than the number of single characters.
    """
    pieces = _alphabet(counts, digits)
    if len(pieces) > size:
        raise UserError(f"vocab_size: {size} is too small, the single characters alone need {len(pieces)}")
    spelled = {word: [word[0], *("##" + c for c in word[1:])] for word in sorted(counts)}
    weights: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[str]] = defaultdict(set)
    for word, parts in spelled.items():
        _tally(parts, word, counts[word], weights, where)
    heap = [(-weight, pair) for pair, weight in weights.items()]
    heapq.heapify(heap)
    known = set(pieces)
    while heap and len(pieces) < size:
        weight, pair = heapq.heappop(heap)
        if -weight != weights[pair]:
            continue  # out of date: a fresher entry of the same pair is in the heap
        if -weight < 2:
            break
        merged = pair[0] + pair[1].removeprefix("##")
        if merged not in known:  # two different pairs can spell one piece
            known.add(merged)
            pieces.append(merged)
        for changed in _merge(pair, merged, spelled, counts, weights, where):
            if weights[changed]:
                heapq.heappush(heap, (-weights[changed], changed))
    return pieces


def _alphabet(counts: Mapping[str, int], digits: bool) -> list[str]:
    inner = set(string.ascii_lowercase + (string.digits if digits else ""))
    first = inner | set(string.punctuation)
    for word in counts:
        first.add(word[0])
        inner.update(word[1:])
    return sorted(first) + ["##" + c for c in sorted(inner)]


def _tally(
    parts: list[str], word: str, weight: int, weights: Counter[Pair], where: defaultdict[Pair, set[str]]
) -> set[Pair]:
    pairs = list(itertools.pairwise(parts))
    for pair in pairs:
        weights[pair] += weight
        where[pair].add(word)
    return set(pairs)


def _merge(
    pair: Pair,
    merged: str,
    spelled: dict[str, list[str]],
    counts: Mapping[str, int],
    weights: Counter[Pair],
    where: defaultdict[Pair, set[str]],
) -> set[Pair]:
    """Respells every word that holds `pair`; returns the pairs whose weight changed."""
    touched: set[Pair] = set()
    for word in where.pop(pair):
        parts = spelled[word]
        touched |= _tally(parts, word, -counts[word], weights, where)
        new: list[str] = []
        for part in parts:
            if new and (new[-1], part) == pair:
                new[-1] = merged
            else:
                new.append(part)
        spelled[word] = new
        touched |= _tally(new, word, counts[word], weights, where)
    return touched - {pair}
