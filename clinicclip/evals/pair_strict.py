"""Pair-strict: the same finding on two images, one with and one without it; both must be called right.

An image-blind rule calls both images alike and scores 0; a coin scores one quarter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clinicclip.data import schema
from clinicclip.evals import matching, outcomes
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, mean, wins


@dataclass(frozen=True)
class PairStrict:
    """Each image with the finding is averaged over its `partners` matched images without it."""

    partners: int = matching.CONTROL_IMAGES
    seed: int = 0

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `pair_strict/FINDING` for every coded finding, and `macro`; prevalence is that of the set."""
        vectors, everyone = embedded.images(evalset), np.arange(len(evalset))
        parts: dict[int, Part] = {}
        pairs = 0
        for finding in outcomes.coded(evalset):
            draws, note = NOTHING, outcomes.lacking(evalset.truth[:, finding]) or matching.NO_IMAGES
            rows = np.flatnonzero(evalset.truth[:, finding] == 1)
            partners = matching.without_finding(evalset, finding, rows, count=self.partners, seed=self.seed)
            rows, partners = rows[partners[:, 0] >= 0], partners[partners[:, 0] >= 0]
            own = int((partners >= 0).sum())
            if len(rows):
                sides = embedded.sides(schema.FINDINGS[finding])
                affirmed = wins(vectors @ sides.positive, vectors @ sides.negative)
                denied = np.where(partners >= 0, 1 - affirmed[partners], np.nan)
                draws = bootstrap.draws(mean(affirmed[rows] * np.nanmean(denied, axis=1)), rows)
                note, parts[finding] = "", Part(draws, rows)
                pairs += own
            yield Result.of(
                f"pair_strict/{schema.FINDINGS[finding]}",
                evalset,
                draws,
                bootstrap,
                rows,
                about=(finding,),
                among=everyone,
                pairs=own,
                note=note,
            )
        yield Result.macro("pair_strict/macro", evalset, bootstrap, parts, among=everyone, pairs=pairs)
