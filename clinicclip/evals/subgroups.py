"""Zero-shot AUROC within subgroups: sex, age band, view, and whether a support device is seen.

A model that calls a finding by what comes with it, a drain for a pneumothorax, looks able over all images and falls
to chance within the images with and without a device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from clinicclip.data import schema
from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EvalSet, Result
from clinicclip.evals.stats import NOTHING, Draws, PatientBootstrap, Ranking, few_outcomes, macro
from clinicclip.evals.truth import NORMAL
from clinicclip.evals.zero_shot import FEW_NOTE, ONE_OUTCOME

RULE = "pair"
DEVICE = schema.INDEX["support_devices"]


def members(evalset: EvalSet) -> Iterator[tuple[str, Bool[np.ndarray, "n"]]]:
    """(name such as ``sex=F``, which studies) of every subgroup; studies of which it is unknown are in none.

    What has one value throughout makes no subgroups. Where devices are not coded, a report that names none counts as
    a study without.
    """
    device = evalset.truth[:, DEVICE]
    if np.isnan(device).all():
        reported = np.array([bool(report) for report in evalset.reports])
        device = np.where(reported, (evalset.mentioned[:, DEVICE] == 1).astype(float), np.nan)
    words = tuple({0.0: "no", 1.0: "yes"}.get(value, "") for value in device.tolist())
    for group, values in {**evalset.groups, "device": words}.items():
        known = sorted(set(values) - {""})
        column = np.asarray(values)
        yield from ((f"{group}={value}", column == value) for value in known if len(known) > 1)


@dataclass(frozen=True)
class Subgroups:
    """The macro of a subgroup runs over what has both outcomes there, so macros of subgroups are not compared."""

    findings: Sequence[str] = ()

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `subgroups/auroc/FINDING/GROUP`, and the same for `normal` and `macro`."""
        vectors = embedded.images(evalset)
        truths = {name: evalset.truth[:, finding] for finding, name in enumerate(schema.FINDINGS) if finding != NORMAL}
        truths = {name: truth for name, truth in truths.items() if len(np.unique(truth[np.isfinite(truth)])) == 2}
        truths["normal"] = evalset.normal
        scores = {
            name: getattr(prompts.scores(vectors, embedded.sides("no_finding" if name == "normal" else name)), RULE)
            for name in truths
        }
        for group, inside in members(evalset):
            parts: dict[str, Draws] = {}
            for name, truth in truths.items():
                rows = np.flatnonzero(inside & np.isfinite(truth))
                present = truth[rows] == 1
                draws, note = NOTHING, ONE_OUTCOME
                if present.any() and not present.all():
                    draws = bootstrap.draws(Ranking(present, scores[name][rows]).auroc, rows)
                    note = FEW_NOTE if few_outcomes(present) else ""
                    parts[name] = draws
                yield self._result(evalset, bootstrap, name, group, draws, rows, note, int(present.sum()))
            chosen = [name for name in parts if name != "normal" and (not self.findings or name in self.findings)]
            if chosen:
                note = "mean over " + ", ".join(chosen)
                draws = macro([parts[name] for name in chosen])
                yield self._result(evalset, bootstrap, "macro", group, draws, np.flatnonzero(inside), note, None)

    def _result(
        self,
        evalset: EvalSet,
        bootstrap: PatientBootstrap,
        name: str,
        group: str,
        draws: Draws,
        rows: Int[np.ndarray, "r"],
        note: str,
        positives: int | None,
    ) -> Result:
        return Result.of(
            f"subgroups/auroc/{name}/{group}",
            evalset,
            draws,
            bootstrap,
            rows,
            positives=positives,
            truth=evalset.source,
            note=note,
            group=group,
        )
