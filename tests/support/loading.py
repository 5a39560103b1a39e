"""A loader of small batches for tests, from records made in memory."""

import functools
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from clinicclip.data import records
from clinicclip.data.augment import AugmentSpec
from clinicclip.data.draws import TrainSpec
from clinicclip.data.features import FeatureTable
from clinicclip.data.pipeline import Batch, train_batches
from clinicclip.data.schema import Graph, Record, Study
from clinicclip.data.tokenizer import Tokenizer

ABNORMAL = ("The heart is enlarged.", "There is a small left pleural effusion.", "There is mild pulmonary edema.")


NORMAL = ("The heart is normal in size.", "There is no pneumothorax.", "There is no pleural effusion.")


SIZE, LENGTH, WIDTH = 24, 40, 6


def make_record(index: int) -> Record:
    """A study with its own picture; even ones are normal, every third has a graph."""
    rng = np.random.default_rng(index)
    chosen = ABNORMAL[: 1 + index // 2 % 3] if index % 2 else ()
    report = [*NORMAL[: 3 - len(chosen)], *chosen]
    graph = Graph(("heart", "enlarged"), ((0, 0), (1, 1)), (0, 1), ((1, 0),)) if index % 3 == 0 else None
    study = Study(
        patient=f"p{index}",
        study=f"s{index}",
        image_id=f"i{index:02}",
        split="train",
        image=rng.integers(0, 256, (30, 36), dtype=np.uint8),
        findings=" ".join(report),
        impression="",
        graph=graph,
    )
    record = records.make(study, records.Recipe())
    assert isinstance(record, dict)
    return record


FULL = TrainSpec(
    image_size=SIZE,
    text_length=LENGTH,
    augment=AugmentSpec(crop_area=0.8, rotation=5.0, brightness=0.1, contrast=0.1),
    text_mode="sentences",
    text_features=True,
    negation=True,
    graph=True,
    graph_nodes=4,
    graph_edges=6,
)


class Loader:
    """Batches of the module's source with a few arguments changed."""

    def __init__(self, source: list[Record], tokenizer: Tokenizer, table: FeatureTable) -> None:
        self._fixed: dict[str, Any] = {"source": source, "tokenizer": tokenizer, "features": table}

    def __call__(self, count: int, spec: TrainSpec = FULL, **changed: Any) -> list[Batch]:
        arguments = {"seed": 7, "batch_size": 4, "threads": 0} | self._fixed | changed
        with train_batches(arguments.pop("source"), spec=spec, **arguments) as batches:
            return list(islice(batches, count))


def assert_equal(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key, strict=True)


def lockstep(count: int) -> list[Callable[[Callable[[], dict]], list[dict]]]:
    """An `everywhere` for each of so many threads that stand in for processes."""
    meeting, told = threading.Barrier(count, timeout=60), [{} for _ in range(count)]

    def meet(index: int, work: Callable[[], dict]) -> list[dict]:
        told[index] = work()
        meeting.wait()
        found = list(told)
        meeting.wait()
        return found

    return [functools.partial(meet, index) for index in range(count)]
