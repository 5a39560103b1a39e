"""Finished shards -> a folder TFDS opens, with the manifest as the last file.

The shards are laid out here rather than by a TFDS generator builder, which holds a whole split in memory and
needs TensorFlow for its buckets once a split passes a gigabyte.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import clinicclip
from clinicclip import files
from clinicclip.data import images, records, shards
from clinicclip.data.manifest import DROPPED, MANIFEST, file_sha256
from clinicclip.data.shards import Summary

DATASET = "clinicclip_{}"  # its name to TFDS, which prefers a builder of its own (there is one of chexpert) to a folder


def describe(reader: ModuleType, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of a release before anything of it is read."""
    return {
        "name": reader.NAME,
        "title": reader.TITLE,
        "version": records.FORMAT,
        "open": reader.OPEN,
        "licence": reader.LICENCE,
        "citation": reader.CITATION,
        "published": dict(reader.PUBLISHED),
        "settings": dict(settings),
        "image": {"shorter_side": settings["shorter_side"], "jpeg_quality": images.JPEG_QUALITY},
        "code": {"version": clinicclip.__version__, "digest": shards.code_digest()},
        "folder": f"{DATASET.format(reader.NAME)}/{records.FORMAT}",
    }


def publish(output: Path, partial: Path, manifest: dict[str, Any], summaries: Sequence[Summary]) -> dict[str, Any]:
    """Puts the shards of ``partial`` into their place under ``output`` and returns the finished manifest.

    ``partial`` keeps all it has until the manifest is there, so that a start after any interruption finds it.
    """
    stage = partial / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    entries = _stage(stage, partial, manifest, summaries)
    final = output / manifest["folder"]
    shutil.rmtree(final, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    stage.rename(final)
    entries[DROPPED] = _entry(partial / DROPPED)
    files.write_whole(output / DROPPED, (partial / DROPPED).read_bytes())
    manifest = manifest | {"files": dict(sorted(entries.items()))}
    files.write_whole(output / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _stage(
    stage: Path, partial: Path, manifest: Mapping[str, Any], summaries: Sequence[Summary]
) -> dict[str, dict[str, Any]]:
    """Names the shards as TFDS does, writes its metadata, and returns the manifest's entry of every file."""
    import tensorflow_datasets as tfds

    name = DATASET.format(manifest["name"])
    template = tfds.core.ShardedFileTemplate(data_dir=stage, dataset_name=name, filetype_suffix="array_record")
    splits, entries = [], {}
    for split in manifest["splits"]:
        parts = [summary for summary in summaries if summary.split == split and summary.file]
        for i, part in enumerate(parts):
            target = stage / f"{name}-{split}.array_record-{i:05d}-of-{len(parts):05d}"
            _place(partial / part.file, target)
            entries[target.name] = {"sha256": part.sha256, "bytes": part.bytes}
        splits.append(
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
        split_infos=splits,
        version=manifest["version"],
        check_data=False,
        description=manifest["title"],
        citation=manifest["citation"],
        license=manifest["licence"],
    )
    for path in stage.iterdir():
        entries.setdefault(path.name, _entry(path))
    return {f"{manifest['folder']}/{file}": entry for file, entry in entries.items()}


def _place(shard: Path, target: Path) -> None:
    """A second name of the file, or a copy where the file system knows no such thing."""
    try:
        os.link(shard, target)
    except OSError:
        shutil.copyfile(shard, target)


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}
