"""Who writes the sentences that deny a finding: templates for training and evaluation, or a language model."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Generator(Protocol):
    """Writes denials; every record and every result names the one that wrote its r^n."""

    @property
    def name(self) -> str:
        """What records store as `negated_by`."""

    def deny(self, finding: int, statements: Sequence[str], rng: np.random.Generator) -> list[str]:
        """One sentence for each statement of `schema.FINDINGS[finding]` that says it is absent; '' where none is."""
