"""Weights between our parameter tree and PyTorch's names, whole or not at all.

Everything here is numpy: neither PyTorch nor an accelerator is needed to read or write its formats. A
missing, unexpected or mis-shaped array is never skipped; all offenders are named in one error.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clinicclip.errors import UserError
from clinicclip.models import tensor_file
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec
from clinicclip.models.hf_config import bert_spec, swin_spec
from clinicclip.models.swin import SwinSpec
from clinicclip.models.torch_names import (
    BUFFERS,
    TRANSFORMERS,
    Leaf,
    bert_leaves,
    clip_leaves,
    extra_shapes,
    index_buffers,
    swin_leaves,
)

Tensors = dict[str, np.ndarray]
Params = dict[str, Any]  # nested dict of arrays, as flax has it
# Task heads that published checkpoints carry on top of a tower; a tower is read without them.
HEADS = ("cls.", "classifier.", "qa_outputs.")


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


def from_torch(
    tensors: Mapping[str, np.ndarray],
    extra: Mapping[str, np.ndarray],
    spec: ClipSpec,
    dialect: str,
    *,
    source: str = "weights",
) -> Params:
    """The inverse of `to_torch` and `extras`: the whole float32 parameter tree.

    Constant index buffers may be present or not. Raises UserError, opening with `source`, naming every
    missing, unexpected and mis-shaped array.
    """
    _check(f"{source} (extra)", extra, extra_shapes(spec))
    flat = _inward(clip_leaves(spec, dialect), tensors, source)
    return unflatten_dict(flat | {path: np.asarray(leaf, np.float32) for path, leaf in extra.items()}, sep="/")


def from_leaves(leaves: Iterable[Leaf], tensors: Mapping[str, np.ndarray], source: str) -> Params:
    """The parameters that a table of leaves describes, nested by path.

    Raises UserError, opening with `source`, naming every missing, unexpected and mis-shaped array.
    """
    return unflatten_dict(_inward(tuple(leaves), tensors, source), sep="/")


def load_text_tower(folder: Path | str, *, pooling: str = "pooler") -> tuple[BertSpec, Params]:
    """A BERT tower of any size from a Hugging Face folder (config.json, model.safetensors).

    `pooling` is how the tower will be pooled; other than "pooler", the file's pooler is left behind.
    Raises UserError when the folder holds another architecture or an incomplete file.
    """
    config, tensors, source = _read_folder(Path(folder), prefix="bert.")
    spec = dataclasses.replace(bert_spec(config, source=source), pooling=pooling)
    if pooling != "pooler":
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("pooler.")}
    elif not any(key.startswith("pooler.") for key in tensors):
        raise UserError(f"{source}: this BERT was saved without its pooler; choose text pooling 'mean' or 'cls'")
    return spec, from_leaves(bert_leaves(spec), tensors, source)["text"]


def load_image_tower(folder: Path | str) -> tuple[SwinSpec, Params]:
    """A Swin tower from a Hugging Face SwinModel folder (config.json, model.safetensors).

    Raises UserError when the folder holds another architecture or an incomplete file.
    """
    config, tensors, source = _read_folder(Path(folder), prefix="swin.")
    spec = swin_spec(config, source=source)
    return spec, from_leaves(swin_leaves(spec, TRANSFORMERS), tensors, source)["image"]


def _read_folder(folder: Path, prefix: str) -> tuple[dict[str, Any], Tensors, str]:
    """Config, bare-named tensors and weight-file name of a Hugging Face folder."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read; give a folder with config.json and model.safetensors") from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON; fetch the folder again") from error
    weights = folder / "model.safetensors"
    tensors = {_modern(key): tensor for key, tensor in tensor_file.read(weights).items()}
    if any(key.startswith(prefix) for key in tensors):
        tensors = {key.removeprefix(prefix): t for key, t in tensors.items() if not key.startswith(HEADS)}
    return config, tensors, str(weights)


def _modern(key: str) -> str:
    """The oldest BERT files call a norm's scale and bias gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if key.endswith(old):
            return key.removesuffix(old) + new
    return key


def _outward(leaf: Leaf, value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    order = {"plain": range(value.ndim), "dense": (1, 0), "conv": (3, 2, 0, 1)}[leaf.kind]
    theirs = value.astype(np.float32).transpose(tuple(order))
    pieces = np.split(theirs, len(leaf.keys)) if len(leaf.keys) > 1 else [theirs]
    return [(key, np.array(piece, order="C")) for key, piece in zip(leaf.keys, pieces, strict=True)]


def _flat(params: Mapping[str, Any], spec: ClipSpec) -> Tensors:
    """Our leaves by path, checked to be exactly the model's."""
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(params), sep="/").items()}
    named = {leaf.path: leaf.shape for leaf in clip_leaves(spec, TRANSFORMERS)}
    _check("parameters", flat, named | extra_shapes(spec))
    return flat


def _inward(leaves: tuple[Leaf, ...], tensors: Mapping[str, np.ndarray], source: str) -> Tensors:
    present = {key: value for key, value in tensors.items() if not key.endswith(BUFFERS)}
    _check(source, present, {key: torch_shape(leaf) for leaf in leaves for key in leaf.keys})
    flat = {}
    for leaf in leaves:
        pieces = [present[key] for key in leaf.keys]
        theirs = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        order = {"plain": range(theirs.ndim), "dense": (1, 0), "conv": (2, 3, 1, 0)}[leaf.kind]
        flat[leaf.path] = np.array(theirs.transpose(tuple(order)), np.float32, order="C")
    return flat


def torch_shape(leaf: Leaf) -> tuple[int, ...]:
    """Shape of each of the leaf's PyTorch arrays; several of them share the first axis evenly."""
    if leaf.kind == "conv":
        height, width, inputs, outputs = leaf.shape
        return (outputs, inputs, height, width)
    shape = leaf.shape[::-1] if leaf.kind == "dense" else leaf.shape
    return (shape[0] // len(leaf.keys), *shape[1:]) if shape else shape


def _check(source: str, found: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise one UserError that lists what is missing, unexpected, of another shape or not a number type."""
    shared = [name for name in expected if name in found]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name].shape} instead of {expected[name]}"
            for name in shared
            if found[name].shape != expected[name]
        ],
        "not floating point": [f"{name} {found[name].dtype}" for name in shared if not _is_float(found[name])],
    }
    if any(faults.values()):
        raise UserError(f"{source}: the weights do not fit the model: {_listed(faults.items())}")


def _is_float(array: np.ndarray) -> bool:
    # ml_dtypes' bfloat16 is kind "V" to numpy
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _listed(faults: Iterable[tuple[str, list[str]]]) -> str:
    return "; ".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in faults if names)
