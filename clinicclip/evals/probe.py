"""Linear probe: logistic regression on frozen image embeddings, learnt from 1, 10 and 100 % of the training patients.

The strength of its penalty is chosen on the validation split, for all findings alike; without one it is the default.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int
from sklearn.linear_model import LogisticRegression

from clinicclip.data import schema
from clinicclip.evals.base import Embedded, EvalSet, Result, Seen
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, auroc, macro
from clinicclip.evals.truth import NORMAL

SHARES = (0.01, 0.1, 1.0)  # of the training patients
SEEDS = (0, 1, 2)  # of the patients drawn
STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of scikit-learn: the larger, the weaker the penalty
DEFAULT_STRENGTH = 1.0
STEPS = 500
NO_TRAINING = "no training split of other patients: nothing to learn a probe from"


def drawn(patients: Sequence[str], share: float, seed: int) -> Int[np.ndarray, "r"]:
    """Rows of a share of the patients, at least one, drawn by seed; a smaller share is part of a larger one."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = np.zeros(len(names), bool)
    chosen[order[: max(1, round(share * len(names)))]] = True
    return np.flatnonzero(chosen[owner.reshape(-1)])


@dataclass(frozen=True)
class Probe:
    """Findings with both outcomes in the set and, in each draw, among the training patients drawn."""

    train: Seen | None
    validation: Seen | None
    shares: Sequence[float] = SHARES
    seeds: Sequence[int] = SEEDS

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `probe/auroc@SHARE/FINDING` and `macro`: means over the seeds, whose own values are in the note."""
        if self.train is None:
            yield Result.of("probe/auroc/macro", evalset, NOTHING, bootstrap, np.arange(len(evalset)), note=NO_TRAINING)
            return
        findings = [f for f in range(len(schema.FINDINGS)) if f != NORMAL and _both(evalset.truth[:, f])]
        for share in self.shares:
            by_finding: dict[int, list[Draws]] = {finding: [] for finding in findings}
            fitted: dict[int, Float[np.ndarray, "n"]] = {}
            for seed in self.seeds:
                if share < 1 or not fitted:  # all patients are the same ones whatever the seed
                    fitted = self._fit(evalset, embedded, findings, share, seed)
                for finding, scores in fitted.items():
                    rows = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
                    ranking = Ranking(evalset.truth[rows, finding] == 1, scores[rows])
                    by_finding[finding].append(bootstrap.draws(ranking.auroc, rows))
            yield from self._results(evalset, bootstrap, f"probe/auroc@{share:g}", by_finding)

    def _fit(
        self, evalset: EvalSet, embedded: Embedded, findings: Sequence[int], share: float, seed: int
    ) -> dict[int, Float[np.ndarray, "n"]]:
        """Log-odds of the set's images for each finding that the drawn patients teach."""
        assert self.train is not None
        rows = drawn(self.train.evalset.patients, share, seed)
        vectors, truth = self.train.embedded.images(self.train.evalset)[rows], self.train.evalset.truth[rows]
        taught = [finding for finding in findings if _both(truth[:, finding])]
        models = {c: {f: _logistic(vectors, truth[:, f], c) for f in taught} for c in self._strengths()}
        best = max(models, key=lambda c: self._worth(models[c])) if len(models) > 1 else next(iter(models))
        test = embedded.images(evalset)
        return {finding: model.decision_function(test).astype(np.float64) for finding, model in models[best].items()}

    def _strengths(self) -> Sequence[float]:
        return (DEFAULT_STRENGTH,) if self.validation is None else STRENGTHS

    def _worth(self, models: dict[int, LogisticRegression]) -> float:
        """Mean AUROC on the validation split, over the findings with both outcomes there."""
        assert self.validation is not None
        vectors, truth = self.validation.embedded.images(self.validation.evalset), self.validation.evalset.truth
        areas = []
        for finding, model in models.items():
            known = np.isfinite(truth[:, finding])
            if _both(truth[:, finding]):
                areas.append(auroc(truth[known, finding] == 1, model.decision_function(vectors[known])))
        return float(np.mean(areas)) if areas else 0.0

    def _results(
        self, evalset: EvalSet, bootstrap: PatientBootstrap, metric: str, by_finding: dict[int, list[Draws]]
    ) -> Iterator[Result]:
        complete: list[Draws] = []
        for finding, parts in by_finding.items():
            rows = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
            whole = len(parts) == len(self.seeds)
            draws, note = NOTHING, f"{len(parts)} of {len(self.seeds)} draws of patients hold both outcomes"
            if whole:
                draws, note = macro(parts), self._note(parts)
                complete.append(draws)
            yield Result.of(
                f"{metric}/{schema.FINDINGS[finding]}",
                evalset,
                draws,
                bootstrap,
                rows,
                positives=int((evalset.truth[:, finding] == 1).sum()),
                truth=evalset.source,
                note=note,
            )
        draws = macro(complete) if complete else NOTHING
        names = [schema.FINDINGS[f] for f, parts in by_finding.items() if len(parts) == len(self.seeds)]
        note = "mean over " + ", ".join(names) if names else "no finding has both outcomes in every draw of patients"
        rows = np.arange(len(evalset))
        yield Result.of(f"{metric}/macro", evalset, draws, bootstrap, rows, truth=evalset.source, note=note)

    def _note(self, parts: Sequence[Draws]) -> str:
        return "by seed " + ", ".join(f"{draws.value:.3f}" for draws in parts)


def _both(truth: Float32[np.ndarray, "n"]) -> bool:
    return bool((truth == 1).any() and (truth == 0).any())


def _logistic(
    vectors: Float32[np.ndarray, "n d"], truth: Float32[np.ndarray, "n"], strength: float
) -> LogisticRegression:
    known = np.isfinite(truth)
    return LogisticRegression(C=strength, max_iter=STEPS).fit(vectors[known], truth[known] == 1)
