"""What the names and shapes of a tower's arrays say of its architecture, where no configuration says it."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from clinicclip.errors import UserError
from clinicclip.models.torch_names import OPEN_CLIP

TABLE = "relative_position_bias_table"


def swin_sizes(tensors: Mapping[str, np.ndarray], dialect: str, key: str, source: str) -> dict[str, Any]:
    """The fields of a `SwinSpec` that the arrays below the prefix `key` fix: all but image size and drop path.

    Raises UserError where an array it takes to know them is missing or has another rank.
    """
    timm = dialect == OPEN_CLIP
    layers = f"{key}layers" if timm else f"{key}encoder.layers"
    patches = f"{key}patch_embed.proj.weight" if timm else f"{key}embeddings.patch_embeddings.projection.weight"
    table, hidden = (f"attn.{TABLE}", "mlp.fc1") if timm else (f"attention.self.{TABLE}", "intermediate.dense")
    depths = _depths(tensors, rf"{re.escape(layers)}\.(\d+)\.blocks\.(\d+)\.", source)
    conv = _array(tensors, patches, 4, source)
    tables = [_array(tensors, f"{layers}.{stage}.blocks.0.{table}", 2, source).shape for stage in range(len(depths))]
    first = _array(tensors, f"{layers}.0.blocks.0.{hidden}.weight", 2, source)
    span = math.isqrt(tables[0][0])
    if span * span != tables[0][0] or not span % 2 or 0 in conv.shape:
        raise UserError(f"{source}: {layers}.0.blocks.0.{table} has {tables[0][0]} rows, no square of an odd number")
    return {
        "patch_size": conv.shape[-1],
        "window_size": (span + 1) // 2,
        "embed_dim": conv.shape[0],
        "depths": depths,
        "heads": tuple(heads for _, heads in tables),
        "mlp_ratio": first.shape[0] / conv.shape[0],
    }


def bert_sizes(tensors: Mapping[str, np.ndarray], key: str, source: str) -> dict[str, Any]:
    """The fields of a `BertSpec` that the arrays below the prefix `key` fix: heads leave no trace in any shape.

    Raises UserError where an array it takes to know them is missing or has another rank.
    """
    rows = {"word": "vocab_size", "position": "max_positions", "token_type": "type_vocab_size"}
    tables = {
        size: _array(tensors, f"{key}embeddings.{name}_embeddings.weight", 2, source) for name, size in rows.items()
    }
    hidden = _array(tensors, f"{key}encoder.layer.0.intermediate.dense.weight", 2, source)
    return {
        **{size: table.shape[0] for size, table in tables.items()},
        "width": hidden.shape[1],
        "depth": _layers(tensors, rf"{re.escape(key)}encoder\.layer\.(\d+)\.", source),
        "mlp_width": hidden.shape[0],
    }


def _depths(tensors: Mapping[str, np.ndarray], pattern: str, source: str) -> tuple[int, ...]:
    """Blocks of each stage, by the highest number named."""
    highest: dict[int, int] = {}
    for stage, block in (map(int, match.groups()) for key in tensors if (match := re.match(pattern, key))):
        highest[stage] = max(highest.get(stage, 0), block)
    stages = len(highest)  # a number in a name may be anything, and sizes nothing before it is known to be sound
    if sorted(highest) != list(range(stages)) or sum(highest.values()) >= len(tensors):
        raise UserError(f"{source}: its Swin has stages {sorted(highest)}, a whole one has all from 0 on")
    return tuple(highest[stage] + 1 for stage in range(stages))


def _layers(tensors: Mapping[str, np.ndarray], pattern: str, source: str) -> int:
    numbers = {int(match[1]) for key in tensors if (match := re.match(pattern, key))}
    if sorted(numbers) != list(range(len(numbers))):
        raise UserError(f"{source}: its BERT has {len(numbers)} layers, whose numbers do not run from 0 on")
    return len(numbers)


def _array(tensors: Mapping[str, np.ndarray], key: str, rank: int, source: str) -> np.ndarray:
    if key not in tensors:
        raise UserError(f"{source}: the weights do not fit the model: 1 missing: {key}")
    if tensors[key].ndim != rank:
        raise UserError(f"{source}: {key} has shape {tensors[key].shape}, expected {rank} axes")
    return tensors[key]
