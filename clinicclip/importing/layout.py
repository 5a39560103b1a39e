"""Which array of a file is which of ours: towers by the endings of names under any prefix, the rest by shape.

A reading is a table of leaves, as `models.torch_names` has them; `models.convert.from_leaves` then takes every
array or none. Where two readings are possible there is none.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError, listing
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS, Leaf

# How names that only such a tower has end: any block of a Swin, embeddings or any layer of a BERT.
ENDINGS = {
    "image": {
        r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table": OPEN_CLIP,
        r"encoder\.layers\.\d+\.blocks\.\d+\.attention\.self\.relative_position_bias_table": TRANSFORMERS,
    },
    "text": {
        r"embeddings\.word_embeddings\.weight": TRANSFORMERS,
        r"encoder\.layer\.\d+\.attention\.self\.query\.weight": TRANSFORMERS,
    },
}
KINDS = {"image": "Swin", "text": "BERT"}
WORDS = {
    "image": {"visual", "vision", "image", "images", "img", "v"},
    "text": {"text", "texts", "txt", "report", "reports", "language", "t"},
    "graph": {"graph", "graphs", "gcn", "gnn", "g"},
}


class Tower(NamedTuple):
    """Where a tower lies: the prefix of its names, empty or ending in a dot, and the dialect of the names."""

    key: str
    dialect: str


class Row(NamedTuple):
    """One line of a reading, as a user checks it."""

    part: str
    where: str
    what: str
    by: str  # how it is known


def find_tower(tensors: Mapping[str, np.ndarray], role: str, source: str) -> Tower:
    """The one image or text tower of a file. Raises UserError when there is none, or more than one."""
    found = {
        Tower(match[1], dialect)
        for key in tensors
        for ending, dialect in ENDINGS[role].items()
        if (match := re.fullmatch(rf"(|.*\.){ending}", key))
    }
    if len(found) == 1:
        return found.pop()
    if not found:
        names = " or ".join(re.sub(r"\\d\+", "N", ending).replace("\\", "") for ending in ENDINGS[role])
        raise UserError(f"{source}: holds no {KINDS[role]}: no name ends in {names}")
    places = " and ".join(repr(tower.key) for tower in sorted(found))
    raise UserError(f"{source}: holds {len(found)} {KINDS[role]} towers, below {places}; save the one to be read alone")


def find_projection(left: Mapping[str, np.ndarray], role: str, width: int, source: str) -> tuple[Leaf, Row]:
    """The linear map from a tower of so many features to the embedding, told by its shape and, if need be, its name.

    Raises UserError when no array or several fit, or when a square one does not say which way it maps.
    """
    fitting = [key for key, array in left.items() if array.ndim == 2 and width in array.shape]
    named = [key for key in fitting if role_of(key) == role] or [key for key in fitting if role_of(key) is None]
    if not left:
        raise UserError(f"{source}: nothing is left that maps the {role} tower's {width} features to the embedding")
    if len(named) != 1:
        raise listing(
            f"{source}: which array maps the {role} tower's {width} features to the embedding?",
            {"that fit": named} if named else {"left, of which none fits": shaped(left)},
        )
    (key,) = named
    leaf = linear(f"{role}_projection/kernel", key, left[key].shape, width, source)
    by = "shape and name" if role_of(key) == role else "shape"
    return leaf, Row(f"{role} projection", key, f"{width} to {leaf.shape[1]}", by)


def linear(path: str, key: str, shape: tuple[int, ...], width: int, source: str) -> Leaf:
    """A map from `width`: stored as PyTorch's Linear has it, outputs first, or as x @ array.

    Raises UserError for a square one whose name does not say which.
    """
    if shape[0] == shape[1] and not key.endswith(".weight"):
        raise UserError(f"{source}: {key} {shape} may map either way; save it as the weight of a linear layer")
    outward = shape[1] == width
    return Leaf(path, (key,), "dense" if outward else "plain", shape[::-1] if outward else shape)


def role_of(key: str) -> str | None:
    """The tower a name speaks of, if it speaks of one alone."""
    words = set(re.split(r"[^a-z]+", key.lower()))
    roles = [role for role, known in WORDS.items() if words & known]
    return roles[0] if len(roles) == 1 else None


def left_out(keys: Collection[str], what: str, by: str) -> tuple[Row, ...]:
    """The line of arrays that are not read, and why; none where there are none."""
    more = f" and {len(keys) - 1:,} more" if len(keys) > 1 else ""
    return (Row("left out", f"{min(keys)}{more}", what, by),) if keys else ()


def shaped(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names with shapes, for a listing."""
    return [f"{key} {array.shape}" for key, array in arrays.items()]
