"""What the names and shapes of a tower's arrays say of its architecture, where no configuration says it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from clinicclip.errors import UserError
from clinicclip.models.torch_names import OPEN_CLIP

TABLE = "relative_position_bias_table"
# Of a block: a norm, the table, the bias of the wider layer of the two.
TIMM_PARTS = ("norm1.weight", f"attn.{TABLE}", "mlp.fc1.bias")
PARTS = ("layernorm_before.weight", f"attention.self.{TABLE}", "intermediate.dense.bias")
Size = TypeVar("Size", int, float)


def swin_sizes(tensors: Mapping[str, np.ndarray], dialect: str, key: str, source: str) -> dict[str, Any]:
    """The fields of a `SwinSpec` that the arrays below the prefix `key` fix: all but image size and drop path.

    Each size is what most arrays that show it say, so that one that is missing or mis-shaped is named by whoever holds
    all of them against the sizes. Raises UserError where stages are left out.
    """
    timm = dialect == OPEN_CLIP
    layers = f"{key}layers" if timm else f"{key}encoder.layers"
    patches = f"{key}patch_embed.proj.weight" if timm else f"{key}embeddings.patch_embeddings.projection.weight"
    norm, table, hidden = TIMM_PARTS if timm else PARTS
    depths = _depths(tensors, rf"{re.escape(layers)}\.(\d+)\.blocks\.(\d+)\.", source)

    def shown(stage: int, name: str, rank: int) -> Iterator[tuple[int, ...]]:
        return _shapes(tensors, (f"{layers}.{stage}.blocks.{block}.{name}" for block in range(depths[stage])), rank)

    stages = range(len(depths))
    width = _most((n // 2**stage for stage in stages for (n,) in shown(stage, norm, 1)), 1)
    spans = (math.isqrt(rows) for stage in stages for rows, _ in shown(stage, table, 2) if _odd_square(rows))
    return {
        "patch_size": _most((shape[-1] for shape in _shapes(tensors, [patches], 4)), 4),
        "window_size": (_most(spans, 1) + 1) // 2,
        "embed_dim": width,
        "depths": depths,
        "heads": tuple(
            _most((heads for _, heads in shown(stage, table, 2) if heads and width * 2**stage % heads == 0), 1)
            for stage in stages
        ),
        "mlp_ratio": _most((n / (width * 2**stage) for stage in stages for (n,) in shown(stage, hidden, 1)), 4.0),
    }


def bert_sizes(tensors: Mapping[str, np.ndarray], key: str, source: str) -> dict[str, Any]:
    """The fields of a `BertSpec` that the arrays below the prefix `key` fix: heads leave no trace in any shape.

    As `swin_sizes`. Raises UserError where layers are left out.
    """
    depth = _layers(tensors, rf"{re.escape(key)}encoder\.layer\.(\d+)\.", source)
    layers = [f"{key}encoder.layer.{layer}." for layer in range(depth)]
    norms = [f"{key}embeddings.LayerNorm.weight", *(f"{layer}attention.output.LayerNorm.weight" for layer in layers)]
    width = _most((n for (n,) in _shapes(tensors, norms, 1)), 1)
    rows = {"word": "vocab_size", "position": "max_positions", "token_type": "type_vocab_size"}
    tables = {
        size: _most((n for n, _ in _shapes(tensors, [f"{key}embeddings.{name}_embeddings.weight"], 2)), 1)
        for name, size in rows.items()
    }
    hidden = (n for (n,) in _shapes(tensors, (f"{layer}intermediate.dense.bias" for layer in layers), 1))
    return {**tables, "width": width, "depth": depth, "mlp_width": _most(hidden, 4 * width)}


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


def _shapes(tensors: Mapping[str, np.ndarray], keys: Iterable[str], rank: int) -> Iterator[tuple[int, ...]]:
    """Of those arrays that are there with so many axes."""
    return (tensors[key].shape for key in keys if key in tensors and tensors[key].ndim == rank)


def _most(sizes: Iterable[Size], unseen: Size) -> Size:
    """The size that is shown most often, of sizes above 0."""
    counted = Counter(size for size in sizes if size > 0)
    return counted.most_common(1)[0][0] if counted else unseen


def _odd_square(rows: int) -> bool:
    return math.isqrt(rows) ** 2 == rows and rows % 2 == 1
