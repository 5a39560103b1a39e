"""Studies -> finished ArrayRecord shards, in worker processes, each shard reusable after a kill.

A shard is done when its summary (``NAME.json``, written last) exists; NAME holds a hash of everything the
shard depends on, so another input, setting or version of the code never meets an old shard.
"""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

import clinicclip
from clinicclip import files
from clinicclip.data import graphs, records, schema
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Drop, Record, Sketch, Study
from clinicclip.data.workers import follow
from clinicclip.errors import UserError

RECORDS_PER_SHARD = 256


class Task(NamedTuple):
    """One shard to write; ``folder`` None means to count only."""

    folder: Path | None
    split: str
    number: int
    studies: tuple[Study | Sketch, ...]
    recipe: Recipe


class Summary(NamedTuple):
    """What became of a task's studies; ``file`` is empty when none was written."""

    split: str
    studies: int
    records: int
    written: list[list[str]]  # [image id, study, patient]
    dropped: list[list[str]]  # [image id, study, reason]
    language: dict[str, int]
    flags: dict[str, int]  # of images
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    payload: int = 0  # bytes of the records alone


def run(tasks: Iterator[Task], workers: int) -> Iterator[Summary]:
    """The summaries of ``tasks``, in order, made by ``workers`` processes (0 = in this one).

    Raises UserError when the output cannot be written or a worker dies.
    """
    if workers == 0:
        yield from map(make, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=follow) as pool:
        pending: deque[Future[Summary]] = deque()
        try:
            for task in tasks:
                pending.append(pool.submit(make, task))
                if len(pending) > workers + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died (out of memory?); run the same command again with fewer --workers: "
                "finished shards are kept"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def make(task: Task) -> Summary:
    """Writes one shard with its summary, or finds it finished.

    Raises UserError when the output cannot be written.
    """
    if task.folder is None:
        return _summary(task, [_make_record(study, task.recipe) for study in task.studies])
    name = f"{task.split}-{task.number:05d}-{_key(task)}"
    note = task.folder / f"{name}.json"
    if note.is_file():
        summary = Summary(**json.loads(note.read_text()))
        if not summary.file or (task.folder / summary.file).is_file():
            return summary
    made = [_make_record(study, task.recipe) for study in task.studies]
    summary = _summary(task, made)
    kept = [record for record in made if not isinstance(record, Drop)]
    with writing(task.folder.parent):
        if kept:
            summary = _write(task.folder / f"{name}.array_record", kept, summary)
        files.write_whole(note, json.dumps(summary._asdict()))
    return summary


@contextlib.contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turns a full, read-only or lost disk into the one line that says so."""
    try:
        yield
    except OSError as fault:
        raise UserError(
            f"cannot write to {output}: {fault.strerror or fault}; make room or choose another --output, then "
            "run again (finished shards are kept)"
        ) from None


@cache
def code_digest() -> str:
    """A hash of the sources that decide what a record holds."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def _make_record(study: Study | Sketch, recipe: Recipe) -> Record | Drop:
    try:
        made = study.make() if isinstance(study, Sketch) else study
        assert (made.patient, made.image_id, made.split) == (study.patient, study.image_id, study.split)
        return records.make(made, recipe)
    except Exception as fault:
        fault.add_note(f"while preparing image {study.image_id}")
        raise


def _key(task: Task) -> str:
    digest = hashlib.sha256(f"{clinicclip.__version__} {code_digest()} {task.split} {task.recipe}".encode())
    for study in task.studies:
        for part in _parts(study):
            digest.update(part)
    return digest.hexdigest()[:16]


def _parts(study: Study | Sketch) -> Iterator[bytes]:
    """All that a study is, as bytes: a file stands for itself by its size and the time of its last change."""
    if isinstance(study, Sketch):
        yield repr(study[:-1]).encode()
        yield pickle.dumps(study.make)
        return
    for field in fields(study):
        value = getattr(study, field.name)
        yield value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
    if isinstance(study.image, Path):
        with contextlib.suppress(OSError, ValueError):  # no such file: reading it will say so
            state = study.image.stat()
            yield f"{state.st_size} {state.st_mtime_ns}".encode()


def _write(path: Path, kept: list[Record], summary: Summary) -> Summary:
    # Several workers may be set on one shard where Apache Beam thinks one of them lost.
    unfinished = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    examples = [records.serialize(record) for record in kept]
    _write_examples(unfinished, examples)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = unfinished.stat().st_size
    unfinished.replace(path)
    return summary._replace(file=path.name, bytes=size, sha256=sha256, payload=sum(map(len, examples)))


def _write_examples(path: Path, examples: Sequence[bytes]) -> None:
    """Raises OSError when the file is not whole: ArrayRecord itself calls a full disk a RuntimeError."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    try:
        for example in examples:
            writer.write(example)
        writer.close()
        reader = ArrayRecordReader(str(path))
        written = reader.num_records()
        reader.close()
    except RuntimeError as fault:
        raise OSError(errno.EIO, str(fault).partition(";")[0].removeprefix("write() failed: ")) from None
    if written != len(examples):
        raise OSError(errno.EIO, f"{written} of {len(examples)} records arrived")


def _summary(task: Task, made: list[Record | Drop]) -> Summary:
    written, dropped, language, flags = [], [], Counter[str](), Counter[str]()
    for study, record in zip(task.studies, made, strict=True):
        if isinstance(record, Drop):
            dropped.append([study.image_id, study.study, record.reason])
        else:
            written.append([study.image_id, study.study, study.patient])
            language.update(_language(record))
            flags.update(record["image_flags"])
            language.update(graph_counts(record))
    return Summary(
        split=task.split,
        studies=len(task.studies),
        records=len(written),
        written=written,
        dropped=dropped,
        language=dict(language),
        flags=dict(flags),
    )


def _language(record: Record) -> Iterator[str]:
    yield "records"
    for section in ("findings", "impression"):
        if record[section].strip():
            yield f"records_with_{section}"
    if record["altered"] >= 0:
        yield "records_with_negated_report"
    else:
        yield f"records_not_negated_{record['not_negated']}"
    if record["normal"] != schema.UNKNOWN:
        yield "records_normal" if record["normal"] else "records_abnormal"
    for finding in record["sentence_finding"]:
        yield "sentences"
        if finding >= 0:
            yield "sentences_with_finding"
    for name, label in zip(schema.CHEXPERT, record["labels"], strict=True):
        if label != schema.UNKNOWN:
            yield f"label_{name}_{_WORD[int(label)]}"


def graph_counts(record: Record) -> dict[str, int]:
    """A record's report graph as counts: what made it, its size, and whether the usual budgets would cut it."""
    if not record["graph_by"]:
        return {}
    graph = records.stored_graph(record)
    over = graphs.cut(graph, nodes=graphs.NODES, edges=graphs.EDGES)
    sizes = {"graph_nodes": len(graph.spans), "graph_edges": len(graph.edges), "graphs_over_budget": int(over)}
    return {f"records_with_graph_by_{record['graph_by']}": 1, **sizes}


_WORD = {schema.PRESENT: "present", schema.ABSENT: "absent", schema.UNCERTAIN: "uncertain"}
