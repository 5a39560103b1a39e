"""Prepared data in an object store (gs://, s3://): copied to this machine once, every file held to its checksum.

The copy lies in the user's cache folder under the digest of place and manifest, so that other data get another copy.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
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
        UserError: there are no prepared data, they cannot be read, or a file is not what the manifest says.
    """
    if not (named := PLACE.match(place)):
        return Path(place)
    place = place.rstrip("/")
    with _faults(place, named[1]):
        import fsspec  # slow to import, and only needed here

        system, root = fsspec.core.url_to_fs(place)
        with system.open(f"{root}/{MANIFEST}", "rb") as file:
            manifest = file.read(MANIFEST_BYTES)
    copy = _cache() / hashlib.sha256(f"{place}\0".encode() + manifest).hexdigest()[:12]
    files.make_folder(copy)
    with (copy / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (copy / MANIFEST).is_file():
            _copy(system, root, place, manifest, copy)
    return copy


def _copy(system: Any, root: str, place: str, manifest: bytes, copy: Path) -> None:
    entries = _entries(manifest, place, copy)
    total = sum(entry["bytes"] for entry in entries.values())
    with tqdm(total=total, desc="copying data", unit="B", unit_scale=True, disable=None) as bar:
        for name, entry in entries.items():
            target = copy / name
            if not target.is_file():
                _copy_file(system, f"{root}/{name}", f"{place}/{name}", target, entry["sha256"])
            bar.update(entry["bytes"])
    files.write_whole(copy / MANIFEST, manifest)


def _entries(manifest: bytes, place: str, copy: Path) -> Mapping[str, Any]:
    """The files that a manifest names, none of which may lie elsewhere than beneath it."""
    try:
        entries: dict[str, Any] = json.loads(manifest)["files"]
        whole = all(type(entry["bytes"]) is int and type(entry["sha256"]) is str for entry in entries.values())
        outside = [name for name in entries if not (copy / name).resolve().is_relative_to(copy.resolve())]
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise UserError(f"{place}/{MANIFEST} is damaged: copy the prepared folder there again")
    if outside:
        raise UserError(f"{place}/{MANIFEST} names {outside[0]}, which is outside of it: nothing was copied")
    return entries


def _copy_file(system: Any, source: str, place: str, target: Path, sha256: str) -> None:
    files.make_folder(target.parent)
    unfinished, content = target.with_name(f"{target.name}.tmp"), hashlib.sha256()
    with unfinished.open("wb") as written:
        for chunk in _chunks(system, source, place):
            content.update(chunk)
            written.write(chunk)
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
