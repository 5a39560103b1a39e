"""Relative-position tables of a Swin for windows of another size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, Float32

from clinicclip.models.shapes import TABLE

CUBIC = -0.75  # the coefficient of PyTorch's bicubic interpolation


def resize_table(table: Float32[np.ndarray, "old heads"], window: int) -> Float32[np.ndarray, "new heads"]:
    """A bias table for windows of another side, interpolated bicubically over the relative positions.

    Source: the original Swin's fine-tuning code; timm's `resize_rel_pos_bias_table_simple`.
    """
    old, new = round(len(table) ** 0.5), 2 * window - 1
    if old == new:
        return table
    weights = _weights(old, new)
    square = table.reshape(old, old, -1).astype(np.float64)
    resized = np.einsum("yi,xj,ijh->yxh", weights, weights, square)
    return resized.reshape(new * new, -1).astype(np.float32)


def resize_tables(tower: Mapping[str, Any], window: int) -> dict[str, Any]:
    """A Swin's parameters with every bias table made for windows of another side."""
    flat = flatten_dict(dict(tower), sep="/")
    resized = {path: resize_table(leaf, window) if path.endswith(TABLE) else leaf for path, leaf in flat.items()}
    return unflatten_dict(resized, sep="/")


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Row y: the shares of the old places in new place y; places are cell centres, the outermost repeated."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(place).astype(int)
    weights = np.zeros((new, old))
    for step in range(-1, 3):
        column = np.clip(first + step, 0, old - 1)
        np.add.at(weights, (np.arange(new), column), _kernel(np.abs(place - first - step)))
    return weights


def _kernel(distance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
