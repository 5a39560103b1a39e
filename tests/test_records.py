"""Stored records read back as they were made."""

import numpy as np
import tensorflow_datasets as tfds

from clinicclip.data import records
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Box, Graph, Study


def made(**changes: object) -> dict:
    noise = np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint8)
    text = "The heart is enlarged. No pleural effusion."
    record = records.make(Study("p", "s", "i", "train", noise, text, "", **changes), Recipe())
    assert isinstance(record, dict)
    return record


def test_restored_records_are_what_tfds_reads() -> None:
    boxes = (Box("cardiomegaly", 1.0, 2.0, 3.5, 4.0),)
    graph = Graph(("heart", "enlarged"), ((0, 0), (1, 1)), (0, 1), ((1, 0),))
    full = made(boxes=boxes, graph=graph, graph_by="hand", labels={"edema": -1}, gold={"edema": 1}, gold_source="x")
    for record in (full, made()):
        stored = records.serialize(record)
        raw = {"image": tfds.decode.SkipDecoding()}
        read = records.features().deserialize_example_np(stored, decoders=raw)
        restored = records.restore(stored)
        assert set(restored) == set(read) == set(record)
        for name, value in restored.items():
            theirs = read[name]
            if name in records.TEXT:
                assert value == theirs.decode() == record[name]
            elif name in records.TEXTS:
                assert value == [piece.decode() for piece in theirs] == record[name]
            elif isinstance(value, np.ndarray):
                assert np.array_equal(value, np.reshape(theirs, value.shape)), name
                assert np.array_equal(value, np.reshape(record[name], value.shape)), name
            else:
                assert value == theirs and type(value) in (int, bytes), name
