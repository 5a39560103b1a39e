"""Zero-shot classification by prompts: AUROC and AUPRC per finding, macro mean, and the normal class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from clinicclip.data import schema
from clinicclip.evals import benchmarks, prompts
from clinicclip.evals.base import Curve, Embedded, EvalSet, Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, few_outcomes, macro
from clinicclip.evals.truth import NORMAL

RULES = prompts.Scores._fields  # positive minus negative ensemble, and positive ensemble alone: always both
MEASURES = ("auroc", "auprc")
ONE_OUTCOME = "one outcome only"
FEW_NOTE = "few of one outcome: the interval is too narrow"


@dataclass(frozen=True)
class ZeroShot:
    """Scores every coded finding; the macro mean runs over `findings`.

    Where they are empty: over those that the literature reports of the release, or else all evaluable ones.
    """

    findings: Sequence[str] = ()

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result | Curve]:
        """Yield `zero_shot/SET/MEASURE/RULE/FINDING` for each finding, `macro` and `normal`."""
        evaluable = []
        wanted = self.findings or benchmarks.of(evalset.release).macro
        for finding in _coded(evalset, wanted):
            outcomes = np.unique(evalset.truth[:, finding][np.isfinite(evalset.truth[:, finding])])
            if len(outcomes) == 2:
                evaluable.append(finding)
            else:
                yield from _one_outcome(evalset, finding, bootstrap)
        parts: dict[tuple[str, str, int], Draws] = {}
        normal_known = len(np.unique(evalset.normal[np.isfinite(evalset.normal)])) == 2
        for finding in [*evaluable, NORMAL] if normal_known else evaluable:
            truth = evalset.normal if finding == NORMAL else evalset.truth[:, finding]
            yield from self._score(evalset, embedded, bootstrap, finding, truth, parts)
        members = [f for f in evaluable if not wanted or schema.FINDINGS[f] in wanted]
        if members:
            yield from _macro(evalset, bootstrap, members, parts)

    def _score(
        self,
        evalset: EvalSet,
        embedded: Embedded,
        bootstrap: PatientBootstrap,
        finding: int,
        truth: Float32[np.ndarray, "n"],
        parts: dict[tuple[str, str, int], Draws],
    ) -> Iterator[Result | Curve]:
        rows = np.flatnonzero(np.isfinite(truth))
        present = truth[rows] == 1
        label = "normal" if finding == NORMAL else schema.FINDINGS[finding]
        vectors = embedded.images(evalset)[rows]
        sides = embedded.sides(schema.FINDINGS[finding])
        for rule, scores in prompts.scores(vectors, sides)._asdict().items():
            ranking = Ranking(present, scores)
            yield Curve(evalset.name, label, rule, rows, present, scores)
            for measure in MEASURES:
                draws = bootstrap.draws(getattr(ranking, measure), rows)
                parts[measure, rule, finding] = draws
                yield Result.of(
                    f"zero_shot/{evalset.name}/{measure}/{rule}/{label}",
                    evalset,
                    draws,
                    bootstrap,
                    rows,
                    positives=int(present.sum()),
                    truth=evalset.source,
                    note=FEW_NOTE if few_outcomes(present) else "",
                )


def _coded(evalset: EvalSet, wanted: Sequence[str]) -> list[int]:
    """Findings with any known label, and those asked for; the normal class stands on its own."""
    known = np.isfinite(evalset.truth).any(axis=0)
    return [i for i, name in enumerate(schema.FINDINGS) if i != NORMAL and (known[i] or name in wanted)]


def _one_outcome(evalset: EvalSet, finding: int, bootstrap: PatientBootstrap) -> Iterator[Result]:
    """A class without both outcomes is reported as such, never left out or scored."""
    column = evalset.truth[:, finding]
    rows = np.flatnonzero(np.isfinite(column))
    positives = int((column == 1).sum())
    for measure in MEASURES:
        for rule in RULES:
            yield Result.of(
                f"zero_shot/{evalset.name}/{measure}/{rule}/{schema.FINDINGS[finding]}",
                evalset,
                NOTHING,
                bootstrap,
                rows,
                positives=positives,
                truth=evalset.source,
                note=ONE_OUTCOME if len(rows) else "not coded in this set",
            )


def _macro(
    evalset: EvalSet,
    bootstrap: PatientBootstrap,
    members: list[int],
    parts: dict[tuple[str, str, int], Draws],
) -> Iterator[Result]:
    rows = np.flatnonzero(np.isfinite(evalset.truth[:, members]).any(axis=1))
    for measure in MEASURES:
        for rule in RULES:
            yield Result.of(
                f"zero_shot/{evalset.name}/{measure}/{rule}/macro",
                evalset,
                macro([parts[measure, rule, finding] for finding in members]),
                bootstrap,
                rows,
                truth=evalset.source,
                note="mean over " + ", ".join(schema.FINDINGS[finding] for finding in members),
            )
