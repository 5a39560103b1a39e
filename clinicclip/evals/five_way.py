"""Accuracy among five findings of which an image shows exactly one: the measure of the CheXpert 5x200 set.

In 5x200 these are all images; of any other set that codes the five, those that show one of them alone.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clinicclip.data import schema
from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.benchmarks import FIVE
from clinicclip.evals.results import Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, macro, mean

RULES = prompts.Scores._fields
NONE = "no image is known to show exactly one of the five"


@dataclass(frozen=True)
class FiveWay:
    """The finding whose prompts score highest is called; five that tie share the point."""

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `five_way/accuracy/RULE` and, each class counting alike, `five_way/balanced_accuracy/RULE`."""
        vectors, columns = embedded.images(evalset), tuple(schema.INDEX[name] for name in FIVE)
        labels = evalset.truth[:, columns]
        rows = np.flatnonzero(np.isfinite(labels).all(axis=1) & ((labels == 1).sum(axis=1) == 1))
        if not len(rows):
            everyone = np.arange(len(evalset))
            for kind, rule in itertools.product(("accuracy", "balanced_accuracy"), RULES):
                name = f"five_way/{kind}/{rule}"
                yield Result.of(name, evalset, NOTHING, bootstrap, rows, about=columns, among=everyone, note=NONE)
            return
        shown = np.argmax(labels[rows], axis=1)
        by_finding = [prompts.scores(vectors[rows], embedded.sides(name)) for name in FIVE]
        present = np.unique(shown)
        note = "images: " + ", ".join(f"{name} {int((shown == place).sum())}" for place, name in enumerate(FIVE))
        for rule in RULES:
            scores = np.stack([getattr(found, rule) for found in by_finding], axis=1)
            best = scores == scores.max(axis=1, keepdims=True)
            right = best[np.arange(len(rows)), shown] / best.sum(axis=1)
            parts = [bootstrap.draws(mean(right[shown == place]), rows[shown == place]) for place in present]
            for name, draws in (
                ("accuracy", bootstrap.draws(mean(right), rows)),
                ("balanced_accuracy", macro(parts)),
            ):
                yield Result.of(f"five_way/{name}/{rule}", evalset, draws, bootstrap, rows, about=columns, note=note)
