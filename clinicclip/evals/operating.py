"""Probabilities and decisions of zero-shot scores: temperature and threshold from validation, measured on the set."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from clinicclip.data import schema
from clinicclip.evals import calibration, prompts
from clinicclip.evals.base import Calibrated, Embedded, EvalSet, Result, Seen
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Statistic, macro
from clinicclip.evals.truth import NORMAL

RULE = "pair"
NO_VALIDATION = "no validation split of other patients: nothing to choose a threshold or temperature on"


@dataclass(frozen=True)
class Operating:
    """Every finding with both outcomes in the validation split; it is never chosen on the set that is measured."""

    validation: Seen | None

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result | Calibrated]:
        """Yield `calibration/{ece,brier}/FINDING` and `operating/{sensitivity,...,f1}/FINDING`, each with a macro."""
        if self.validation is None:
            everyone = np.arange(len(evalset))
            for name in ("calibration/ece/macro", "operating/sensitivity/macro"):
                yield Result.of(name, evalset, NOTHING, bootstrap, everyone, note=NO_VALIDATION)
            return
        parts: dict[str, list[Draws]] = {}
        for finding, name in enumerate(schema.FINDINGS):
            chosen, truth = _truth(self.validation.evalset, finding), _truth(evalset, finding)
            if not (_both(chosen) and _both(truth)):
                continue
            known, rows = np.flatnonzero(np.isfinite(chosen)), np.flatnonzero(np.isfinite(truth))
            present = truth[rows] == 1
            before = _scores(self.validation, name)[known]
            scaling = calibration.fit_scaling(chosen[known] == 1, before)
            threshold = calibration.youden(chosen[known] == 1, before)
            scores = _scores(Seen(evalset, embedded), name)[rows]
            p = scaling.probabilities(scores)
            label = "normal" if finding == NORMAL else name
            yield Calibrated(evalset.name, label, calibration.reliability(present, p))
            measured: dict[str, Statistic] = {
                "calibration/ece": calibration.ece(present, p),
                "calibration/brier": calibration.brier(present, p),
            }
            measured |= {f"operating/{k}": v for k, v in calibration.decisions(present, scores >= threshold).items()}
            note = f"chosen on {self.validation.evalset.split} ({len(known)} studies): threshold {threshold:.4f}, "
            note += f"temperature {scaling.temperature:.4g}, offset {scaling.offset:.4g}"
            for metric, statistic in measured.items():
                draws = bootstrap.draws(statistic, rows)
                parts.setdefault(metric, []).extend([draws] if finding != NORMAL and np.isfinite(draws.value) else [])
                yield Result.of(
                    f"{metric}/{label}",
                    evalset,
                    draws,
                    bootstrap,
                    rows,
                    positives=int(present.sum()),
                    truth=evalset.source,
                    note=note,
                )
        for metric, draws_of in parts.items():
            if draws_of:
                note = f"mean over {len(draws_of)} findings"
                everyone = np.arange(len(evalset))
                yield Result.of(f"{metric}/macro", evalset, macro(draws_of), bootstrap, everyone, note=note)


def _truth(evalset: EvalSet, finding: int) -> Float32[np.ndarray, "n"]:
    return evalset.normal if finding == NORMAL else evalset.truth[:, finding]


def _both(truth: Float32[np.ndarray, "n"]) -> bool:
    return bool((truth == 1).any() and (truth == 0).any())


def _scores(seen: Seen, finding: str) -> Float[np.ndarray, "n"]:
    sides = seen.embedded.sides(finding)
    return getattr(prompts.scores(seen.embedded.images(seen.evalset), sides), RULE).astype(np.float64)
