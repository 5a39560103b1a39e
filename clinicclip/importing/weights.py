"""Weight files as numpy arrays: safetensors whole or in shards, and PyTorch's own files where PyTorch is installed.

Nothing but arrays is ever read: PyTorch's files are pickles, and are opened with ``weights_only=True`` alone.
"""

import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clinicclip.errors import UserError
from clinicclip.importing.spelling import canonical
from clinicclip.models import shards, tensor_file

SAFE, PICKLED = (".safetensors",), (".bin", ".pt", ".pth")
# In this order: what transformers and timm write, then open_clip; safetensors before pickles.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)


def weight_file(place: Path) -> Path:
    """The weight file of a folder, or the file itself.

    Raises UserError when there is none, or several of which none has a usual name.
    """
    if not place.is_dir():
        return place
    for name in NAMES:
        if (place / name).is_file():
            return place / name
    for kinds in (SAFE, PICKLED):
        found = sorted(path for path in place.iterdir() if path.suffix in kinds and path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            ways = "name one of them, on a hub as ORG/NAME:FILE"
            raise UserError(f"{place}: holds {len(found)} weight files ({names}); {ways}")
        if found:
            return found[0]
    raise UserError(f"{place}: holds no weight file; expected one of {', '.join(NAMES)}")


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a weight file, or of the shards an index names, under the names of our tables.

    Raises UserError when it is absent, damaged, holds more than arrays, or needs PyTorch and there is none.
    """
    tensors = shards.read_index(path, _read_file) if path.name.endswith(shards.INDEX) else _read_file(path)
    return canonical(tensors, str(path))


VIEWS = 4  # arrays that are stored once and shared under several names
# What torch raises for a file that is no pickle of arrays, or not a whole one.
_DAMAGES = (RuntimeError, EOFError, LookupError, TypeError, AttributeError, ValueError, struct.error)


def _read_file(path: Path) -> dict[str, np.ndarray]:
    return _read_pickled(path) if path.suffix in PICKLED else tensor_file.read(path)


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading a PyTorch file needs PyTorch: pip install 'clinicclip[torch]', or save it as safetensors"
        ) from None
    try:
        state = _state(torch.load(path, map_location="cpu", weights_only=True), path, torch)
        _require_stored(state.values(), path)
        return {str(key): _numpy(tensor) for key, tensor in state.items()}
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror or fault}); fetch it again") from None
    except (*_DAMAGES, pickle.UnpicklingError):
        raise UserError(f"{path}: is no PyTorch file of arrays alone; nothing else is read from it") from None


def _state(content: Any, path: Path, torch: Any) -> Mapping[str, Any]:
    """The dictionary of arrays that a file is, or has among other things, as a training script puts it there.

    Raises UserError when it has several, such as a model and its moving average.
    """
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    states = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, Mapping) and value and all(isinstance(one, torch.Tensor) for one in value.values())
    }
    if len(states) > 1:
        names = ", ".join(states)
        raise UserError(f"{path}: holds {len(states)} states of arrays ({names}); save the one to be read alone")
    return next(iter(states.values()), content)


def _require_stored(tensors: Iterable[Any], path: Path) -> None:
    """Raises UserError when views make more numbers of what a file stores than there are in it."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if claimed > VIEWS * path.stat().st_size:
        raise UserError(f"{path}: claims {claimed:,} bytes of arrays, far more than it stores; fetch it again")


def _numpy(tensor: Any) -> np.ndarray:
    """An array of the same values; half precision, which numpy may lack, as float32."""
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
