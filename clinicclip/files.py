"""Files that are whole or not there: written beside their place, brought to the disk, then renamed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from clinicclip.errors import UserError

MOST_JSON = 2**28  # bytes of a file that is read at once
KINDS = {"F16": "<f2", "F32": "<f4", "U64": "<u8"}  # what `map_tensors` can map
HEADER_BYTES = 10**8  # the most that describe a file's arrays, as safetensors itself has it
LOCK = "lock"  # in a folder that one process at a time works on
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what a file system says that keeps none


def make_folder(path: Path) -> None:
    """Makes a folder with its parents, or finds it. Raises UserError when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"{path}: cannot be made into a folder ({fault.strerror}); choose another place") from None


def exists(path: Path) -> bool:
    """Whether something is there; what no file can be called is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def at(place: str) -> tuple[str, str]:
    """A place and what stands after its last @, "" where there is none or it is of the name of what is there."""
    path, sign, part = place.rpartition("@")
    return (path, part) if sign and not exists(Path(place)) else (place, "")


@contextlib.contextmanager
def alone(folder: Path, patience: float = 0.0) -> Iterator[int]:
    """Holds the lock of a folder that is there, by its file descriptor; goes without where none can be had.

    Raises:
        UserError: another process holds it, and does so for ``patience`` seconds.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    busy = f"{folder} is being worked on by another process"
    end, told = time.monotonic() + patience, False
    try:
        while not _locked(descriptor):
            if time.monotonic() >= end:
                raise UserError(f"{busy}: wait for its end, or end it")
            if not told:
                print(f"{busy}: waiting up to {patience:.0f} s for its end", flush=True)
                told = True
            time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as fault:
        if fault.errno not in NO_LOCKS:
            raise
    return True


def digest(folder: Path, pattern: str) -> str:
    """Twelve hex digits over the names and contents of the files of a folder, and of the folders in it."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        content.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return content.hexdigest()[:12]


def content(path: Path, mend: str = "restore or fetch it") -> bytes:
    """What a file holds that is read at once. Raises OSError, and UserError when it is absurdly large."""
    if path.stat().st_size > MOST_JSON:
        raise UserError(f"{path} is damaged (more than {MOST_JSON:,} bytes): {mend}")
    return path.read_bytes()


def read_json(path: Path, keys: Collection[str], mend: str = "restore the file") -> dict[str, Any]:
    """The object of a JSON file, which has at least these ``keys``.

    Raises:
      UserError: it holds something else, or is absurdly large; tells how to ``mend`` it.
      FileNotFoundError: there is no such file.
    """
    try:
        found = json.loads(content(path, mend))
    except (ValueError, RecursionError) as fault:
        raise UserError(f"{path} is damaged (not JSON: {fault}): {mend}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (no JSON object): {mend}")
    if lacking := sorted(set(keys) - found.keys()):
        raise UserError(f"{path} is damaged (it lacks {lacking[0]!r}): {mend}")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file that was fetched, empty where there is no file. Raises UserError as ``read_json``."""
    return read_json(path, (), "fetch the folder again") if path.is_file() else {}


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file (text as UTF-8, its line ends kept); whenever this stops, `path` holds the old or the new one.

    Raises:
      OSError: it cannot be written; names `path`, and no unfinished file stays behind.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as fault:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if isinstance(fault, OSError):
            fault.filename, fault.filename2 = str(path), None
        raise


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays under their names as safetensors, in C order, by `write_whole`.

    safetensors stores the bytes of a strided view as they lie, so every array is laid out afresh here; not by
    `ascontiguousarray`, which turns a scalar into a vector. Its own `save_file` would leave half a file on a full
    disk, private (mode 0600), and raise what is no OSError.
    """
    ordered = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    write_whole(path, save(ordered, metadata=dict(metadata) if metadata else None))


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read-only and left on the disk until they are used.

    Raises:
      OSError, ValueError: no such file, or not a whole one.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, HEADER_BYTES):
            raise ValueError(f"{path} says that {length} bytes describe its arrays")
        described = file.read(length)
    try:
        header = json.loads(described)
        return {name: _mapped(path, 8 + length, at) for name, at in header.items() if name != "__metadata__"}
    except (AttributeError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as fault:
        raise ValueError(f"{path}: its header is not that of arrays") from fault


def _mapped(path: Path, start: int, at: Mapping[str, Any]) -> np.ndarray:
    shape, kind, (first, last) = tuple(at["shape"]), np.dtype(KINDS[at["dtype"]]), at["data_offsets"]
    if first < 0 or last - first != math.prod(shape) * kind.itemsize or min(shape, default=0) < 0:
        raise KeyError("data_offsets")
    if 0 in shape:  # nothing that could be mapped
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", start + first, shape)
