"""A stored record: its fields, how a Study becomes one, and how it reads back."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8

from clinicclip.data import boxes, images, negation, rule_graphs, schema, text
from clinicclip.data.generators import Generator, templates
from clinicclip.data.generators.llm import Question
from clinicclip.data.schema import Drop, Record, Study
from clinicclip.errors import UserError

FORMAT = "1.2.0"  # of the stored fields; the version TFDS shows

_OF_STUDY = ("patient", "study", "image_id", "findings", "impression", "gold_source")  # as the reader says them
_OF_HEADER = ("view", "sex", "age_band")  # as the reader says them, or else the image file itself
TEXT = (*_OF_STUDY, *_OF_HEADER, "negated", "omitted", "negated_by", "not_negated", "graph_by")
TEXTS = ("image_flags", "sentences", "gold_names", "box_names", "graph_tokens")
NUMBER = {"height": np.int32, "width": np.int32, "altered": np.int32, "normal": np.int8}
NUMBERS = {
    "sentence_finding": np.int32,
    "sentence_polarity": np.int32,
    "sentence_laterality": np.int32,
    "sentence_severity": np.int32,
    "gold_values": np.int8,
    "graph_types": np.int32,
}
TENSORS = {
    "labels": ((len(schema.CHEXPERT),), np.int8),
    "boxes": ((None, 4), np.float32),
    "graph_spans": ((None, 2), np.int32),
    "graph_edges": ((None, 2), np.int32),
}
NAMES = frozenset({"image", *TEXT, *TEXTS, *NUMBER, *NUMBERS, *TENSORS})


class CorruptRecord(UserError):
    """A stored record that does not read back as it was written."""


class Recipe(NamedTuple):
    """The settings a record depends on besides its study."""

    shorter_side: int = images.SHORTER_SIDE
    seed: int = 0  # of the altered reports
    reports: bool = True  # whether a study without a report is dropped
    generator: Generator = templates.TRAIN  # of the altered reports


def features() -> Any:
    """The ``tfds.features.FeaturesDict`` of a record."""
    import tensorflow_datasets as tfds

    fields: dict[str, Any] = {"image": tfds.features.Image(shape=(None, None, 1), encoding_format="jpeg")}
    fields |= {name: tfds.features.Text() for name in TEXT}
    fields |= {name: tfds.features.Sequence(tfds.features.Text()) for name in TEXTS}
    fields |= {name: tfds.features.Scalar(dtype) for name, dtype in NUMBER.items()}
    fields |= {name: tfds.features.Sequence(tfds.features.Scalar(dtype)) for name, dtype in NUMBERS.items()}
    fields |= {name: tfds.features.Tensor(shape=shape, dtype=dtype) for name, (shape, dtype) in TENSORS.items()}
    return tfds.features.FeaturesDict(fields)


@cache
def _serializer() -> tuple[Any, Any]:
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    described = features()
    return described, ExampleSerializer(described.get_serialized_info())


def serialize(record: Record) -> bytes:
    """The record as TFDS stores it; equal records give equal bytes in every process."""
    described, serializer = _serializer()
    example = serializer.get_tf_example(described.encode_example(record))
    return example.SerializeToString(deterministic=True)


def restore(example: bytes) -> Record:
    """What `serialize` made -> str, int, list[str] and numpy arrays, the image left encoded.

    TFDS's own way back, through the description of every field, takes four times as long. Raises CorruptRecord.
    """
    from google.protobuf.message import DecodeError

    try:
        return _restored(_example_type().FromString(example).features.feature)
    except (DecodeError, IndexError, ValueError):  # no message; an empty field; one of another form
        raise CorruptRecord("its fields are not those of a record") from None


def _restored(fields: Any) -> Record:
    if odd := NAMES.symmetric_difference(fields):
        raise CorruptRecord(f"the field {min(odd)!r} is missing or unknown")
    record: Record = {"image": fields["image"].bytes_list.value[0]}
    record |= {name: fields[name].bytes_list.value[0].decode() for name in TEXT}
    record |= {name: [piece.decode() for piece in fields[name].bytes_list.value] for name in TEXTS}
    record |= {name: fields[name].int64_list.value[0] for name in NUMBER}
    record |= {name: np.array(fields[name].int64_list.value[:], dtype) for name, dtype in NUMBERS.items()}
    for name, (shape, dtype) in TENSORS.items():
        kind = "float_list" if np.issubdtype(dtype, np.floating) else "int64_list"
        values = np.array(getattr(fields[name], kind).value[:], dtype)
        record[name] = values.reshape(tuple(-1 if side is None else side for side in shape))
    return record


@cache
def _example_type() -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example


def make(study: Study, recipe: Recipe) -> Record | Drop:
    """The record of a study, or the Drop that says why there is none."""
    if recipe.reports and not (study.findings.strip() or study.impression.strip()):
        return Drop("image", study.image_id, "report_without_sections")
    sentences = text.sentences(study.findings, study.impression)
    if recipe.reports and not sentences:
        return Drop("image", study.image_id, "report_without_sentences")
    try:
        picture = _picture(study, recipe.shorter_side)
        marked, flags = boxes.fit(study, picture.height, picture.width)
    except images.ImageFault as fault:
        return Drop("image", study.image_id, fault.reason)
    gray = images.shrink(picture.gray, recipe.shorter_side, (picture.height, picture.width))
    altered, author = study.altered, study.altered_by
    if altered is None:
        altered = negation.alter(sentences, seed=recipe.seed, key=study.image_id, generator=recipe.generator)
        author = recipe.generator.name
    labels = _labels(study, sentences)
    return {
        "image": images.encode(gray),
        "image_flags": [*images.flags(gray, picture.facts), *flags],
        "height": picture.height,
        "width": picture.width,
        "negated": altered.negated,
        "omitted": altered.omitted,
        "altered": altered.finding,
        "negated_by": author if altered.finding >= 0 else "",
        "not_negated": altered.reason,
        "labels": labels,
        "normal": _normal(study, labels, sentences),
        "gold_names": list(study.gold),
        "gold_values": list(study.gold.values()),
        **{name: getattr(study, name) for name in _OF_STUDY},
        **{name: getattr(study, name) or getattr(picture.facts, name) for name in _OF_HEADER},
        **_sentence_fields(sentences),
        **_box_fields(marked),
        **_graph_fields(study, sentences),
    }


def questions(study: Study, recipe: Recipe) -> list[Question]:
    """The statements that `make` will have its generator deny."""
    if study.altered is not None:
        return []
    sentences = text.sentences(study.findings, study.impression)
    found = negation.choose(sentences, negation.chooser(recipe.seed, study.image_id))
    return [] if isinstance(found, str) else [Question(found.finding, said) for said in found.statements]


def _picture(study: Study, shorter_side: int) -> images.Picture:
    if isinstance(study.image, Path):
        return images.read(study.image, shorter_side)
    gray = images.to_gray(study.image, study.image_id)
    return images.Picture(gray, gray.shape[0], gray.shape[1], images.Facts())


def _sentence_fields(sentences: list[schema.Sentence]) -> dict[str, Any]:
    return {
        "sentences": [sentence.text for sentence in sentences],
        "sentence_finding": [sentence.finding for sentence in sentences],
        "sentence_polarity": [sentence.polarity for sentence in sentences],
        "sentence_laterality": [sentence.laterality for sentence in sentences],
        "sentence_severity": [sentence.severity for sentence in sentences],
    }


def _labels(study: Study, sentences: list[schema.Sentence]) -> Int8[np.ndarray, "14"]:
    if study.labels is None:
        return text.report_labels(sentences)
    return np.array([study.labels.get(name, schema.UNKNOWN) for name in schema.CHEXPERT], np.int8)


def _normal(study: Study, labels: Int8[np.ndarray, "14"], sentences: list[schema.Sentence]) -> int:
    """What the release's own labels say, where they say it; else what the sentences say."""
    if study.labels is not None:
        present = {schema.CHEXPERT[i] for i in np.flatnonzero(labels == schema.PRESENT)}
        if present - set(schema.NOT_ABNORMAL):
            return 0
        if "no_finding" in present:
            return 1
    return text.is_normal(sentences)


def _box_fields(marked: Sequence[schema.Box]) -> dict[str, Any]:
    sides = [(box.x, box.y, box.width, box.height) for box in marked]
    return {
        "box_names": [box.finding for box in marked],
        "boxes": np.asarray(sides, np.float32).reshape(-1, 4),
    }


def _graph_fields(study: Study, sentences: list[schema.Sentence]) -> dict[str, Any]:
    graph, maker = study.graph, study.graph_by
    if graph is None:
        graph, maker = rule_graphs.build(sentences), rule_graphs.NAME
    return {
        "graph_by": maker if graph.spans else "",
        "graph_tokens": list(graph.tokens),
        "graph_spans": np.asarray(graph.spans, np.int32).reshape(-1, 2),
        "graph_types": list(graph.types),
        "graph_edges": np.asarray(graph.edges, np.int32).reshape(-1, 2),
    }


def stored_graph(record: Record) -> schema.Graph:
    """The record's report graph; without spans when it has none."""
    return schema.Graph(
        tuple(record["graph_tokens"]),
        tuple((int(first), int(last)) for first, last in record["graph_spans"]),
        tuple(map(int, record["graph_types"])),
        tuple((int(source), int(target)) for source, target in record["graph_edges"]),
    )
