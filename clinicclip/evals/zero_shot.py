"""Zero-shot classification by prompts: AUROC and AUPRC per finding, macro mean, and the normal class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clinicclip.data import schema
from clinicclip.evals import benchmarks, outcomes, prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Curve, Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, macro
from clinicclip.evals.truth import NORMAL

RULES = prompts.Scores._fields  # positive minus negative ensemble, and positive ensemble alone: always both
MEASURES = ("auroc", "auprc")


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
            if outcomes.both(evalset.truth[:, finding]):
                evaluable.append(finding)
            else:
                yield from _one_outcome(evalset, finding, bootstrap)
        parts: dict[tuple[str, str, int], Draws] = {}
        for finding in evaluable:
            yield from self._score(evalset, embedded, bootstrap, finding, parts)
        if outcomes.both(evalset.normal):
            yield from self._score(evalset, embedded, bootstrap, NORMAL, parts)
        else:
            yield from _one_outcome(evalset, NORMAL, bootstrap)
        members = [f for f in evaluable if not wanted or schema.FINDINGS[f] in wanted]
        yield from _macro(evalset, bootstrap, members, parts)

    def _score(
        self,
        evalset: EvalSet,
        embedded: Embedded,
        bootstrap: PatientBootstrap,
        finding: int,
        parts: dict[tuple[str, str, int], Draws],
    ) -> Iterator[Result | Curve]:
        truth = evalset.labels([finding])[:, 0]
        rows = np.flatnonzero(np.isfinite(truth))
        present, label = truth[rows] == 1, outcomes.label(finding)
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
                    about=(finding,),
                    note=outcomes.few(present),
                )


def _coded(evalset: EvalSet, wanted: Sequence[str]) -> list[int]:
    """Findings with any known label, and those asked for; the normal class stands on its own."""
    known = outcomes.coded(evalset)
    return [i for i, name in enumerate(schema.FINDINGS) if i in known or (name in wanted and i != NORMAL)]


def _one_outcome(evalset: EvalSet, finding: int, bootstrap: PatientBootstrap) -> Iterator[Result]:
    """A class without both outcomes is reported as such, never left out or scored."""
    column = evalset.labels([finding])[:, 0]
    rows = np.flatnonzero(np.isfinite(column))
    for measure in MEASURES:
        for rule in RULES:
            yield Result.of(
                f"zero_shot/{evalset.name}/{measure}/{rule}/{outcomes.label(finding)}",
                evalset,
                NOTHING,
                bootstrap,
                rows,
                about=(finding,),
                note=outcomes.lacking(column),
            )


def _macro(
    evalset: EvalSet,
    bootstrap: PatientBootstrap,
    members: list[int],
    parts: dict[tuple[str, str, int], Draws],
) -> Iterator[Result]:
    rows = np.flatnonzero(np.isfinite(evalset.truth[:, members]).any(axis=1))
    note = "mean over " + ", ".join(map(outcomes.label, members)) if members else "no finding has both outcomes"
    for measure in MEASURES:
        for rule in RULES:
            yield Result.of(
                f"zero_shot/{evalset.name}/{measure}/{rule}/macro",
                evalset,
                macro([parts[measure, rule, finding] for finding in members]) if members else NOTHING,
                bootstrap,
                rows,
                about=members,
                note=note,
            )
