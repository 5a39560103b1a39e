"""Files that are whole or not there: written beside their place, brought to the disk, then renamed."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from clinicclip.errors import UserError

KINDS = {"F16": "<f2", "F32": "<f4", "U64": "<u8"}  # what `map_tensors` can map
HEADER_BYTES = 10**8  # the most that describe a file's arrays, as safetensors itself has it


def make_folder(path: Path) -> None:
    """Makes a folder with its parents, or finds it. Raises UserError when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"{path}: cannot be made into a folder ({fault.strerror}); choose another place") from None


def digest(folder: Path, pattern: str) -> str:
    """Twelve hex digits over the names and contents of the files of a folder, and of the folders in it."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob(pattern)):
        content.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return content.hexdigest()[:12]


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
        header = json.loads(file.read(length))
    arrays = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        kind, start = np.dtype(KINDS[facts["dtype"]]), 8 + length + facts["data_offsets"][0]
        if 0 in facts["shape"]:  # nothing that could be mapped
            arrays[name] = np.zeros(facts["shape"], kind)
        else:
            arrays[name] = np.memmap(path, kind, "r", start, tuple(facts["shape"]))
    return arrays
