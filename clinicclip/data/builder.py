"""A release -> a prepared folder: TFDS records in ArrayRecord shards, split by patient, with a manifest.

OUTPUT holds manifest.json, dropped.jsonl and clinicclip_NAME/VERSION/, which ``tfds.builder_from_directory`` and
``tfds.data_source("clinicclip_NAME", data_dir=OUTPUT)`` open without this package.
"""

import bisect
import contextlib
import fcntl
import functools
import itertools
import json
import operator
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, SupportsIndex, runtime_checkable

from tqdm import tqdm

from clinicclip import files
from clinicclip.data import beam, images, publish, records, releases, shards
from clinicclip.data.generators import llm, templates
from clinicclip.data.manifest import DROPPED, MANIFEST, PARTIAL, Ledger, read_manifest
from clinicclip.data.records import CorruptRecord, Recipe
from clinicclip.data.schema import Drop, Record, Sketch, Study
from clinicclip.data.shards import Summary, Task
from clinicclip.data.waiting import waiting
from clinicclip.errors import UserError, nearest

__all__ = ["Source", "open_source", "read_manifest", "write"]


@runtime_checkable
class Join(Protocol):
    """Adds to the studies of a reader what another file or a model says of them."""

    def settings(self) -> dict[str, Any]:
        """What the manifest says of it."""

    def __call__(self, items: Iterator[Study | Sketch | Drop], /) -> Iterator[Study | Sketch | Drop]:
        """The same items in the same order. Raises UserError for a faulty file."""


class Source:
    """Random access to the records of one or several splits; picklable, safe to read from several threads."""

    def __init__(self, name: str, parts: Sequence[Any]) -> None:
        self._name, self._parts = name, list(parts)
        self._ends = list(itertools.accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: SupportsIndex) -> Record:
        """The record. Raises CorruptRecord, naming it, where its stored bytes have changed."""
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        part = bisect.bisect_right(self._ends, position)
        start = self._ends[part - 1] if part else 0
        try:
            return records.restore(self._parts[part][position - start])
        except (RuntimeError, CorruptRecord) as fault:  # the former of ArrayRecord: a checksum, or the file is gone
            raise CorruptRecord(
                f"{self._name}: record {position} cannot be read ({str(fault).partition(',')[0]}); delete the folder "
                "and run python -m clinicclip.prepare again, or restore the shard from a copy"
            ) from None

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def open_source(data_dir: str | Path, split: str) -> Source:
    """The records of a split such as ``train``, ``fold1+fold2`` or ``train[:10%]`` of a prepared folder.

    Raises UserError when the folder is not whole or has no such split.
    """
    import tensorflow_datasets as tfds

    manifest = read_manifest(data_dir)
    if manifest["version"] != records.FORMAT:
        raise UserError(
            f"{data_dir} holds records of format {manifest['version']}, this version reads {records.FORMAT}: delete "
            "the folder and run python -m clinicclip.prepare again"
        )
    known = manifest["splits"]
    parts = [part.strip() for part in split.split("+")]
    for part in parts:
        name = part.split("[")[0]
        if name not in known:
            raise UserError(f"{data_dir} has no split {name!r}, only {', '.join(known)}{nearest(name, known)}")
    stored = tfds.builder_from_directory(Path(data_dir) / manifest["folder"])
    as_stored = tfds.decode.DeserializeMethod.RAW_BYTES
    return Source(
        f"{data_dir}, split {split}",
        [stored.as_data_source(split=part, deserialize_method=as_stored) for part in parts],
    )


def write(
    release: str,
    output: Path,
    *,
    source: Path | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int = 0,
    workers: int = 0,
    dry_run: bool = False,
    shorter_side: int = images.SHORTER_SIDE,
    seed: int = 0,
    joins: Sequence[Join] = (),
    model: llm.Model | None = None,
    runner: beam.Runner | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepares ``release`` into ``output`` and returns the manifest; one finished with equal settings stays.

    ``source`` is the folder of a release on disk, ``options`` the settings of its reader; ``limit`` 0 is all.
    ``joins`` add to the studies, one after the other, what other files or models say of them. Negated reports are
    written by templates, or by a language ``model``. With a ``runner``, Apache Beam makes the shards. A killed run
    continues from its finished shards. ``dry_run`` reads and counts everything, names the first ids of what is left out
    as ``examples``, and writes nothing. Raises UserError for a faulty source, or an output that is taken or cannot be
    written.
    """
    reader = releases.READERS[release]
    settings: dict[str, Any] = {"release": release, "source": str(source.resolve()) if source else None}
    settings |= dict(reader.OPTIONS) | dict(options or {})
    settings |= {"limit": limit, "shorter_side": shorter_side, "seed": seed}
    settings |= {"generator": llm.NAME, "model": model.name} if model else {"generator": templates.TRAIN.name}
    for join in joins:
        settings |= join.settings()
    arguments = _arguments(reader, source, settings)
    recipe = Recipe(shorter_side=shorter_side, seed=seed, reports=reader.HAS_REPORTS)
    if dry_run:
        return publish.describe(reader, settings) | _prepare(reader, arguments, joins, None, recipe, limit, workers)[0]
    finished = _finished(output, settings, say)
    if finished:
        return finished
    with _workshop(output) as partial:
        if runner:
            tasks = functools.partial(_listed, release, arguments, joins, partial, recipe, limit)
            with waiting(f"{release}: shards by {runner.name}"):
                beam.make_shards(tasks, runner, arguments.get("source"))
        writer = model.open(partial / llm.ANSWERS) if model else None
        account, summaries = _prepare(reader, arguments, joins, partial, recipe, limit, workers, writer)
        manifest = publish.describe(reader, settings) | account
        if writer:
            manifest["language_model"] = {"name": writer.model, "prompt": llm.PROMPT_VERSION}
        with shards.writing(output):
            return publish.publish(output, partial, manifest, summaries)


def _arguments(reader: ModuleType, source: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: settings[name] for name in reader.OPTIONS}
    if reader.GENERATED:
        return options | {"seed": settings["seed"]}
    if source is None or not source.is_dir():
        raise UserError(f"{reader.NAME}: no folder {source}; point --source at the unpacked release")
    return {"source": source} | options


def _finished(output: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    if not (output / MANIFEST).is_file():
        if output.is_dir() and any(output.iterdir()) and not (output / PARTIAL).is_dir():
            raise UserError(f"{output} is not empty and not a prepared folder; choose another --output")
        return None
    manifest = read_manifest(output)
    made = dict(releases.READERS[settings["release"]].OPTIONS) | manifest["settings"]  # an option may be younger
    changed = [key for key in {**made, **settings} if made.get(key) != settings.get(key)]
    if changed:
        told = ", ".join(f"{key}={made.get(key)}" for key in changed)
        raise UserError(f"{output} is already prepared with {told}; delete it or choose another --output")
    shutil.rmtree(output / PARTIAL, ignore_errors=True)
    say(f"{output} is complete already (its source is not read again; delete it to prepare it anew): nothing to do")
    if manifest["code"]["digest"] != shards.code_digest():
        say("note: it was made by another version of the data code; delete it to make it anew")
    return manifest


@contextlib.contextmanager
def _workshop(output: Path) -> Iterator[Path]:
    """The folder of unfinished work, held by one process at a time; what it keeps is used by the next run."""
    partial = output / PARTIAL
    with contextlib.ExitStack() as stack:
        with shards.writing(output):
            partial.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((partial / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is preparing {output}: wait for it") from None
        yield partial


def _prepare(
    reader: ModuleType,
    arguments: Mapping[str, Any],
    joins: Sequence[Join],
    folder: Path | None,
    recipe: Recipe,
    limit: int,
    workers: int,
    writer: llm.Writer | None = None,
) -> tuple[dict[str, Any], list[Summary]]:
    """The account of all that was read, and every shard's summary; without ``folder`` nothing is written."""
    with _reading(reader.NAME), waiting(f"{reader.NAME}: counting reports and images"):
        expected = reader.count(**arguments)
    ledger = Ledger(reader.NAME, reader.SPLITS)
    summaries = []
    total = min(limit, expected["images"]) if limit else expected["images"]
    with tqdm(total=total, desc=reader.NAME, unit=" images", disable=None) as bar:
        studies = _noted(_read(reader, arguments, joins, limit), ledger, bar, limit)
        tasks = _tasks(studies, reader.SPLITS, folder, recipe)
        for summary in shards.run(_answered(tasks, writer) if writer else tasks, workers):
            ledger.add(summary)
            summaries.append(summary._replace(written=[], dropped=[]))
            bar.update(summary.studies)
    account = ledger.account(expected, limited=limit > 0)
    if not account["splits"]:
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in account["dropped"].items())
        raise UserError(f"{reader.NAME}: nothing to prepare, every report and image is dropped ({reasons})")
    if folder is None:
        account["examples"] = ledger.examples()
    else:
        lines = (json.dumps(drop._asdict()) + "\n" for drop in ledger.drops)
        with shards.writing(folder.parent):
            files.write_whole(folder / DROPPED, "".join(lines))
    return account, summaries


def _read(
    reader: ModuleType, arguments: Mapping[str, Any], joins: Sequence[Join], limit: int
) -> Iterator[Study | Sketch | Drop]:
    studies = 0
    with _reading(reader.NAME):
        items = reader.read(**arguments)
        for join in joins:
            items = join(items)
        for item in items:
            yield item
            studies += not isinstance(item, Drop)
            if studies == limit > 0:
                return


def _noted(items: Iterator[Study | Sketch | Drop], ledger: Ledger, bar: tqdm, limit: int) -> Iterator[Study | Sketch]:
    for item in items:
        if isinstance(item, Drop):
            ledger.drop(item)
            bar.update(item.kind == "image" and not limit)  # a limit counts what is used
        else:
            ledger.read(item)
            yield item


def _listed(
    release: str, arguments: Mapping[str, Any], joins: Sequence[Join], folder: Path, recipe: Recipe, limit: int
) -> Iterator[Task]:
    """The tasks of a release, for a worker that has nothing but these names of it."""
    reader = releases.READERS[release]
    items = _read(reader, arguments, joins, limit)
    yield from _tasks((item for item in items if not isinstance(item, Drop)), reader.SPLITS, folder, recipe)


@contextlib.contextmanager
def _reading(release: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise UserError(f"{release}: cannot read {fault.filename or 'the source'}: {fault.strerror}") from None


def _tasks(
    studies: Iterator[Study | Sketch], splits: Sequence[str], folder: Path | None, recipe: Recipe
) -> Iterator[Task]:
    """One task a shard; a shard holds studies of one split, in the reader's order."""
    waiting: dict[str, list[Study | Sketch]] = {split: [] for split in splits}
    numbers = {split: itertools.count() for split in splits}
    for study in studies:
        batch = waiting[study.split]
        batch.append(study)
        if len(batch) == shards.RECORDS_PER_SHARD:
            yield Task(folder, study.split, next(numbers[study.split]), tuple(batch), recipe)
            batch.clear()
    for split, batch in waiting.items():
        if batch:
            yield Task(folder, split, next(numbers[split]), tuple(batch), recipe)


def _answered(tasks: Iterator[Task], writer: llm.Writer) -> Iterator[Task]:
    """The tasks, each with what the language model writes for its studies; the workers themselves ask nobody."""
    for task in tasks:
        studies = (study.make() if isinstance(study, Sketch) else study for study in task.studies)
        asked = [question for study in studies for question in records.questions(study, task.recipe)]
        yield task._replace(recipe=task.recipe._replace(generator=writer.answers(asked)))
