"""Several texts a row, so that short reports pay for no padding.

A batch's texts are dealt to G groups of b/G consecutive texts (a group = what one device sees in one
microbatch). Every group gets R rows of L tokens, so that the arrays split evenly over the groups; a token
names the text that owns it, and attention is kept inside one owner. `plain`, one text a row, is the slow twin
of the same structure.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

Ids = Sequence[Sequence[int]]
FILL = 0.9  # share of a packed row that texts fill before rows are rounded up: Open-I, 32 texts a group, 256 a row


class PackedText(NamedTuple):
    """Packed texts: row r of group g is row g * R + r of the arrays."""

    ids: Int32[np.ndarray, "rows length"]
    owner: Int32[np.ndarray, "rows length"]  # 0 = padding, k = the k-th text of the row's group (from 1)
    position: Int32[np.ndarray, "rows length"]  # place of the token in its own text, from 0
    start: Int32[np.ndarray, " b"]  # where each text's first token is among its group's R * L tokens


def pack(ids: Ids, *, length: int, groups: int = 1, row_step: int = 1, pad_id: int = 0) -> PackedText:
    """First-fit packing, texts in study order; R is the fullest group's row count rounded up to `row_step`.

    Raises:
      ValueError: texts not divisible into groups, or a text longer than `length`.
    """
    dealt = _deal(ids, length, groups)
    layouts = [_first_fit(group, length) for group in dealt]
    rows = -(-max(count for _, count in layouts) // row_step) * row_step
    return _place(dealt, [starts for starts, _ in layouts], rows, length, pad_id)


def expected_rows(texts: int, tokens: int, *, length: int, row_step: int = 1) -> int:
    """Rows that `pack` makes of a group of texts of so many tokens on average, about."""
    filled = math.ceil(texts * min(tokens, length) / (FILL * length))
    return math.ceil(filled / row_step) * row_step


def plain(ids: Ids, length: int, *, groups: int = 1, pad_id: int = 0) -> PackedText:
    """One text a row: the same structure with R = b / G.

    Raises:
      ValueError: texts not divisible into groups, or a text longer than `length`.
    """
    dealt = _deal(ids, length, groups)
    rows = len(dealt[0])
    starts = [row * length for row in range(rows)]
    return _place(dealt, [starts] * groups, rows, length, pad_id)


def fill(packed: Int32[np.ndarray, "r l"], *, groups: int, rows: int, value: int) -> Int32[np.ndarray, "rows l"]:
    """One of the packed arrays with every group's rows filled up, so that all have `rows` together."""
    grouped = packed.reshape(groups, -1, packed.shape[1])
    more = rows // groups - grouped.shape[1]
    return np.pad(grouped, ((0, 0), (0, more), (0, 0)), constant_values=value).reshape(rows, -1)


def _deal(ids: Ids, length: int, groups: int) -> list[Ids]:
    if not ids or len(ids) % groups:
        raise ValueError(f"{len(ids)} texts cannot be dealt to {groups} equal groups")
    if (longest := max(map(len, ids))) > length:
        raise ValueError(f"a text of {longest} tokens exceeds the row length {length}")
    size = len(ids) // groups
    return [ids[i : i + size] for i in range(0, len(ids), size)]


def _first_fit(texts: Ids, length: int) -> tuple[list[int], int]:
    """The flat start of each text, and the number of rows taken."""
    used: list[int] = []
    starts: list[int] = []
    for text in texts:
        size = len(text)
        row = next((r for r, taken in enumerate(used) if taken + size <= length), len(used))
        if row == len(used):
            used.append(0)
        starts.append(row * length + used[row])
        used[row] += size
    return starts, len(used)


def _place(dealt: list[Ids], starts: list[list[int]], rows: int, length: int, pad_id: int) -> PackedText:
    shape = (len(dealt), rows * length)
    tokens = np.full(shape, pad_id, np.int32)
    owner, position = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for g, (group, begins) in enumerate(zip(dealt, starts, strict=True)):
        for k, (text, begin) in enumerate(zip(group, begins, strict=True), start=1):
            span = slice(begin, begin + len(text))
            tokens[g, span], owner[g, span], position[g, span] = text, k, np.arange(len(text))
    flat = (len(dealt) * rows, length)
    start = np.asarray(starts, np.int32).reshape(-1)
    return PackedText(tokens.reshape(flat), owner.reshape(flat), position.reshape(flat), start)
