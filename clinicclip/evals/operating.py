"""Probabilities and decisions of zero-shot scores: temperature and threshold from validation, measured on the set."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from clinicclip.data import schema
from clinicclip.evals import calibration, outcomes, prompts
from clinicclip.evals.base import Embedded, EvalSet, Seen
from clinicclip.evals.results import Calibrated, Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, Statistic
from clinicclip.evals.truth import NORMAL

RULE = "pair"
METRICS = (
    "calibration/ece",
    "calibration/brier",
    *(f"operating/{name}" for name in ("sensitivity", "specificity", "ppv", "npv", "f1")),
)
NONE_CHOSEN = "no finding has both outcomes in both splits"
NO_VALIDATION = "no validation split of other patients to choose a threshold by"


@dataclass(frozen=True)
class Operating:
    """Every finding with both outcomes in the validation split; it is never chosen on the set that is measured."""

    validation: Seen | None

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result | Calibrated]:
        """Yield `calibration/{ece,brier}/FINDING` and `operating/{sensitivity,...,f1}/FINDING`, each with a macro."""
        everyone = np.arange(len(evalset))
        if self.validation is None:
            for name in METRICS:
                yield Result.of(f"{name}/macro", evalset, NOTHING, bootstrap, everyone, note=NO_VALIDATION)
            return
        parts: dict[str, dict[int, Part]] = {name: {} for name in METRICS}
        for finding in [*outcomes.coded(evalset), NORMAL]:
            chosen, truth = (one.labels([finding])[:, 0] for one in (self.validation.evalset, evalset))
            known, rows = np.flatnonzero(np.isfinite(chosen)), np.flatnonzero(np.isfinite(truth))
            label, name = outcomes.label(finding), schema.FINDINGS[finding]
            here, there = outcomes.lacking(truth), outcomes.lacking(chosen)
            if here or there:
                note = here or f"{there}, of split {self.validation.evalset.split}"
                yield from (
                    Result.of(f"{metric}/{label}", evalset, NOTHING, bootstrap, rows, about=(finding,), note=note)
                    for metric in METRICS
                )
                continue
            present = truth[rows] == 1
            before = _scores(self.validation, name)[known]
            scaling = calibration.fit_scaling(chosen[known] == 1, before)
            threshold = calibration.youden(chosen[known] == 1, before)
            scores = _scores(Seen(evalset, embedded), name)[rows]
            p = scaling.probabilities(scores)
            yield Calibrated(evalset.name, label, calibration.reliability(present, p))
            statistics: dict[str, Statistic] = {
                "calibration/ece": calibration.ece(present, p),
                "calibration/brier": calibration.brier(present, p),
            }
            statistics |= {f"operating/{k}": v for k, v in calibration.decisions(present, scores >= threshold).items()}
            note = f"chosen on {self.validation.evalset.split} ({len(known)} studies): threshold {threshold:.4f}, "
            note += f"temperature {scaling.temperature:.4g}, offset {scaling.offset:.4g}"
            for metric, statistic in statistics.items():
                draws = bootstrap.draws(statistic, rows)
                if finding != NORMAL and np.isfinite(draws.value):
                    parts[metric][finding] = Part(draws, rows)
                yield Result.of(f"{metric}/{label}", evalset, draws, bootstrap, rows, about=(finding,), note=note)
        for metric, measured in parts.items():
            yield Result.macro(f"{metric}/macro", evalset, bootstrap, measured, lacking=NONE_CHOSEN)


def _scores(seen: Seen, finding: str) -> Float[np.ndarray, "n"]:
    sides = seen.embedded.sides(finding)
    return getattr(prompts.scores(seen.embedded.images(seen.evalset), sides), RULE).astype(np.float64)
