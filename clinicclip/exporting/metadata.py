"""The metadata block of a card, as the Hugging Face hub reads it: licence, tags, and results as a model-index."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clinicclip.data import schema
from clinicclip.exporting.origin import Origin
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

# A metric's first word -> the task it measures, in the hub's words where it has some.
TASKS = {
    "zero_shot": ("zero-shot-image-classification", "Zero-shot classification of findings"),
    "retrieval": ("image-text-retrieval", "Retrieval of reports by images and of images by reports"),
    "cxr_align": ("negation-understanding", "Report against the same report with a finding denied or left out"),
    "pair_strict": ("negation-understanding", "A finding affirmed on one image and denied on another"),
}


def front_matter(origin: Origin, dialects: Sequence[str], results: Sequence[Mapping[str, Any]]) -> str:
    """The YAML block between two lines of dashes."""
    tags = ["clip", "medical", "radiology", "chest-x-ray"]
    tags += ["open_clip"] if OPEN_CLIP in dialects else []
    tags += ["phantom-data"] if origin.phantom else []
    data = ModelCardData(
        language="en",
        library_name=TRANSFORMERS if TRANSFORMERS in dialects else OPEN_CLIP,
        pipeline_tag="zero-shot-image-classification",
        tags=tags,
        model_name=origin.name,
        eval_results=[_result(row, origin) for row in overall(results) if row["value"] is not None],
        license="apache-2.0" if origin.phantom else "other",
        license_name=None if origin.phantom else f"terms of {origin.data_title}",
    )
    return f"---\n{data.to_yaml()}\n---\n"


def overall(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results that are not about a single finding."""
    return [row for row in results if row["metric"].rpartition("/")[2] not in schema.INDEX]


def _result(row: Mapping[str, Any], origin: Origin) -> EvalResult:
    suite, *rest = row["metric"].split("/")
    task, task_name = TASKS.get(suite, (suite, suite))
    label = " (PHANTOM data)" if origin.phantom else ""
    return EvalResult(
        task_type=task,
        task_name=task_name,
        dataset_type=row["data"],
        dataset_name=f"{row['data']}{label}",
        dataset_split=row["split"],
        metric_type="/".join(rest) or suite,
        metric_name=row["metric"],
        metric_value=row["value"],
        metric_args={key: row[key] for key in ("n", "ci_low", "ci_high") if row[key] is not None},
    )
