"""Learning from a share of the labels: which patients are drawn, and how the results of several seeds are told."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from clinicclip.data import schema
from clinicclip.evals.base import EvalSet, Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, macro
from clinicclip.evals.truth import NORMAL

SHARES = (0.01, 0.1, 1.0)  # of the training patients
SEEDS = (0, 1, 2)  # of the patients drawn


def drawn(patients: Sequence[str], share: float, seed: int) -> Int[np.ndarray, "r"]:
    """Rows of a share of the patients, at least one, drawn by seed; a smaller share is part of a larger one."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = np.zeros(len(names), bool)
    chosen[order[: max(1, round(share * len(names)))]] = True
    return np.flatnonzero(chosen[owner.reshape(-1)])


def both(truth: Float32[np.ndarray, "n"]) -> bool:
    """Whether both outcomes are known of some row."""
    return bool((truth == 1).any() and (truth == 0).any())


def measured(evalset: EvalSet) -> list[int]:
    """The findings that a set can measure: those with both outcomes, without the normal class."""
    return [finding for finding in range(len(schema.FINDINGS)) if finding != NORMAL and both(evalset.truth[:, finding])]


def results(
    evalset: EvalSet,
    bootstrap: PatientBootstrap,
    metric: str,
    by_seed: Sequence[Mapping[int, Float[np.ndarray, "n"]]],
) -> Iterator[Result]:
    """Yield `METRIC/FINDING` and `METRIC/macro`: the mean AUROC of the seeds, whose own values are in the note.

    ``by_seed`` holds a score of every study for each finding that a seed's patients could teach. The macro is over
    the findings that all seeds' could.
    """
    complete: dict[str, Draws] = {}
    for finding in measured(evalset):
        rows = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
        present = evalset.truth[rows, finding] == 1
        scores = [found[finding][rows] for found in by_seed if finding in found]
        draws, note = NOTHING, f"{len(scores)} of {len(by_seed)} draws of patients hold both outcomes"
        if scores:
            parts = [bootstrap.draws(Ranking(present, column).auroc, rows) for column in scores]
            draws, told = macro(parts), "by seed " + ", ".join(f"{part.value:.3f}" for part in parts)
            note = told if len(parts) == len(by_seed) else f"{told}; {note}"
        if len(scores) == len(by_seed):
            complete[schema.FINDINGS[finding]] = draws
        yield Result.of(
            f"{metric}/{schema.FINDINGS[finding]}",
            evalset,
            draws,
            bootstrap,
            rows,
            positives=int(present.sum()),
            truth=evalset.source,
            note=note,
        )
    note = "mean over " + ", ".join(complete) if complete else "no finding has both outcomes in every draw of patients"
    draws = macro(list(complete.values())) if complete else NOTHING
    rows = np.arange(len(evalset))
    yield Result.of(f"{metric}/macro", evalset, draws, bootstrap, rows, truth=evalset.source, note=note)
