"""Published levels, shown beside a number only where the data are the published ones.

Source: the public reproduction of BC2C (arXiv:2505.22079), whose card also cites the paper's own values. Which prompt
rule and which averaging it used is not stated; ours is named by the metric. Left out: pair_strict, whose pairs were
made in another way, and SIIM, as it is not stated which of its images were scored.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

PAPER = "paper"


class Reference(NamedTuple):
    """What was published of one number on one data set."""

    metric: str  # as ours is called, {data} for the name of the set
    release: str
    split: str
    levels: Mapping[str, float]  # by variant, and of the paper


REFERENCES = (
    Reference(
        "zero_shot/{data}/auroc/pair/macro",
        "mimic_cxr",
        "test",
        {"baseline": 0.562, "n": 0.581, "n_dt_c": 0.620, "n_g_dtcg": 0.622},
    ),
    Reference(
        "retrieval/t2i/f1_micro@1",
        "mimic_cxr",
        "test",
        {PAPER: 0.506, "baseline": 0.198, "n": 0.199, "n_dt_c": 0.218, "n_g_dtcg": 0.206},
    ),
    Reference("cxr_align/task_a", "cxr_align", "test", {PAPER: 0.965, "n_g_dtcg": 0.955}),
    Reference(
        "cxr_align/task_b",
        "cxr_align",
        "test",
        {PAPER: 0.801, "baseline": 0.739, "n": 0.710, "n_dt_c": 0.818, "n_g_dtcg": 0.804},
    ),
    Reference(
        "five_way/accuracy/pair",
        "chexpert",
        "five_by_200",
        {PAPER: 0.573, "baseline": 0.279, "n": 0.289, "n_dt_c": 0.396, "n_g_dtcg": 0.327},
    ),
)


def of(manifest: Mapping[str, Any], split: str, data: str) -> dict[str, Mapping[str, float]]:
    """Published levels of a whole split of prepared data, by our metric's name; none of other data."""
    settings = manifest["settings"]
    if settings.get("limit") or settings.get("five_by_200") == "draw":  # not the published images
        return {}
    return {
        reference.metric.format(data=data): reference.levels
        for reference in REFERENCES
        if (reference.release, reference.split) == (manifest["name"], split)
    }
