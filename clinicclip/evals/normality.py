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
from clinicclip.evals import outcomes, prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, Ranking, mean
from clinicclip.evals.truth import NORMAL

RULE = "pair"
METRICS = ("auroc/prompts", "auroc/no_finding_stands_out", "false_alarms", "auroc/abnormal")
NONE_PRESENT = "no abnormal finding is present"


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
        why = outcomes.lacking(evalset.normal) or ("" if coded else NONE_PRESENT)
        if why:
            for metric in METRICS:
                yield Result.of(f"normality/{metric}", evalset, NOTHING, bootstrap, rows, about=(NORMAL,), note=why)
            return
        vectors = embedded.images(evalset)
        found = [prompts.scores(vectors, embedded.sides(schema.FINDINGS[finding])) for finding in coded]
        scores = np.stack([getattr(one, RULE) for one in found], axis=1)
        direct = getattr(prompts.scores(vectors, embedded.sides("no_finding")), RULE)
        for name, column in (("prompts", direct), ("no_finding_stands_out", -_standing_out(scores))):
            draws = bootstrap.draws(Ranking(normal, column[rows]).auroc, rows)
            yield Result.of(f"normality/auroc/{name}", evalset, draws, bootstrap, rows, about=(NORMAL,))
        clean, note = rows[normal], f"{len(coded)} findings in normal images"
        draws = bootstrap.draws(mean((scores[clean] > 0).mean(axis=1)), clean)
        yield Result.of(
            "normality/false_alarms", evalset, draws, bootstrap, clean, about=(NORMAL,), among=rows, note=note
        )
        yield from self._abnormal(evalset, bootstrap, coded, scores)

    def _abnormal(
        self, evalset: EvalSet, bootstrap: PatientBootstrap, coded: list[int], scores: Float[np.ndarray, "n f"]
    ) -> Iterator[Result]:
        """The mean AUROC of the abnormal classes, each over the images where it is known."""
        parts: dict[int, Part] = {}
        for place, finding in enumerate(coded):
            known = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
            present = evalset.truth[known, finding] == 1
            if not present.all():
                parts[finding] = Part(bootstrap.draws(Ranking(present, scores[known, place]).auroc, known), known)
        yield Result.macro("normality/auroc/abnormal", evalset, bootstrap, parts, lacking=outcomes.ONE_OUTCOME)


def _standing_out(scores: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n"]:
    """Per image its highest score, each finding's in deviations from its mean over the set."""
    spread = scores.std(axis=0)
    return ((scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1)).max(axis=1)
