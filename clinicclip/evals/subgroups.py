"""Zero-shot AUROC within subgroups: sex, age band, view, and whether a support device is seen.

A model that calls a finding by what comes with it, a drain for a pneumothorax, looks able over all images and falls
to chance within the images with and without a device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from clinicclip.data import schema
from clinicclip.evals import benchmarks, outcomes, prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, Ranking
from clinicclip.evals.truth import NORMAL

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
    """The macro of a subgroup runs over what has both outcomes there of what `ZeroShot`'s runs over.

    So macros of subgroups are not compared.
    """

    findings: Sequence[str] = ()

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `subgroups/auroc/FINDING/GROUP`, and the same for `normal` and `macro`."""
        wanted = self.findings or benchmarks.of(evalset.release).macro
        vectors = embedded.images(evalset)
        measured = [*outcomes.coded(evalset), NORMAL]
        scores = {
            finding: getattr(prompts.scores(vectors, embedded.sides(schema.FINDINGS[finding])), RULE)
            for finding in measured
        }
        for group, inside in members(evalset):
            parts: dict[int, Part] = {}
            for finding in measured:
                truth = evalset.labels([finding])[:, 0]
                rows = np.flatnonzero(inside & np.isfinite(truth))
                draws, note = NOTHING, outcomes.lacking(truth[rows])
                if not note:
                    draws = bootstrap.draws(Ranking(truth[rows] == 1, scores[finding][rows]).auroc, rows)
                    if finding != NORMAL and (not wanted or schema.FINDINGS[finding] in wanted):
                        parts[finding] = Part(draws, rows)
                name = f"subgroups/auroc/{outcomes.label(finding)}/{group}"
                yield Result.of(name, evalset, draws, bootstrap, rows, about=(finding,), note=note, group=group)
            name = f"subgroups/auroc/macro/{group}"
            yield Result.macro(name, evalset, bootstrap, parts, np.flatnonzero(inside), group=group)
