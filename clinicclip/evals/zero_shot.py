"""Zero-shot classification by prompts: AUROC and AUPRC per finding, macro mean, and the normal class."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from clinicclip.data import schema
from clinicclip.evals import benchmarks, outcomes, prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Curve, Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, Ranking
from clinicclip.evals.truth import NORMAL

RULES = prompts.Scores._fields  # positive minus negative ensemble, and positive ensemble alone: always both
MEASURES = ("auroc", "auprc")
Kind = tuple[str, str]  # of MEASURES and of RULES


@dataclass(frozen=True)
class ZeroShot:
    """Scores every coded finding; the macro mean runs over `findings`.

    Where they are empty: over those that the literature reports of the release, or else all evaluable ones.
    """

    findings: Sequence[str] = ()

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result | Curve]:
        """Yield `zero_shot/SET/MEASURE/RULE/FINDING` for each finding, `macro` and `normal`."""
        wanted = self.findings or benchmarks.of(evalset.release).macro
        vectors = embedded.images(evalset)
        parts: dict[Kind, dict[int, Part]] = {kind: {} for kind in itertools.product(MEASURES, RULES)}
        for finding in [*_coded(evalset, wanted), NORMAL]:
            truth = evalset.labels([finding])[:, 0]
            rows = np.flatnonzero(np.isfinite(truth))
            if not outcomes.both(truth):
                yield from _one_outcome(evalset, finding, bootstrap, rows, outcomes.lacking(truth))
                continue
            present, label = truth[rows] == 1, outcomes.label(finding)
            scores = prompts.scores(vectors[rows], embedded.sides(schema.FINDINGS[finding]))
            for rule, column in scores._asdict().items():
                ranking = Ranking(present, column)
                yield Curve(evalset.name, label, rule, rows, present, column)
                for measure in MEASURES:
                    draws = bootstrap.draws(getattr(ranking, measure), rows)
                    yield Result.of(
                        _name(evalset, measure, rule, label), evalset, draws, bootstrap, rows, about=(finding,)
                    )
                    if finding != NORMAL and (not wanted or schema.FINDINGS[finding] in wanted):
                        parts[measure, rule][finding] = Part(draws, rows)
        for kind, members in parts.items():
            yield Result.macro(_name(evalset, *kind, "macro"), evalset, bootstrap, members)


def _name(evalset: EvalSet, measure: str, rule: str, finding: str) -> str:
    return f"zero_shot/{evalset.name}/{measure}/{rule}/{finding}"


def _coded(evalset: EvalSet, wanted: Sequence[str]) -> list[int]:
    """Findings with any known label, and those asked for; the normal class stands on its own."""
    known = outcomes.coded(evalset)
    return [i for i, name in enumerate(schema.FINDINGS) if i in known or (name in wanted and i != NORMAL)]


def _one_outcome(
    evalset: EvalSet, finding: int, bootstrap: PatientBootstrap, rows: Int[np.ndarray, "r"], why: str
) -> Iterator[Result]:
    """A class without both outcomes is reported as such, never left out or scored."""
    for kind in itertools.product(MEASURES, RULES):
        name = _name(evalset, *kind, outcomes.label(finding))
        yield Result.of(name, evalset, NOTHING, bootstrap, rows, about=(finding,), note=why)
