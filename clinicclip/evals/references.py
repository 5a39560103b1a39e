"""Published levels, shown beside a number only where the data are the published ones.

Source: the public reproduction of BC2C (arXiv:2505.22079), whose card also cites the paper's own values. Which prompt
rule and which averaging it used is not stated; ours is named by the metric. What is known of its data are releases,
splits and, of some, the number of studies: these are asked for. Ids or digests of its rows were not published.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from clinicclip.evals.base import REPORT_TEXT

PAPER = "paper"


class Reference(NamedTuple):
    """What was published of one number on one data set."""

    metric: str  # as ours is called, {data} for the name of the set
    release: str
    split: str
    levels: Mapping[str, float]  # by variant, and of the paper
    studies: int | None = None  # of the split; None = not stated, and the release must have its published counts
    remark: str = ""


REFERENCES = (
    Reference(
        "zero_shot/{data}/auroc/pair/macro",
        "mimic_cxr",
        "test",
        {"baseline": 0.562, "n": 0.581, "n_dt_c": 0.620, "n_g_dtcg": 0.622},
        remark="which findings and images were averaged, and whose labels were taken, is not stated",
    ),
    Reference(
        "retrieval/t2i/f1_micro@1",
        "mimic_cxr",
        "test",
        {PAPER: 0.506, "baseline": 0.198, "n": 0.199, "n_dt_c": 0.218, "n_g_dtcg": 0.206},
        remark="which F1, images and labels were taken is not stated",
    ),
    Reference("cxr_align/task_a", "cxr_align", "test", {PAPER: 0.965, "n_g_dtcg": 0.955}, 3_276),
    Reference(
        "cxr_align/task_b",
        "cxr_align",
        "test",
        {PAPER: 0.801, "baseline": 0.739, "n": 0.710, "n_dt_c": 0.818, "n_g_dtcg": 0.804},
        3_276,
    ),
    Reference(
        "pair_strict/macro",
        "cxr_align",
        "test",
        {PAPER: 0.344, "n_g_dtcg": 0.142},
        3_276,
        "on pairs of their own construction, another than ours",
    ),
    Reference(
        "five_way/accuracy/pair",
        "chexpert",
        "five_by_200",
        {PAPER: 0.573, "baseline": 0.279, "n": 0.289, "n_dt_c": 0.396, "n_g_dtcg": 0.327},
        1_000,
        "if the table given lists the published images",
    ),
    Reference(
        "zero_shot/{data}/auroc/pair/pneumothorax",
        "siim_acr",
        "test",
        {PAPER: 0.872, "baseline": 0.613, "n": 0.558, "n_dt_c": 0.742, "n_g_dtcg": 0.752},
        12_047,
        "which of its images were scored is not stated",
    ),
)


class Found(NamedTuple):
    """Levels published of a set, by our metric's name, or why they are not shown beside it ("" = there are none)."""

    levels: Mapping[str, Reference]
    reason: str = ""


def of(
    manifest: Mapping[str, Any],
    split: str,
    data: str,
    *,
    truths: Mapping[str, str] = MappingProxyType({}),
    limit: int = 0,
    unread: int = 0,
) -> Found:
    """What was published of a split of prepared data; ``limit`` studies were scored (0 = all) but for the unread.

    ``truths`` tells, by metric, where the truth that it was scored by comes from.
    """
    levels: dict[str, Reference] = {}
    faults: dict[str, None] = {}
    for reference in REFERENCES:
        if (reference.release, reference.split) == (manifest["name"], split):
            metric = reference.metric.format(data=data)
            fault = _unlike(reference, manifest, truths.get(metric, ""), limit, unread)
            if fault:
                faults[fault] = None
            else:
                levels[metric] = reference
    return Found(levels, f"{data} ({manifest['name']}, {split}): {'; '.join(faults)}" if faults else "")


def _unlike(reference: Reference, manifest: Mapping[str, Any], truth: str, limit: int, unread: int) -> str:
    """Why prepared data are not those of a published level, or ""."""
    records = manifest["splits"][reference.split]["records"]
    studies = min(limit or records, records) - unread
    if manifest["settings"].get("five_by_200") == "draw":
        return "its images were drawn here, and are not the published ones"
    if reference.studies is None:
        whole = studies == records and manifest["source"] == manifest["published"]
        if not whole:
            return "the release, or what was scored of it, is not whole"
        return f"its truth is {truth}, and no table of labels" if truth.startswith(REPORT_TEXT) else ""
    if studies != reference.studies:
        return f"{studies:,} of the published {reference.studies:,} studies were scored"
    return "some of its items lack a text" if manifest.get("labels") else ""
