"""The metadata block of a card, as the Hugging Face hub reads it: licence, tags, and results as a model-index."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clinicclip.data import schema
from clinicclip.exporting.origin import UNKNOWN, Origin
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

# A metric's first word -> the task it measures, in the hub's words where it has some.
TASKS = {
    "zero_shot": ("zero-shot-image-classification", "Zero-shot classification of findings"),
    "retrieval": ("image-text-retrieval", "Retrieval of reports by images and of images by reports"),
    "cxr_align": ("negation-understanding", "Report against the same report with a finding denied or left out"),
    "pair_strict": ("negation-understanding", "A finding affirmed on one image and denied on another"),
}
DIGITS = 4  # of a result


def front_matter(origin: Origin, dialects: Sequence[str], results: Sequence[Mapping[str, Any]]) -> str:
    """The YAML block between two lines of dashes."""
    found = [_result(row, origin) for row in overall(results) if row["value"] is not None]
    tags = ["clip", "medical", "radiology", "chest-x-ray"]
    tags += ["open_clip"] if OPEN_CLIP in dialects else []
    tags += ["phantom-data"] if origin.phantom else []
    data = ModelCardData(
        language="en",
        library_name=TRANSFORMERS if TRANSFORMERS in dialects else OPEN_CLIP,
        pipeline_tag="zero-shot-image-classification",
        tags=tags,
        model_name=origin.name if found else None,
        eval_results=found or None,
        **_licence(origin),
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _licence(origin: Origin) -> dict[str, Any]:
    """An id of the hub's, or one of our own for the terms of the data, which the card has in full."""
    if origin.phantom:
        return {"license": "apache-2.0"}
    if origin.data == UNKNOWN:
        return {"license": "unknown"}
    return {"license": "other", "license_name": f"terms-of-{origin.data.replace('_', '-')}"}


def overall(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results that are not about a single finding."""
    return [row for row in results if row["metric"].rpartition("/")[2] not in schema.INDEX]


def _result(row: Mapping[str, Any], origin: Origin) -> EvalResult:
    suite, *rest = row["metric"].split("/")
    task, task_name = TASKS.get(suite, (suite, suite))
    data = origin.data_title if row["data"] == origin.data else row["data"]
    facts = {key: row[key] for key in ("n", "ci_low", "ci_high") if row[key] is not None}
    return EvalResult(
        task_type=task,
        task_name=task_name,
        dataset_type=row["data"],
        dataset_name=f"{data} (PHANTOM data)" if origin.phantom else data,
        dataset_split=row["split"],
        metric_type="/".join(rest) or suite,
        metric_name=row["metric"],
        metric_value=round(row["value"], DIGITS),
        metric_args={key: round(value, DIGITS) for key, value in facts.items()},
    )
