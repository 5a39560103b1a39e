"""Reports with one present finding denied (r^n) or left out (r^o); everything else stays word for word.

Two generators with disjoint templates, so that a model trained on one is never tested on phrases it has seen.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clinicclip.data.mentions import describe, mentions
from clinicclip.data.phrases import DENIED_NAMES
from clinicclip.data.schema import (
    ABSENT,
    CHEXPERT,
    FINDINGS,
    INDEX,
    PARENTS,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Sentence,
)
from clinicclip.data.text import finding_states

# {x} is a name of the finding in lower case, {X} the same with a capital.
TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "train": (
        "No {x}.",
        "There is no {x}.",
        "No evidence of {x}.",
        "No {x} is identified.",
        "Negative for {x}.",
        "There is no visible {x}.",
    ),
    "eval": (
        "There is no evidence of {x}.",
        "No {x} is seen.",
        "{X} is absent.",
        "The radiograph shows no {x}.",
        "No sign of {x}.",
        "{X} is not present.",
    ),
}


class Altered(NamedTuple):
    """r^n and r^o as text with the finding they turn on; ('', '', -1) when the report gives none.

    `omitted` alone is '' when nothing remains of the report without the finding.
    """

    negated: str
    omitted: str
    finding: int


NONE = Altered("", "", -1)
_CANNOT_CHOOSE = ("no_finding",)
# Read off the image alone and worth denying; the rest is chosen only when none of these is present.
_VISIBLE = tuple(
    f
    for f in (*CHEXPERT, "emphysema", "nodule", "mass", "hernia", "pleural_thickening", "infiltration")
    if f not in ("no_finding", "pneumonia", "support_devices")
)
_POINTS_BACK = re.compile(r"(?:this|these|it|they|its|the latter)\b", re.IGNORECASE)


def _family(finding: int) -> tuple[frozenset[int], frozenset[int]]:
    """The finding with everything that implies it, and everything it implies."""
    name = FINDINGS[finding]
    below = frozenset({finding, *(INDEX[c] for c, parents in PARENTS.items() if name in parents)})
    return below, frozenset(INDEX[p] for p in PARENTS.get(name, ()))


def _stating(report: Sequence[Sentence], finding: int, polarities: tuple[int, ...]) -> list[int]:
    """Positions of sentences that state the finding, or one that implies it, with one of these polarities."""
    below, _ = _family(finding)
    return [
        i
        for i, s in enumerate(report)
        if any(m.explicit and m.finding in below and m.polarity in polarities for m in mentions(s.text))
    ]


def _is_alone(report: Sequence[Sentence], finding: int) -> bool:
    """Whether the sentences to be denied or dropped say nothing of any unrelated finding."""
    below, above = _family(finding)
    positions = _stating(report, finding, (PRESENT, UNCERTAIN, ABSENT))
    return all(m.finding in below | above for i in positions for m in mentions(report[i].text))


def choose(sentences: Sequence[Sentence], rng: np.random.Generator) -> int | None:
    """A present finding that can be denied without touching another one, or None.

    Leaves of the hierarchy only (denying "opacity" beside "atelectasis" would deny both), what is visible on its
    own first.
    """
    states = finding_states(sentences)
    named = {m.finding for s in sentences for m in mentions(s.text) if m.explicit and m.polarity == PRESENT}
    candidates = [
        f
        for f in sorted(named)
        if FINDINGS[f] not in _CANNOT_CHOOSE
        and all(states[c] != PRESENT for c in _family(f)[0] - {f})
        and _is_alone(sentences, f)
    ]
    visible = [f for f in candidates if FINDINGS[f] in _VISIBLE]
    pool = visible or candidates
    return int(pool[int(rng.integers(len(pool)))]) if pool else None


def _with_followers(report: Sequence[Sentence], positions: Sequence[int]) -> set[int]:
    """The positions, and the nameless sentences behind them that only point back ("It measures 2 cm.")."""
    chosen = set(positions)
    for i, sentence in enumerate(report):
        if i - 1 in chosen and _POINTS_BACK.match(sentence.text) and not mentions(sentence.text):
            chosen.add(i)
    return chosen


def negate(sentences: Sequence[Sentence], finding: int, generator: str, rng: np.random.Generator) -> list[str]:
    """Texts of r^n: every sentence that states `finding` as present or uncertain becomes a denial of it.

    Raises: KeyError for a generator other than "train" and "eval".
    """
    templates = TEMPLATES[generator]
    order = rng.permutation(len(templates))
    names = DENIED_NAMES[FINDINGS[finding]]
    name = names[int(rng.integers(len(names)))]
    positions = _stating(sentences, finding, (PRESENT, UNCERTAIN))
    touched = _with_followers(sentences, positions)
    result = []
    for i, sentence in enumerate(sentences):
        if i in positions:
            template = templates[int(order[positions.index(i) % len(templates)])]
            result.append(template.format(x=name, X=name[0].upper() + name[1:]))
        elif i not in touched:
            result.append(sentence.text)
    return result


def omit(sentences: Sequence[Sentence], finding: int) -> list[str]:
    """Texts of r^o: every sentence that names `finding`, or what implies it, is left out, denials too."""
    touched = _with_followers(sentences, _stating(sentences, finding, (PRESENT, UNCERTAIN, ABSENT)))
    return [s.text for i, s in enumerate(sentences) if i not in touched]


def _changes_only(report: Sequence[Sentence], texts: Sequence[str], finding: int, wanted: tuple[int, ...]) -> bool:
    """Whether `texts` read back with the finding in a wanted state and every unrelated one as in the report."""
    before, after = finding_states(report), finding_states([describe(t) for t in texts])
    below, above = _family(finding)
    others = [i for i in range(len(FINDINGS)) if i not in below | above]
    return int(after[finding]) in wanted and bool(np.all(after[others] == before[others]))


def denies(report: Sequence[Sentence], negated: Sequence[str], finding: int) -> bool:
    """Self-check of an r^n by re-labelling: the finding is denied, and no unrelated finding has changed."""
    return _changes_only(report, negated, finding, (ABSENT,))


def alter(sentences: Sequence[Sentence], *, seed: int, key: str, generator: str) -> Altered:
    """r^n and r^o of one report, a function of (seed, key, generator) and text alone; NONE where none can be made.

    Normal reports give none, and so does every alteration that fails its self-check. r^o is empty where every
    sentence speaks of the finding.
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    finding = choose(sentences, rng)
    if finding is None:
        return NONE
    negated, omitted = negate(sentences, finding, generator, rng), omit(sentences, finding)
    if not denies(sentences, negated, finding):
        return NONE
    if omitted and not _changes_only(sentences, omitted, finding, (UNKNOWN, ABSENT)):
        return NONE
    return Altered(" ".join(negated), " ".join(omitted), finding)
