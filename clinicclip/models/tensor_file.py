"""Safetensors files, read and written as plain numpy dicts without PyTorch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clinicclip import files
from clinicclip.errors import UserError


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file by name. Raises UserError when it is absent or damaged."""
    if not files.exists(path):
        raise UserError(f"{path}: no such weight file")
    try:
        return load_file(path)
    # It looks types up by name, in tables that lack some: KeyError, AttributeError, TypeError
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        fault = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable safetensors file ({fault}); fetch it again") from error


def write(path: Path, tensors: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays under their names, whole or not at all; the metadata always says format "pt"."""
    files.write_tensors(path, tensors, {"format": "pt", **(metadata or {})})
