"""Normal against abnormal, as OFF-CLIP reports it: the AUROC of the normal class and of the abnormal ones.

Contrastive training on reports draws normal images apart; a normal image then looks like some finding. Besides the
normal class's own prompts, an image is scored as normal by how little its best finding stands out.

Source: OFF-CLIP (MICCAI 2025, arXiv:2503.01794) for the measures; the prompts are our own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from clinicclip.data import schema
from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EvalSet, Result
from clinicclip.evals.stats import PatientBootstrap, Ranking, Statistic, few_outcomes, macro, mean
from clinicclip.evals.zero_shot import FEW_NOTE

RULE = "pair"


@dataclass(frozen=True)
class Normality:
    """Over the studies of which it is known whether they are normal."""

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `normality/auroc/{prompts,no_finding_stands_out,abnormal}` and `normality/false_alarms`.

        `false_alarms` is the mean share of the coded findings that are called, pair score above 0, in a normal image.
        """
        rows = np.flatnonzero(np.isfinite(evalset.normal))
        normal = evalset.normal[rows] == 1
        coded = [
            finding
            for finding, name in enumerate(schema.FINDINGS)
            if name not in schema.NOT_ABNORMAL and (evalset.truth[:, finding] == 1).any()
        ]
        if not coded or normal.all() or not normal.any():
            return
        vectors = embedded.images(evalset)
        found = [prompts.scores(vectors, embedded.sides(schema.FINDINGS[finding])) for finding in coded]
        scores = np.stack([getattr(one, RULE) for one in found], axis=1)
        direct = getattr(prompts.scores(vectors, embedded.sides("no_finding")), RULE)[rows]
        clean = rows[normal]

        def result(metric: str, statistic: Statistic, of: np.ndarray, positives: int | None, note: str) -> Result:
            draws = bootstrap.draws(statistic, of)
            return Result.of(
                f"normality/{metric}",
                evalset,
                draws,
                bootstrap,
                of,
                positives=positives,
                truth=evalset.source,
                note=note,
            )

        few = FEW_NOTE if few_outcomes(normal) else ""
        yield result("auroc/prompts", Ranking(normal, direct).auroc, rows, int(normal.sum()), few)
        quiet = -_standing_out(scores)[rows]
        yield result("auroc/no_finding_stands_out", Ranking(normal, quiet).auroc, rows, int(normal.sum()), few)
        alarms = (scores[clean] > 0).mean(axis=1)
        yield result("false_alarms", mean(alarms), clean, None, f"{len(coded)} findings in normal images")
        yield from self._abnormal(evalset, bootstrap, coded, scores)

    def _abnormal(
        self, evalset: EvalSet, bootstrap: PatientBootstrap, coded: list[int], scores: Float[np.ndarray, "n f"]
    ) -> Iterator[Result]:
        """The mean AUROC of the abnormal classes, each over the images where it is known."""
        parts, names = [], []
        for place, finding in enumerate(coded):
            known = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
            present = evalset.truth[known, finding] == 1
            if not present.all():
                parts.append(bootstrap.draws(Ranking(present, scores[known, place]).auroc, known))
                names.append(schema.FINDINGS[finding])
        if parts:
            rows = np.flatnonzero(np.isfinite(evalset.truth[:, coded]).any(axis=1))
            yield Result.of(
                "normality/auroc/abnormal",
                evalset,
                macro(parts),
                bootstrap,
                rows,
                truth=evalset.source,
                note="mean over " + ", ".join(names),
            )


def _standing_out(scores: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n"]:
    """Per image its highest score, each finding's in deviations from its mean over the set."""
    spread = scores.std(axis=0)
    return ((scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1)).max(axis=1)
