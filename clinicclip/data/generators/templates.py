"""Two generators with disjoint phrasing, so that a model trained on one is never tested on phrases it has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clinicclip.data.phrases import DENIED_NAMES
from clinicclip.data.schema import FINDINGS


@dataclass(frozen=True)
class Templates:
    """Denials from fixed phrases; {x} is a name of the finding in lower case, {X} the same with a capital."""

    name: str
    patterns: tuple[str, ...]

    def deny(self, finding: int, statements: Sequence[str], rng: np.random.Generator) -> list[str]:
        """One denial a statement: one name of the finding, and another template each time while they last."""
        order = rng.permutation(len(self.patterns))
        names = DENIED_NAMES[FINDINGS[finding]]
        name = names[int(rng.integers(len(names)))]
        return [self.write(self.patterns[order[i % len(order)]], name) for i in range(len(statements))]

    @staticmethod
    def write(pattern: str, name: str) -> str:
        """The denial of a finding called `name`."""
        return pattern.format(x=name, X=name[0].upper() + name[1:])

    def __contains__(self, sentence: str) -> bool:
        """Whether this generator could have written the sentence, whatever its capitals."""
        names = {name for known in DENIED_NAMES.values() for name in known}
        wanted = sentence.casefold()
        return any(wanted == self.write(pattern, name).casefold() for pattern in self.patterns for name in names)


TRAIN = Templates(
    "train",
    (
        "No {x}.",
        "There is no {x}.",
        "No evidence of {x}.",
        "No {x} is identified.",
        "Negative for {x}.",
        "There is no visible {x}.",
    ),
)
EVAL = Templates(
    "eval",
    (
        "There is no evidence of {x}.",
        "No {x} is seen.",
        "{X} is absent.",
        "The radiograph shows no {x}.",
        "No sign of {x}.",
        "{X} is not present.",
    ),
)
# How a finding is stated where a label is put into words.
STATEMENTS = ("{X}.", "There is {x}.", "{X} is noted.", "{X} is present.")
BY_NAME: Mapping[str, Templates] = {templates.name: templates for templates in (TRAIN, EVAL)}
