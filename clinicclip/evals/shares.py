"""Learning from a share of the labels: which patients are drawn, and how the results of several seeds are told."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from clinicclip.evals import outcomes
from clinicclip.evals.base import EvalSet
from clinicclip.evals.results import Part, Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, macro

SHARES = (0.01, 0.1, 1.0)  # of the training patients
SEEDS = (0, 1, 2)  # of the patients drawn
CUT = "a fit was stopped before it was at its best"
ONCE = "one fit of all patients, which no seed changes"
NONE_COMPLETE = "no finding has both outcomes in every draw of patients"


def drawn(patients: Sequence[str], share: float, seed: int) -> Int[np.ndarray, "r"]:
    """Rows of a share of the patients, at least one, drawn by seed; a smaller share is part of a larger one."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = np.zeros(len(names), bool)
    chosen[order[: max(1, round(share * len(names)))]] = True
    return np.flatnonzero(chosen[owner.reshape(-1)])


def results(
    evalset: EvalSet,
    bootstrap: PatientBootstrap,
    metric: str,
    by_seed: Sequence[Mapping[int, Float[np.ndarray, "n"]]],
    *,
    once: bool = False,
    cut: Collection[int] = (),
) -> Iterator[Result]:
    """Yield `METRIC/FINDING` and `METRIC/macro`: the mean AUROC of the seeds, whose own values are in the note.

    ``by_seed`` holds a score of every study for each finding that a seed's patients could teach. The macro is over
    the findings that all seeds' could. ``once``: there is one fit, and seeds would not change it. ``cut``: the findings
    of which a fit was not finished.
    """
    complete: dict[int, Part] = {}
    for finding in outcomes.coded(evalset):
        rows = np.flatnonzero(np.isfinite(evalset.truth[:, finding]))
        draws, note = NOTHING, outcomes.lacking(evalset.truth[rows, finding])
        if not note:
            present = evalset.truth[rows, finding] == 1
            scores = [found[finding][rows] for found in by_seed if finding in found]
            parts = [bootstrap.draws(Ranking(present, column).auroc, rows) for column in scores]
            draws, note = _told(parts, len(by_seed), once, finding in cut)
            if len(parts) == len(by_seed):
                complete[finding] = Part(draws, rows)
        name = f"{metric}/{outcomes.label(finding)}"
        yield Result.of(name, evalset, draws, bootstrap, rows, about=(finding,), note=note)
    yield Result.macro(f"{metric}/macro", evalset, bootstrap, complete, lacking=NONE_COMPLETE)


def _told(parts: Sequence[Draws], seeds: int, once: bool, cut: bool) -> tuple[Draws, str]:
    """The mean of the seeds that have a score, and what is to be said of them."""
    short = "" if len(parts) == seeds else f"{len(parts)} of {seeds} draws of patients hold both outcomes"
    if not parts:
        return NOTHING, short
    values = ONCE if once else "by seed " + ", ".join(f"{part.value:.3f}" for part in parts)
    return macro(parts), "; ".join(filter(None, (values, short, CUT * cut)))
