"""Prepared data in an object store (gs://, s3://): copied to this machine once, every file held to its checksum.

The copy lies in the user's cache folder under the digest of place and manifest, so that other data get another copy.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clinicclip import files
from clinicclip.data.manifest import MANIFEST
from clinicclip.errors import UserError

PLACE = re.compile(r"(\w+)://")
EXTRAS = ("gs", "s3")  # what `pip install 'clinicclip[...]'` brings the client of
MANIFEST_BYTES = 2**26  # the most that a manifest may have
CHUNK = 2**22  # bytes
MOST_SAID = 300  # characters of what a client says


def local(place: str) -> Path:
    """The folder of this name, or the copy on this machine of one in a store.

    A copy that was cut off goes on with the file it had come to. Of several processes, one copies and the others wait.

    Raises:
        UserError: there are no prepared data, they cannot be read, a file is not what the manifest says, or the disk
            has no room for them.
    """
    if not PLACE.match(place):
        return Path(place)
    place = place.rstrip("/")
    system, root, manifest = _found(place)
    copy = _cache() / hashlib.sha256(f"{place}\0".encode() + manifest).hexdigest()[:12]
    files.make_folder(copy)
    with files.alone(copy, patience=math.inf):
        if not (copy / MANIFEST).is_file():
            _copy(system, root, place, manifest, copy)
    return copy


def digest(place: str) -> str:
    """Twelve hexadecimal digits of the manifest of prepared data, of which nothing is copied; empty for no such folder.

    Raises UserError where a store cannot be read.
    """
    path = Path(place) / MANIFEST
    if not PLACE.match(place) and not path.is_file():
        return ""
    content = _found(place.rstrip("/"))[2] if PLACE.match(place) else files.content(path, "prepare the data again")
    return hashlib.sha256(content).hexdigest()[:12]


def _found(place: str) -> tuple[Any, str, bytes]:
    """The file system of a store, where in it the data lie, and their manifest."""
    with _faults(place, place.partition(":")[0]):
        import fsspec  # slow to import, and only needed here

        system, root = fsspec.core.url_to_fs(place)
        with system.open(f"{root}/{MANIFEST}", "rb") as file:
            return system, root, file.read(MANIFEST_BYTES)


def _copy(system: Any, root: str, place: str, manifest: bytes, copy: Path) -> None:
    entries = _entries(manifest, place, copy)
    total = sum(size for size, _ in entries.values())
    left, free = total - _size(copy), shutil.disk_usage(copy).free
    if left > free:
        raise UserError(
            f"{place}: {left / 2**30:.1f} GiB are to be copied to {copy}, where {free / 2**30:.1f} are free"
        )
    with tqdm(total=total, desc="copying data", unit="B", unit_scale=True, disable=None) as bar:
        for name, (size, sha256) in entries.items():
            target = copy / name
            if not target.is_file():
                _copy_file(system, f"{root}/{name}", f"{place}/{name}", target, size, sha256)
            bar.update(size)
    files.write_whole(copy / MANIFEST, manifest)


def _entries(manifest: bytes, place: str, copy: Path) -> dict[str, tuple[int, str]]:
    """Size and checksum of the files that a manifest names, none of which may lie elsewhere than beneath it."""
    try:
        entries = {name: (at["bytes"], at["sha256"]) for name, at in json.loads(manifest)["files"].items()}
        whole = all(type(size) is int and size >= 0 and type(sha256) is str for size, sha256 in entries.values())
        outside = [name for name in entries if not (copy / name).resolve().is_relative_to(copy.resolve())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{place}/{MANIFEST} is damaged: copy the prepared folder there again")
    if outside:
        raise UserError(f"{place}/{MANIFEST} names {outside[0]}, which is outside of it: nothing was copied")
    return entries


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy_file(system: Any, source: str, place: str, target: Path, size: int, sha256: str) -> None:
    files.make_folder(target.parent)
    unfinished, content = target.with_name(f"{target.name}.tmp"), hashlib.sha256()
    with unfinished.open("wb") as written:
        for chunk in _chunks(system, source, place):
            content.update(chunk)
            written.write(chunk)
            if written.tell() > size:
                break
        written.flush()
        os.fsync(written.fileno())
    if content.hexdigest() != sha256:
        unfinished.unlink()
        raise UserError(f"{place} is not what its manifest says: copy the prepared folder there again")
    unfinished.replace(target)


def _chunks(system: Any, source: str, place: str) -> Iterator[bytes]:
    with _faults(place):
        read = system.open(source, "rb")
    with read:
        more = True
        while more:
            with _faults(place):
                chunk = read.read(CHUNK)
            if more := bool(chunk):
                yield chunk


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "clinicclip", "data")


@contextmanager
def _faults(place: str, protocol: str = "") -> Iterator[None]:
    """What clients of stores raise, each something of its own, as one line."""
    try:
        yield
    except ImportError:
        extra = f": pip install 'clinicclip[{protocol}]'" if protocol in EXTRAS else ""
        raise UserError(f"{place}: the client of {protocol}:// is not installed{extra}") from None
    except FileNotFoundError:
        raise UserError(f"{place}: not found; a place of prepared data holds {MANIFEST}") from None
    except Exception as fault:
        raise UserError(f"{place}: cannot be read ({type(fault).__name__}: {fault})"[:MOST_SAID]) from fault
