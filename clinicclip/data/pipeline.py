"""Grain: from a source of records to host batches of numpy arrays.

Order and draws are functions of (seed, step, study) alone. The stream of studies is shuffled anew each epoch,
every study of it is drawn with a generator made from the seed and its place in the stream, and only then is
the stream cut into batches and dealt to processes: of each global batch, process p gets the p-th of P equal
consecutive blocks, so the processes' batches laid end to end are the batch one process would have made: the rows
their texts are packed into are made as many as the process with most needs. A run resumes by starting at its step;
no iterator state is stored. A study whose record cannot be read keeps its place, masked, so that nothing else moves.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8

from clinicclip.data import images, packing
from clinicclip.data.draws import DrawStudy, TrainSpec, empty_record
from clinicclip.data.features import FeatureTable
from clinicclip.data.records import CorruptRecord
from clinicclip.data.schema import CHEXPERT, FINDINGS, GRAPH_TYPES, Record
from clinicclip.data.sources import Source
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.data.workers import follow
from clinicclip.errors import UserError

Batch = dict[str, Any]
HOST_ONLY = ("id", "truncated", "graphs_cut", "corrupt", "skipped")  # never placed on a device
COUNTS = ("truncated", "graphs_cut", "skipped")
NAMED = 100  # records that a process names of those of its batch that it skips
# Calls a function in every process and gives back what all of them returned, in their order.
Everywhere = Callable[[Callable[[], dict[str, Any]]], list[dict[str, Any]]]


class Batches:
    """An iterator over batches that lets go of its threads and processes on `close` or when `with` ends."""

    def __init__(self, dataset: grain.IterDataset, *, shared: bool = False) -> None:
        self._iterator = iter(dataset)
        self._shared = shared

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Any:
        batch = next(self._iterator)
        if self._shared:  # worker processes lend their memory; a copy outlives them
            return {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in batch.items()}
        return batch

    def close(self) -> None:
        """Stop reading ahead; idempotent."""
        self._iterator.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TrainBatches(Batches):
    """The batches of one of several processes: of equal shapes in all, with counts of the global batch.

    Where a record of the global batch could not be read, `valid` says which studies are not empty ones in its place,
    and `corrupt` holds the numbers of such records.
    """

    def __init__(
        self, dataset: grain.IterDataset, *, shared: bool, everywhere: Everywhere, groups: int, pad_id: int
    ) -> None:
        super().__init__(dataset, shared=shared)
        self._everywhere, self._groups = everywhere, groups
        self._padding = {"text_ids": pad_id, "text_owner": 0, "text_position": 0}

    def __next__(self) -> Batch:
        batch: Batch = {}

        def fetch() -> dict[str, Any]:
            batch.update(super(TrainBatches, self).__next__())
            corrupt = batch.pop("number")[~batch["valid"]]
            counts = {key: int(batch[key]) for key in COUNTS if key in batch} | {"skipped": len(corrupt)}
            return counts | {"rows": len(batch["text_ids"]), "corrupt": corrupt[:NAMED].tolist()}

        found = self._everywhere(fetch)
        batch |= {key: sum(facts[key] for facts in found) for key in COUNTS if key in found[0]}
        batch["corrupt"] = list(itertools.chain.from_iterable(facts["corrupt"] for facts in found))
        rows = max(facts["rows"] for facts in found)
        for key, value in self._padding.items():
            batch[key] = packing.fill(batch[key], groups=self._groups, rows=rows, value=value)
        if not batch["skipped"]:
            del batch["valid"]  # all are: the step need not ask
        return batch


@dataclass(frozen=True)
class DrawNumber(grain.transforms.RandomMap):
    """The number of a record -> one study of a batch; an empty one that is not `valid` where it cannot be read."""

    source: Source
    draw: DrawStudy

    def random_map(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """What `draw` makes of the record, and its number."""
        try:
            study, valid = self.draw.random_map(self.source[number], rng), True
        except (CorruptRecord, images.ImageFault):
            study, valid = self.draw.random_map(empty_record(), rng), False
        return study | {"number": number, "valid": valid}


@dataclass(frozen=True)
class Collate:
    """Drawn studies -> one batch, texts packed into `groups` equal groups of rows."""

    spec: TrainSpec
    groups: int
    pad_id: int

    def __call__(self, studies: Sequence[dict[str, Any]]) -> Batch:
        """Stacks every array, packs the token lists, sums the counts."""
        batch: Batch = {}
        texts: dict[str, Sequence[list[int]]] = {}
        for key in studies[0]:
            column = [study[key] for study in studies]
            if key.endswith("_tokens"):
                texts[key.removesuffix("_tokens")] = column
            elif key in COUNTS:
                batch[key] = batch.get(key, 0) + sum(column)
            else:
                batch[key] = np.stack([np.asarray(value) for value in column])
        return batch | self._pack(texts)

    def _pack(self, texts: dict[str, Sequence[list[int]]]) -> Batch:
        """Texts of all kinds in the same rows, in each group kind after kind; one without tokens starts at its study's.

        Kinds in rows of their own would leave room in the last ones of each, and be rounded up apart.
        """
        length, groups, pad_id = self.spec.text_length, self.groups, self.pad_id
        size = len(texts["text"]) // groups
        ids = [text for k in range(groups) for kind in texts.values() for text in kind[k * size : (k + 1) * size]]
        if self.spec.packed:
            packed = packing.pack(ids, length=length, groups=groups, row_step=self.spec.row_step, pad_id=pad_id)
        else:
            packed = packing.plain(ids, length, groups=groups, pad_id=pad_id)
        batch: Batch = {f"text_{part}": getattr(packed, part) for part in ("ids", "owner", "position")}
        starts = packed.start.reshape(groups, len(texts), size).swapaxes(0, 1).reshape(len(texts), -1)
        for (name, kind), start in zip(texts.items(), starts, strict=True):
            batch[f"{name}_start"] = np.where([bool(text) for text in kind], start, starts[0])
        return batch


def train_batches(
    source: Source,
    *,
    tokenizer: Tokenizer,
    features: FeatureTable | None,
    spec: TrainSpec,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    everywhere: Everywhere = lambda work: [work()],
    groups: int = 1,
    workers: int = 0,
    threads: int = 2,
) -> TrainBatches:
    """This process's batches of steps `start_step`, `start_step` + 1, ... without end.

    Args:
      source: the training records.
      tokenizer: of the text tower.
      features: vectors of reports (or sentences) and graph spans; needed by these two streams.
      spec: what a batch holds.
      seed: of order and draws; with equal seeds and specs every (workers, threads) gives equal batches.
      batch_size: studies of a global batch, b = batch_size / process_count of them here.
      start_step: the step of the first batch.
      process_index: which consecutive block of each global batch is this process's.
      process_count: number of processes.
      everywhere: how they tell each other, with every batch, the rows their texts take and what they counted.
      groups: packing groups of this process: its devices times its microbatches.
      workers: processes that draw and pack; 0 = threads of this process.
      threads: threads that draw and pack, of each worker if there are any.

    Raises:
      UserError: a batch that cannot be split evenly or exceeds the data, or features missing from the call.
    """
    _check(len(source), batch_size, process_count, groups)
    if features is None and (spec.text_features or spec.graph):
        raise UserError("frozen features: the text-feature and graph streams need a feature table")
    # Numbers are shuffled and records read last: of what a source gives, grain counts every byte, each time.
    numbers = grain.MapDataset.range(len(source)).shuffle(seed=seed).repeat()
    studies = numbers.random_map(DrawNumber(source, DrawStudy(spec, tokenizer, features)), seed=seed)
    blocks = studies.batch(batch_size // process_count, batch_fn=Collate(spec, groups, tokenizer.pad_id))
    mine = blocks[start_step * process_count + process_index :: process_count]
    batches = mine.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's workers read absl flags, which our programs do not use
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        batches = batches.mp_prefetch(options, worker_init_fn=follow)
    return TrainBatches(batches, shared=workers > 0, everywhere=everywhere, groups=groups, pad_id=tokenizer.pad_id)


def batch_shapes(
    spec: TrainSpec, *, studies: int, groups: int, tokens: int, feature_width: int
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of every array that `train_batches` gives to devices, for texts of so many tokens on average.

    Args:
      spec: what a batch holds.
      studies: of the batch.
      groups: packing groups of the batch.
      tokens: of a report and of a negated one, on average; they only decide how many rows are packed.
      feature_width: of the frozen features.
    """
    b, v, e, f = studies, spec.graph_nodes, spec.graph_edges, feature_width
    rows = studies // groups * (2 if spec.negation else 1)
    if spec.packed:
        rows = packing.expected_rows(rows, tokens, length=spec.text_length, row_step=spec.row_step)
    flags = ["labels_valid", "normal", "normal_valid"]
    shapes: dict[str, tuple[tuple[int, ...], type]] = {"text_start": ((b,), np.int32)}
    shapes |= {f"text_{part}": ((groups * rows, spec.text_length), np.int32) for part in ("ids", "owner", "position")}
    shapes |= {"image": ((b, spec.image_size, spec.image_size), np.uint8), "labels": ((b, len(CHEXPERT)), np.float32)}
    if spec.text_features:
        shapes["text_feature"] = ((b, f), np.float32)
        flags.append("text_valid")
    if spec.negation:
        shapes["negated_start"] = ((b,), np.int32)
        flags.append("negated_valid")
    if spec.claims:
        claims = ("findings", "text_claims") + ("negated_claims",) * spec.negation
        shapes |= {name: ((b, len(FINDINGS)), np.float32) for name in claims}
    if spec.graph:
        shapes |= {"graph_nodes": ((b, v, f + len(GRAPH_TYPES)), np.float32), "graph_mask": ((b, v), np.bool_)}
        shapes |= {f"graph_{end}": ((b, e), np.int32) for end in ("senders", "receivers")}
        flags.append("graph_valid")
    shapes |= {flag: ((b,), np.bool_) for flag in flags}
    return {name: (shape, np.dtype(kind)) for name, (shape, kind) in shapes.items()}


def examples(
    source: Source, image_size: int, *, chunk: int = 64, threads: int = 2
) -> Iterator[tuple[UInt8[np.ndarray, "k s s"], list[Record]]]:
    """Every record once, in order, in chunks (the last may be short): images for evaluation, and records."""

    def read(record: Record) -> tuple[np.ndarray, Record]:
        return images.resize(images.decode(record["image"], record["image_id"]), image_size), record

    def collect(pairs: Sequence[tuple[np.ndarray, Record]]) -> tuple[np.ndarray, list[Record]]:
        return np.stack([image for image, _ in pairs]), [record for _, record in pairs]

    chunks = grain.MapDataset.source(source).map(read).batch(chunk, batch_fn=collect)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    with Batches(chunks.to_iter_dataset(options)) as batches:
        yield from batches


def _check(size: int, batch_size: int, process_count: int, groups: int) -> None:
    if batch_size % (process_count * groups):
        raise UserError(
            f"batch_size={batch_size}: not divisible by {process_count * groups} "
            "(processes times devices times microbatches of each)"
        )
    if batch_size > size:
        raise UserError(f"batch_size={batch_size}: the training split holds only {size} studies")
