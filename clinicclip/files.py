"""Files that are whole or not there: written beside their place, brought to the disk, then renamed."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from clinicclip.errors import UserError


def make_folder(path: Path) -> None:
    """Makes a folder with its parents, or finds it. Raises UserError when it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"{path}: cannot be made into a folder ({fault.strerror}); choose another place") from None


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
