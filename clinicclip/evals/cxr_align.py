"""CXR-Align: does the image prefer its report to the same report with a finding denied, or left out?

Task A: cos(v, r) > cos(v, r^n); Task B: cos(v, r) > cos(v, r^o). Every rate has a wrong-image control: the
same texts against images of other patients without the finding. A habit of the text tower lifts both alike;
only seeing lifts `image_driven`, the rate minus its control.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from clinicclip.data import negation, schema
from clinicclip.data.generators import templates
from clinicclip.evals import matching, outcomes
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap, mean, wins
from clinicclip.evals.truth import RELEASED, Released

GENERATOR = templates.EVAL  # shares no phrase with the training generator
TASKS = ("task_a", "task_b", "omitted_vs_negated", "first_of_three")
NEEDS_OMITTED = TASKS[1:]
PER_FINDING = TASKS[:2]
KINDS = ("", "/wrong_image", "/image_driven")
NO_REPORT = "no report states it so that it can be altered"


class Item(NamedTuple):
    """One study's report with finding X stated, denied (r^n) and left out (r^o; empty if nothing remains)."""

    row: int
    finding: int
    report: str
    negated: str
    omitted: str


def build_items(evalset: EvalSet, *, seed: int) -> list[Item]:
    """An item for each study whose report states a finding; deterministic by (seed, image id).

    A set whose release brings altered reports has those items and no others.
    """
    return list(items_of(evalset, range(len(evalset)), seed=seed))


def items_of(evalset: EvalSet, rows: Iterable[int], *, seed: int) -> Iterator[Item]:
    """The items of some studies, in their order, each made when it is asked for."""
    brought = any(evalset.released)
    for row in rows:
        item = evalset.released[row] if brought else _altered(evalset, row, seed)
        if item is not None and item.finding >= 0 and item.negated:
            yield Item(row, *item)


def _altered(evalset: EvalSet, row: int, seed: int) -> Released:
    found = negation.alter(list(evalset.sentences[row]), seed=seed, key=evalset.ids[row], generator=GENERATOR)
    return Released(found.finding, evalset.reports[row], found.negated, found.omitted)


def generator_of(evalset: EvalSet) -> str:
    """Who wrote the altered reports of `build_items`."""
    return RELEASED if any(evalset.released) else GENERATOR.name


@dataclass(frozen=True)
class CxrAlign:
    """Items are those of the release, or else built from the set itself by the evaluation generator."""

    control_images: int = matching.CONTROL_IMAGES
    seed: int = 0

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `cxr_align/TASK`, `/wrong_image` and `/image_driven`, and per finding for Tasks A and B."""
        items = build_items(evalset, seed=self.seed)
        whole = [item for item in items if item.omitted]
        for tasks, members in ((TASKS[:1], items), (NEEDS_OMITTED, whole)):
            if members:
                yield from self._rates(evalset, embedded, bootstrap, members, tasks)
            else:
                yield from self._none(evalset, bootstrap, tasks)

    def _rates(
        self,
        evalset: EvalSet,
        embedded: Embedded,
        bootstrap: PatientBootstrap,
        items: Sequence[Item],
        tasks: Sequence[str],
    ) -> Iterator[Result]:
        rows = np.array([item.row for item in items])
        findings = np.array([item.finding for item in items])
        controls = self._controls(evalset, rows, findings)
        scores = _scores(evalset, embedded, items, np.column_stack([rows, controls]))
        controlled = controls[:, 0] >= 0
        for task in tasks:
            won = _won(task, scores)
            right = won[:, 0]
            wrong = np.full(len(items), np.nan)
            wrong[controlled] = np.nanmean(np.where(controls >= 0, won[:, 1:], np.nan)[controlled], axis=1)
            values = dict(zip(KINDS, (right, wrong, right - wrong), strict=True))
            groups: dict[tuple[int, ...], Bool[np.ndarray, "m"]] = {(): np.full(len(items), True)}
            if task in PER_FINDING:
                asked = {*np.unique(findings).tolist(), *outcomes.coded(evalset)}
                groups |= {(finding,): findings == finding for finding in sorted(asked)}
            for about, group in groups.items():
                for kind, value in values.items():
                    keep = group & np.isfinite(value)
                    note = "" if keep.any() else matching.NO_IMAGES if group.any() else NO_REPORT
                    yield _result(f"{task}{kind}", about, evalset, bootstrap, value[keep], rows[keep], note)

    def _none(self, evalset: EvalSet, bootstrap: PatientBootstrap, tasks: Sequence[str]) -> Iterator[Result]:
        nothing = np.zeros(0)
        for name in (f"{task}{kind}" for task in tasks for kind in KINDS):
            yield _result(name, (), evalset, bootstrap, nothing, nothing.astype(int), NO_REPORT)

    def _controls(
        self, evalset: EvalSet, rows: Int[np.ndarray, "m"], findings: Int[np.ndarray, "m"]
    ) -> Int[np.ndarray, "m k"]:
        controls = np.full((len(rows), self.control_images), -1)
        for finding in np.unique(findings):
            members = np.flatnonzero(findings == finding)
            controls[members] = matching.without_finding(
                evalset, int(finding), rows[members], count=self.control_images, seed=self.seed
            )
        return controls


def _scores(
    evalset: EvalSet, embedded: Embedded, items: Sequence[Item], images: Int[np.ndarray, "m k"]
) -> Float[np.ndarray, "m k 3"]:
    """Cosines of each item's three texts with its own image (first column) and its control images."""
    vectors = embedded.images(evalset)
    texts = [
        embedded.texts([getattr(item, kind) or item.report for item in items])
        for kind in ("report", "negated", "omitted")
    ]
    columns = [
        np.stack([np.einsum("md,md->m", vectors[column], text) for text in texts], axis=1) for column in images.T
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _won(task: str, scores: Float[np.ndarray, "m k 3"]) -> Float[np.ndarray, "m k"]:
    """1 where the task is solved, 0 where not; a tie is shared among the texts that tie."""
    report, negated, omitted = scores[..., 0], scores[..., 1], scores[..., 2]
    if task == "task_a":
        return wins(report, negated)
    if task == "task_b":
        return wins(report, omitted)
    if task == "omitted_vs_negated":
        return wins(omitted, negated)
    best = scores.max(axis=-1, keepdims=True)
    return (report == best[..., 0]) / (scores == best).sum(axis=-1)


def _result(
    name: str,
    about: tuple[int, ...],
    evalset: EvalSet,
    bootstrap: PatientBootstrap,
    values: Float[np.ndarray, "m"],
    rows: Int[np.ndarray, "m"],
    note: str,
) -> Result:
    """Of all items, or of those about one finding, whose prevalence is that of the set."""
    return Result.of(
        "/".join(("cxr_align", name, *(schema.FINDINGS[finding] for finding in about))),
        evalset,
        bootstrap.draws(mean(values), rows),
        bootstrap,
        rows,
        about=about,
        among=np.arange(len(evalset)),
        generator=generator_of(evalset),
        note=note,
    )
