"""Prepared data whose stored records are damaged, one by one, as disks and broken writers do it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from clinicclip.data import records
from clinicclip.data.manifest import MANIFEST, file_sha256
from clinicclip.data.records import CorruptRecord
from clinicclip.data.schema import Record


class Source(list[Record]):
    """A source of which two records cannot be read: the one at all, the other's image."""

    def __init__(self, records: Iterable[Record], corrupt: int, undecodable: int) -> None:
        super().__init__(records)
        self.corrupt, self.undecodable = corrupt, undecodable

    def __getitem__(self, number: Any) -> Any:
        if number == self.corrupt:
            raise CorruptRecord(f"record {number}")
        return super().__getitem__(number) | ({"image": b"no picture"} if number == self.undecodable else {})


def shard(data: Path, split: str) -> Path:
    """The only shard of a split."""
    (path,) = data.rglob(f"*-{split}.array_record-*")
    return path


def rewrite(data: Path, split: str, changes: dict[int, Callable[[Any], None]]) -> None:
    """Writes a split anew, uncompressed, with the fields of some records changed, and notes it in the manifest."""
    path = shard(data, split)
    reader = ArrayRecordReader(str(path))
    stored = list(reader.read([*range(reader.num_records())]))
    for number, change in changes.items():
        example = records._example_type().FromString(stored[number])
        change(example.features.feature)
        stored[number] = example.SerializeToString(deterministic=True)
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for example in stored:
        writer.write(example)
    writer.close()
    manifest = json.loads((data / MANIFEST).read_text())
    at = manifest["files"][path.relative_to(data).as_posix()]
    at["bytes"], at["sha256"] = path.stat().st_size, file_sha256(path)
    (data / MANIFEST).write_text(json.dumps(manifest))


def flip(data: Path, split: str, number: int) -> None:
    """Turns a bit of a record that `rewrite` stored, as it lies on the disk."""
    path = shard(data, split)
    reader = ArrayRecordReader(str(path))
    (stored,) = reader.read([number])
    content = bytearray(path.read_bytes())
    content[content.index(stored)] ^= 1
    path.write_bytes(content)


def without_picture(fields: Any) -> None:
    """The image is no image."""
    fields["image"].bytes_list.value[0] = b"no picture"


def without_sex(fields: Any) -> None:
    """A field is not there."""
    del fields["sex"]
