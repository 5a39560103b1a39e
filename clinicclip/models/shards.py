"""Weights larger than one file should be: shards beside an index, as transformers and the hub have them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from huggingface_hub import split_state_dict_into_shards_factory

from clinicclip import files
from clinicclip.errors import UserError, listing
from clinicclip.models import tensor_file

LIMIT = 5 * 10**9  # bytes of a file
INDEX = ".index.json"
INDEX_BYTES = 2**26
LONGEST = 200  # characters of a name
KINDS = (".safetensors", ".bin", ".pt", ".pth")
Tensors = dict[str, np.ndarray]


def write(
    path: Path, tensors: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None, limit: int = LIMIT
) -> None:
    """Write arrays as one file, or as shards of at most `limit` bytes (or one array) with an index beside them."""
    split = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern=f"{path.stem}{{suffix}}{path.suffix}",
        max_shard_size=limit,
    )
    for name, keys in split.filename_to_tensors.items():
        tensor_file.write(path.with_name(name), {key: tensors[key] for key in keys}, metadata=metadata)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        files.write_whole(_index(path), json.dumps(index, indent=1) + "\n")


def parts(path: Path) -> tuple[Path, ...]:
    """The weight file, or where it was split its shards and, last, their index, which may be given for it.

    Raises UserError for a bad index.
    """
    index = path if path.name.endswith(INDEX) else _index(path)
    if index != path and (path.is_file() or not index.is_file()):
        return (path,)
    return (*(path.with_name(name) for name in sorted(set(weight_map(index).values()))), index)


def read(path: Path) -> Tensors:
    """All arrays of a safetensors file, or of the shards it was split into. Raises UserError."""
    *shards, last = parts(path)
    return read_index(last, tensor_file.read) if shards else tensor_file.read(last)


def read_index(index: Path, read_one: Callable[[Path], Tensors]) -> Tensors:
    """The arrays of all shards, each of which must hold exactly what the index says of it. Raises UserError."""
    where = weight_map(index)
    tensors: Tensors = {}
    for name in sorted(set(where.values())):
        found = read_one(index.parent / name)
        listed = {key for key, file in where.items() if file == name}
        if wrong := sorted(listed ^ set(found)):
            raise listing(f"{index}: does not say what {name} holds, fetch both again", {"told otherwise": wrong})
        tensors |= found
    return tensors


def weight_map(index: Path) -> dict[str, str]:
    """Name of each array -> name of the file beside the index that holds it.

    Raises UserError when the index is none, or names a file anywhere else.
    """
    try:
        if index.stat().st_size > INDEX_BYTES:
            raise UserError(f"{index}: is no index of shards, it has {index.stat().st_size:,} bytes")
        where = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        pairs = {str(key): str(name) for key, name in where.items()}
        if not pairs:
            raise ValueError("no names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{index}: is no index of shards with a weight_map; fetch it again") from None
    for name in set(pairs.values()):
        plain = PurePosixPath(name).name == name and name.isprintable() and "\\" not in name and len(name) <= LONGEST
        if not plain or not name.endswith(KINDS):
            raise UserError(f"{index}: names the shard {name[:LONGEST]!r}; a shard is a weight file beside its index")
    return pairs


def _index(path: Path) -> Path:
    return path.with_name(path.name + INDEX)
