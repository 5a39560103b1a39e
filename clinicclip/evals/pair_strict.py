"""Pair-strict: the same finding on two images, one with and one without it; both must be called right.

An image-blind rule calls both images alike and scores 0; a coin scores one quarter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clinicclip.data import schema
from clinicclip.evals import matching, outcomes
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, macro, mean, wins


@dataclass(frozen=True)
class PairStrict:
    """Each image with the finding is averaged over its `partners` matched images without it."""

    partners: int = matching.CONTROL_IMAGES
    seed: int = 0

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `pair_strict/FINDING` for every coded finding, and `macro`; prevalence is that of the set."""
        vectors, everyone = embedded.images(evalset), np.arange(len(evalset))
        parts: dict[int, Draws] = {}
        members = [np.zeros(0, int)]
        for finding in outcomes.coded(evalset):
            draws, note = NOTHING, outcomes.lacking(evalset.truth[:, finding])
            rows = np.flatnonzero(evalset.truth[:, finding] == 1)
            partners = matching.without_finding(evalset, finding, rows, count=self.partners, seed=self.seed)
            rows, partners = rows[partners[:, 0] >= 0], partners[partners[:, 0] >= 0]
            if len(rows):
                sides = embedded.sides(schema.FINDINGS[finding])
                affirmed = wins(vectors @ sides.positive, vectors @ sides.negative)
                denied = np.where(partners >= 0, 1 - affirmed[partners], np.nan)
                draws = bootstrap.draws(mean(affirmed[rows] * np.nanmean(denied, axis=1)), rows)
                note = f"{int((partners >= 0).sum())} pairs"
                parts[finding] = draws
                members.append(rows)
            yield Result.of(
                f"pair_strict/{schema.FINDINGS[finding]}",
                evalset,
                draws,
                bootstrap,
                rows,
                about=(finding,),
                among=everyone,
                note=note or matching.NO_IMAGES,
            )
        yield Result.of(
            "pair_strict/macro",
            evalset,
            macro(list(parts.values())) if parts else NOTHING,
            bootstrap,
            np.concatenate(members),
            about=tuple(parts),
            among=everyone,
            note="mean over " + ", ".join(map(outcomes.label, parts)) if parts else "no finding has both outcomes",
        )
