"""Pair-strict: the same finding on two images, one with and one without it; both must be called right.

An image-blind rule calls both images alike and scores 0; a coin scores one quarter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clinicclip.data import schema
from clinicclip.evals import matching
from clinicclip.evals.base import Embedded, EvalSet, Result
from clinicclip.evals.stats import Draws, PatientBootstrap, macro, mean, wins
from clinicclip.evals.truth import NORMAL


@dataclass(frozen=True)
class PairStrict:
    """Each image with the finding is averaged over its `partners` matched images without it."""

    partners: int = matching.CONTROL_IMAGES
    seed: int = 0

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `pair_strict/FINDING` for findings with both outcomes, and `pair_strict/macro`."""
        vectors = embedded.images(evalset)
        parts: list[Draws] = []
        members: list[np.ndarray] = []
        for finding, name in enumerate(schema.FINDINGS):
            rows = np.flatnonzero(evalset.truth[:, finding] == 1)
            if finding == NORMAL or not len(rows):
                continue
            partners = matching.without_finding(evalset, finding, rows, count=self.partners, seed=self.seed)
            rows, partners = rows[partners[:, 0] >= 0], partners[partners[:, 0] >= 0]
            if not len(rows):
                continue
            sides = embedded.sides(name)
            affirmed = wins(vectors @ sides.positive, vectors @ sides.negative)
            denied = np.where(partners >= 0, 1 - affirmed[partners], np.nan)
            parts.append(bootstrap.draws(mean(affirmed[rows] * np.nanmean(denied, axis=1)), rows))
            members.append(rows)
            yield self._result(evalset, bootstrap, name, parts[-1], rows, partners)
        if parts:
            yield self._result(evalset, bootstrap, "macro", macro(parts), np.concatenate(members), None)

    def _result(
        self,
        evalset: EvalSet,
        bootstrap: PatientBootstrap,
        name: str,
        draws: Draws,
        rows: np.ndarray,
        partners: np.ndarray | None,
    ) -> Result:
        note = "" if partners is None else f"{int((partners >= 0).sum())} pairs"
        return Result.of(f"pair_strict/{name}", evalset, draws, bootstrap, rows, truth=evalset.source, note=note)
