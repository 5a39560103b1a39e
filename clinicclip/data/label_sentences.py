"""Sentences made of one label of a study: as plain as the prompts of an evaluation, and true by the study's report."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int8

from clinicclip.data import text
from clinicclip.data.generators import templates
from clinicclip.data.phrases import DENIED_NAMES
from clinicclip.data.schema import ABSENT, CHEXPERT, FINDINGS, PRESENT, Record, Sentence

WHOSE = ("chexpert", "all")  # findings: the fourteen labels, or the finer ones too that the report's sentences name
PATTERNS = {PRESENT: templates.STATEMENTS, ABSENT: templates.TRAIN.patterns}


def states(record: Record, said: Sequence[Sentence], whose: str) -> Int[np.ndarray, " f"]:
    """What is known of each finding a sentence may be made of."""
    labels: Int8[np.ndarray, "14"] = record["labels"]
    return labels if whose == "chexpert" else np.concatenate([labels, text.finding_states(said)[len(labels) :]])


def draw(known: Int[np.ndarray, " f"], share: float, rng: np.random.Generator) -> list[Sentence]:
    """For a share of the studies a true sentence about a finding and the false one that denies it, else nothing."""
    wanted, present = rng.random(2)
    state = PRESENT if present < 0.5 and (known[1:] == PRESENT).any() else ABSENT
    of_state = 1 + np.flatnonzero(known[1:] == state)
    if wanted >= share or not len(of_state):
        return []
    finding = int(rng.choice(of_state))
    name = DENIED_NAMES[FINDINGS[finding]][int(rng.integers(len(DENIED_NAMES[FINDINGS[finding]])))]
    said = [
        Sentence(templates.Templates.write(patterns[int(rng.integers(len(patterns)))], name), finding, polarity, 0)
        for polarity, patterns in PATTERNS.items()
    ]
    return said if state == PRESENT else said[::-1]


def every() -> list[str]:
    """All that may be drawn."""
    patterns = [pattern for some in PATTERNS.values() for pattern in some]
    names = [name for finding in FINDINGS if finding != CHEXPERT[0] for name in DENIED_NAMES[finding]]
    return [templates.Templates.write(pattern, name) for name in names for pattern in patterns]
