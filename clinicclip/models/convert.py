"""Weights between our parameter tree and PyTorch's names, whole or not at all.

Everything here is numpy: neither PyTorch nor an accelerator is needed to read or write its formats. A
missing, unexpected or mis-shaped array is never skipped; all offenders are named in one error.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clinicclip.errors import UserError, listing
from clinicclip.models.clip import ClipSpec
from clinicclip.models.torch_names import (
    TRANSFORMERS,
    Leaf,
    clip_leaves,
    extra_shapes,
    index_buffers,
    is_buffer,
)

UNFIT = "the weights do not fit the model"
Tensors = dict[str, np.ndarray]
Params = dict[str, Any]  # nested dict of arrays, as flax has it


def to_torch(params: Mapping[str, Any], spec: ClipSpec, dialect: str) -> Tensors:
    """Both towers, projections and temperature as float32 arrays under the dialect's names, in C order.

    The transformers dialect gets its index buffers too; what neither dialect can say is left to `extras`.
    Raises UserError naming every missing, unexpected and mis-shaped leaf.
    """
    leaves = clip_leaves(spec, dialect)
    flat = _flat(params, spec)
    tensors = {key: tensor for leaf in leaves for key, tensor in _outward(leaf, flat[leaf.path])}
    return tensors | (index_buffers(spec.image) if dialect == TRANSFORMERS else {})


def extras(params: Mapping[str, Any], spec: ClipSpec) -> Tensors:
    """The leaves no PyTorch dialect has a name for (graph tower, logit bias) as float32, by flax path."""
    flat = _flat(params, spec)
    return {path: flat[path].astype(np.float32) for path in extra_shapes(spec)}


def digest(params: Mapping[str, Any]) -> str:
    """SHA-256 over the paths and bytes of all leaves."""
    flat, content = flatten_dict(dict(params), sep="/"), hashlib.sha256()
    for path in sorted(flat):
        content.update(path.encode() + np.asarray(flat[path]).tobytes())
    return content.hexdigest()


def rounded(params: Mapping[str, Any], dtype: str) -> Params:
    """The parameters as an export in `dtype` will hold them, in float32: every array rounded, single numbers kept.

    Raises UserError naming every array that has numbers too large for the type.
    """
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(params), sep="/").items()}
    with np.errstate(over="ignore"):
        narrow = {path: in_dtype(leaf, dtype).astype(np.float32) for path, leaf in flat.items()}
    if large := [path for path, leaf in narrow.items() if not np.isfinite(leaf).all()]:
        raise UserError(f"export: {dtype} cannot hold the numbers of {', '.join(large)}; choose --dtype=bfloat16")
    return unflatten_dict(narrow, sep="/")


def in_dtype(array: np.ndarray, dtype: str) -> np.ndarray:
    """A floating-point array in another type; a single number and any other array as it is."""
    return array.astype(dtype) if array.ndim and _is_float(array) else array


def from_torch(
    tensors: Mapping[str, np.ndarray],
    extra: Mapping[str, np.ndarray],
    spec: ClipSpec,
    dialect: str,
    *,
    source: str = "weights",
    extra_source: str = "extra",
) -> Params:
    """The inverse of `to_torch` and `extras`: the whole float32 parameter tree.

    Constant index buffers may be present or not. Raises UserError, opening with the source of either, naming every
    missing, unexpected and mis-shaped array.
    """
    _check(extra_source, _faults(extra, extra_shapes(spec)))
    flat = _inward(clip_leaves(spec, dialect), tensors, source)
    return unflatten_dict(flat | {path: np.asarray(leaf, np.float32) for path, leaf in extra.items()}, sep="/")


def from_leaves(leaves: Iterable[Leaf], tensors: Mapping[str, np.ndarray], source: str) -> Params:
    """The parameters that a table of leaves describes, nested by path.

    Raises UserError, opening with `source`, naming every missing, unexpected and mis-shaped array.
    """
    return unflatten_dict(_inward(tuple(leaves), tensors, source), sep="/")


def _outward(leaf: Leaf, value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    order = {"plain": range(value.ndim), "dense": (1, 0), "conv": (3, 2, 0, 1)}[leaf.kind]
    theirs = value.astype(np.float32).transpose(tuple(order))
    pieces = np.split(theirs, len(leaf.keys)) if len(leaf.keys) > 1 else [theirs]
    return [(key, np.array(piece, order="C")) for key, piece in zip(leaf.keys, pieces, strict=True)]


def _flat(params: Mapping[str, Any], spec: ClipSpec) -> Tensors:
    """Our leaves by path, checked to be exactly the model's."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(params), sep="/").items()}
    named = {leaf.path: leaf.shape for leaf in clip_leaves(spec, TRANSFORMERS)}
    _check("parameters", _faults(flat, named | extra_shapes(spec)))
    return flat


def _inward(leaves: tuple[Leaf, ...], tensors: Mapping[str, np.ndarray], source: str) -> Tensors:
    present = {key: value for key, value in tensors.items() if not is_buffer(key)}
    _check(source, faults(present, leaves))
    flat = {}
    for leaf in leaves:
        pieces = [present[key] for key in leaf.keys]
        theirs = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        order = {"plain": range(theirs.ndim), "dense": (1, 0), "conv": (2, 3, 1, 0)}[leaf.kind]
        flat[leaf.path] = np.array(theirs.transpose(tuple(order)), np.float32, order="C")
    if broken := [path for path, array in flat.items() if not np.isfinite(array).all()]:
        raise listing(f"{source}: the weights hold numbers that are none", {"not finite": broken})
    return flat


def torch_shape(leaf: Leaf) -> tuple[int, ...]:
    """Shape of each of the leaf's PyTorch arrays; several of them share the first axis evenly."""
    if leaf.kind == "conv":
        height, width, inputs, outputs = leaf.shape
        return (outputs, inputs, height, width)
    shape = leaf.shape[::-1] if leaf.kind == "dense" else leaf.shape
    return (shape[0] // len(leaf.keys), *shape[1:]) if shape else shape


def faults(found: Mapping[str, np.ndarray], leaves: Iterable[Leaf]) -> dict[str, list[str]]:
    """Names by what is wrong with them: missing, unexpected, of another shape, not floating point."""
    return _faults(found, {key: torch_shape(leaf) for leaf in leaves for key in leaf.keys})


def _faults(found: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    shared = [name for name in expected if name in found]
    return {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name].shape} instead of {expected[name]}"
            for name in shared
            if found[name].shape != expected[name]
        ],
        "not floating point": [f"{name} {found[name].dtype}" for name in shared if not _is_float(found[name])],
    }


def _check(source: str, wrong: Mapping[str, list[str]]) -> None:
    """Raises one UserError that lists all that is wrong."""
    if any(wrong.values()):
        raise listing(f"{source}: {UNFIT}", wrong)


def _is_float(array: np.ndarray) -> bool:
    # ml_dtypes' bfloat16 is kind "V" to numpy
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
