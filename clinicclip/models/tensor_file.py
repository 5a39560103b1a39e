"""Safetensors files, read and written as plain numpy dicts without PyTorch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from clinicclip.errors import UserError


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file by name. Raises UserError when it is absent or damaged."""
    if not path.is_file():
        others = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in path.parent.glob(pattern)]
        hint = f"; {others[0]} there must be saved as safetensors first" if others else ""
        raise UserError(f"{path}: no such weight file{hint}")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        fault = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable safetensors file ({fault}); fetch it again") from error


def write(path: Path, tensors: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays under their names, in C order and readable by all; the metadata always says format "pt".

    safetensors stores the bytes of a strided view as they lie, so every array is laid out afresh here; not by
    `ascontiguousarray`, which turns a scalar into a vector. Its files are private by default (mode 0600).
    """
    ordered = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    save_file(ordered, path, metadata={"format": "pt", **(metadata or {})})
    path.chmod(0o644)
