"""Linear probe: logistic regression on frozen image embeddings, learnt from 1, 10 and 100 % of the training patients.

The strength of its penalty is chosen on the validation split, for all findings alike; without one it is the default.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from clinicclip.evals.base import Embedded, EvalSet, Seen
from clinicclip.evals.outcomes import both, coded
from clinicclip.evals.results import Result
from clinicclip.evals.shares import SEEDS, SHARES, drawn, results
from clinicclip.evals.stats import NOTHING, PatientBootstrap, auroc

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of scikit-learn: the larger, the weaker the penalty
DEFAULT_STRENGTH = 1.0
STEPS = 500
NO_TRAINING = "no training split of other patients: nothing to learn a probe from"


@dataclass(frozen=True)
class Probe:
    """Findings with both outcomes in the set and, in each draw, among the training patients drawn."""

    train: Seen | None
    validation: Seen | None
    shares: Sequence[float] = SHARES
    seeds: Sequence[int] = SEEDS

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `probe/auroc@SHARE/FINDING` and `macro`: means over the seeds, whose own values are in the note.

        The share of all patients has one fit: the loss is convex, so that no seed would change it.
        """
        if self.train is None:
            yield Result.of("probe/auroc/macro", evalset, NOTHING, bootstrap, np.arange(len(evalset)), note=NO_TRAINING)
            return
        for share in self.shares:
            once = share >= 1  # all patients are the same ones whatever the seed, and the best fit is one
            seeds = self.seeds[:1] if once else self.seeds
            fits = [self._fit(evalset, share, seed) for seed in seeds]
            test = embedded.images(evalset)
            by_seed = [
                {f: model.decision_function(test).astype(np.float64) for f, model in fit.items()} for fit in fits
            ]
            cut = {f for fit in fits for f, model in fit.items() if model.n_iter_[0] >= STEPS}
            yield from results(evalset, bootstrap, f"probe/auroc@{share:g}", by_seed, once=once, cut=cut)

    def _fit(self, evalset: EvalSet, share: float, seed: int) -> dict[int, Any]:
        """A model of each finding that the drawn patients teach."""
        assert self.train is not None
        rows = drawn(self.train.evalset.patients, share, seed)
        vectors, truth = self.train.embedded.images(self.train.evalset)[rows], self.train.evalset.truth[rows]
        taught = [finding for finding in coded(evalset) if both(evalset.truth[:, finding]) and both(truth[:, finding])]
        models = {c: {f: _logistic(vectors, truth[:, f], c) for f in taught} for c in self._strengths()}
        return max(models.values(), key=self._worth) if len(models) > 1 else next(iter(models.values()))

    def _strengths(self) -> Sequence[float]:
        return (DEFAULT_STRENGTH,) if self.validation is None else STRENGTHS

    def _worth(self, models: dict[int, Any]) -> float:
        """Mean AUROC on the validation split, over the findings with both outcomes there."""
        assert self.validation is not None
        vectors, truth = self.validation.embedded.images(self.validation.evalset), self.validation.evalset.truth
        areas = []
        for finding, model in models.items():
            known = np.isfinite(truth[:, finding])
            if both(truth[:, finding]):
                areas.append(auroc(truth[known, finding] == 1, model.decision_function(vectors[known])))
        return float(np.mean(areas)) if areas else 0.0


def _logistic(vectors: Float32[np.ndarray, "n d"], truth: Float32[np.ndarray, "n"], strength: float) -> Any:
    """The fitted ``LogisticRegression``."""
    from sklearn.linear_model import LogisticRegression  # slow to import: a run that starts does without

    known = np.isfinite(truth)
    return LogisticRegression(C=strength, max_iter=STEPS).fit(vectors[known], truth[known] == 1)
