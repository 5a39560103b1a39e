"""A release -> a prepared folder: TFDS records in ArrayRecord shards, split by patient, with a manifest.

OUTPUT/manifest.json, OUTPUT/dropped.jsonl, OUTPUT/NAME/VERSION/ (readable by ``tfds.builder_from_directory`` and
``tfds.data_source(NAME, data_dir=OUTPUT)`` alone). The shards are written here rather than by a TFDS generator
builder, which holds a split in memory and needs TensorFlow once it passes a gigabyte.
"""

import bisect
import contextlib
import fcntl
import itertools
import json
import operator
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsIndex

from tqdm import tqdm

import clinicclip
from clinicclip.data import images, records, releases, shards
from clinicclip.data.manifest import DROPPED, MANIFEST, PARTIAL, Ledger, file_sha256, read_manifest
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Drop, Record, Study
from clinicclip.data.shards import Summary, Task
from clinicclip.errors import UserError, nearest

__all__ = ["Source", "open_source", "read_manifest", "write"]


class Source:
    """Random access to the records of one or several splits; picklable, safe to read from several threads."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: SupportsIndex) -> Record:
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        part = bisect.bisect_right(self._ends, position)
        start = self._ends[part - 1] if part else 0
        return records.restore(self._parts[part][position - start])

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def open_source(data_dir: str | Path, split: str) -> Source:
    """The records of a split such as ``train``, ``fold1+fold2`` or ``train[:10%]`` of a prepared folder.

    Raises UserError when the folder is not whole or has no such split.
    """
    import tensorflow_datasets as tfds

    manifest = read_manifest(data_dir)
    parts = [part.strip() for part in split.split("+")]
    for part in parts:
        name = part.split("[")[0]
        if name not in manifest["splits"]:
            known = ", ".join(manifest["splits"])
            raise UserError(f"{data_dir} has no split {name!r}{nearest(name, manifest['splits'])} (it has {known})")
    stored = tfds.builder_from_directory(Path(data_dir) / manifest["folder"])
    encoded = {"image": tfds.decode.SkipDecoding()}
    return Source([stored.as_data_source(split=part, decoders=encoded) for part in parts])


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
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Prepares ``release`` into ``output`` and returns the manifest; a finished folder of equal settings stays.

    ``source`` is the folder of a release on disk, ``options`` the settings of a generated one; ``limit`` 0 = all.
    A killed run continues from its finished shards. ``dry_run`` reads and counts everything and writes nothing.
    Raises UserError for a faulty source or an output that is taken or cannot be written.
    """
    reader = releases.READERS[release]
    arguments = _arguments(reader, source, options or {}, seed)
    settings = {"release": release, "source": str(source.resolve()) if source else None, **(options or {})}
    settings |= {"limit": limit, "shorter_side": shorter_side, "seed": seed}
    recipe = Recipe(shorter_side=shorter_side, seed=seed)
    if dry_run:
        return _prepare(reader, arguments, None, recipe, limit, workers)[0] | {"settings": settings}
    finished = _finished(output, settings, say)
    if finished:
        return finished
    try:
        with _workshop(output) as partial:
            account, summaries = _prepare(reader, arguments, partial, recipe, limit, workers)
            manifest = _describe(reader, settings) | account
            _publish(output, partial, reader, manifest, summaries)
    except OSError as fault:
        raise shards.storage_fault(output, fault) from None
    return manifest


def _arguments(reader: ModuleType, source: Path | None, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    if reader.OPTIONS:
        return dict(reader.OPTIONS) | dict(options) | {"seed": seed}
    if source is None or not source.is_dir():
        raise UserError(f"{reader.NAME}: no folder {source or '--source'}; point --source at the unpacked release")
    return {"source": source}


def _finished(output: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    if not (output / MANIFEST).is_file():
        if output.is_dir() and any(output.iterdir()) and not (output / PARTIAL).is_dir():
            raise UserError(f"{output} is not empty and not a prepared folder; choose another --output")
        return None
    manifest = read_manifest(output)
    changed = [key for key, value in settings.items() if manifest["settings"].get(key) != value]
    if changed:
        told = ", ".join(f"{key}={manifest['settings'].get(key)}" for key in changed)
        raise UserError(f"{output} is already prepared with {told}; delete it or choose another --output")
    shutil.rmtree(output / PARTIAL, ignore_errors=True)
    say(f"{output} is complete already")
    if manifest["code"]["digest"] != shards.code_digest():
        say("note: made by another version of the data code; delete the folder to make it anew")
    return manifest


@contextlib.contextmanager
def _workshop(output: Path) -> Iterator[Path]:
    """The folder of unfinished work, held by one process at a time; what it keeps is used by the next run."""
    partial = output / PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is preparing {output}; wait for it or choose another --output") from None
        yield partial


def _prepare(
    reader: ModuleType, arguments: Mapping[str, Any], folder: Path | None, recipe: Recipe, limit: int, workers: int
) -> tuple[dict[str, Any], list[Summary]]:
    expected = reader.count(**arguments)
    ledger = Ledger(reader.NAME, reader.SPLITS)
    summaries = []
    with tqdm(total=expected["images"], desc=reader.NAME, unit=" images", disable=None) as bar:
        read = _read(reader.read(**arguments), ledger, limit, bar)
        for summary in shards.run(_tasks(read, reader.SPLITS, folder, recipe), workers):
            ledger.add(summary)
            summaries.append(summary._replace(written=[], dropped=[]))
            bar.update(summary.studies)
    account = ledger.account(expected, limited=limit > 0)
    if not account["splits"]:
        raise UserError(f"{reader.NAME}: nothing to prepare, all is dropped: {account['dropped'] or 'empty release'}")
    if folder is not None:
        lines = (json.dumps(drop._asdict()) + "\n" for drop in ledger.drops)
        shards.write_whole(folder / DROPPED, "".join(lines))
    return {"source": expected} | account | {"language": dict(sorted(ledger.language.items()))}, summaries


def _read(items: Iterator[Study | Drop], ledger: Ledger, limit: int, bar: tqdm) -> Iterator[Study]:
    studies = 0
    for item in items:
        if isinstance(item, Drop):
            ledger.drop(item)
            bar.update(item.kind == "image")
        else:
            ledger.read(item)
            yield item
            studies += 1
            if studies == limit:
                return


def _tasks(
    studies: Iterator[Study], splits: Sequence[str], folder: Path | None, recipe: Recipe
) -> Iterator[Task]:
    waiting: dict[str, list[Study]] = {split: [] for split in splits}
    done = dict.fromkeys(splits, 0)

    def task(split: str) -> Task:
        made = Task(folder, split, done[split], tuple(waiting[split]), recipe)
        waiting[split], done[split] = [], done[split] + 1
        return made

    for study in studies:
        waiting[study.split].append(study)
        if len(waiting[study.split]) == shards.RECORDS_PER_SHARD:
            yield task(study.split)
    yield from (task(split) for split in splits if waiting[split])


def _describe(reader: ModuleType, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": reader.NAME,
        "title": reader.TITLE,
        "version": records.FORMAT,
        "open": reader.OPEN,
        "licence": reader.LICENCE,
        "citation": reader.CITATION,
        "settings": dict(settings),
        "image": {"shorter_side": settings["shorter_side"], "jpeg_quality": images.JPEG_QUALITY},
        "code": {"version": clinicclip.__version__, "digest": shards.code_digest()},
        "folder": f"{reader.NAME}/{records.FORMAT}",
    }


def _publish(
    output: Path, partial: Path, reader: ModuleType, manifest: dict[str, Any], summaries: Sequence[Summary]
) -> None:
    """Names the shards as TFDS does, describes them, and moves all into place; the manifest comes last."""
    import tensorflow_datasets as tfds

    stage = partial / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    template = tfds.core.ShardedFileTemplate(data_dir=stage, dataset_name=reader.NAME, filetype_suffix="array_record")
    split_infos, files = [], {}
    for split in manifest["splits"]:
        parts = [summary for summary in summaries if summary.split == split and summary.file]
        for i, part in enumerate(parts):
            name = f"{reader.NAME}-{split}.array_record-{i:05d}-of-{len(parts):05d}"
            (partial / part.file).rename(stage / name)
            files[f"{manifest['folder']}/{name}"] = {"sha256": part.sha256, "bytes": part.bytes}
        split_infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[part.records for part in parts],
                num_bytes=sum(part.payload for part in parts),
                filename_template=template.replace(split=split),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=stage,
        features=records.features(),
        split_infos=split_infos,
        version=records.FORMAT,
        check_data=False,
        description=reader.TITLE,
        citation=reader.CITATION,
        license=reader.LICENCE,
    )
    for path in stage.iterdir():
        name = f"{manifest['folder']}/{path.name}"
        files.setdefault(name, {"sha256": file_sha256(path), "bytes": path.stat().st_size})
    final = output / manifest["folder"]
    shutil.rmtree(final, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    stage.rename(final)
    dropped = partial / DROPPED
    files[DROPPED] = {"sha256": file_sha256(dropped), "bytes": dropped.stat().st_size}
    dropped.replace(output / DROPPED)
    manifest["files"] = dict(sorted(files.items()))
    shards.write_whole(output / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(partial, ignore_errors=True)
