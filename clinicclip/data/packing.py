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
    shortened: int  # texts that were cut to fit a fixed number of rows


def pack(ids: Ids, *, length: int, groups: int = 1, row_step: int = 1, rows: int = 0, pad_id: int = 0) -> PackedText:
    """First-fit packing, texts in study order; R is the fullest group's row count rounded up to `row_step`.

    With `rows` > 0, R is that number whatever the texts (processes that cannot see each other's texts need
    equal shapes): where they do not fit, the longest are cut, all to the largest common length that does.

    Raises:
      ValueError: texts not divisible into groups, a text longer than `length`, or more texts than `rows`
        can hold.
    """
    dealt = _deal(ids, length, groups)
    cap = length
    layouts = [_first_fit(group, length, cap) for group in dealt]
    if rows:
        floor = length // -(-len(dealt[0]) // rows)  # at this length any choice of texts fits
        if floor < 3:
            raise ValueError(f"{len(dealt[0])} texts do not fit {rows} rows of {length} tokens")
        while max(count for _, count in layouts) > rows:
            cap = max(floor, min(cap, max(map(len, ids))) - 1)
            layouts = [_first_fit(group, length, cap) for group in dealt]
    count = rows or -(-max(count for _, count in layouts) // row_step) * row_step
    return _place(dealt, [starts for starts, _ in layouts], count, length, cap, pad_id)


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
    return _place(dealt, [starts] * groups, rows, length, length, pad_id)


def _deal(ids: Ids, length: int, groups: int) -> list[Ids]:
    if not ids or len(ids) % groups:
        raise ValueError(f"{len(ids)} texts cannot be dealt to {groups} equal groups")
    if (longest := max(map(len, ids))) > length:
        raise ValueError(f"a text of {longest} tokens exceeds the row length {length}")
    size = len(ids) // groups
    return [ids[i : i + size] for i in range(0, len(ids), size)]


def _first_fit(texts: Ids, length: int, cap: int) -> tuple[list[int], int]:
    """The flat start of each text, cut to `cap` tokens, and the number of rows taken."""
    used: list[int] = []
    starts: list[int] = []
    for text in texts:
        size = min(len(text), cap)
        row = next((r for r, taken in enumerate(used) if taken + size <= length), len(used))
        if row == len(used):
            used.append(0)
        starts.append(row * length + used[row])
        used[row] += size
    return starts, len(used)


def _place(dealt: list[Ids], starts: list[list[int]], rows: int, length: int, cap: int, pad_id: int) -> PackedText:
    shape = (len(dealt), rows * length)
    tokens = np.full(shape, pad_id, np.int32)
    owner, position = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    shortened = 0
    for g, (group, begins) in enumerate(zip(dealt, starts, strict=True)):
        for k, (text, begin) in enumerate(zip(group, begins, strict=True), start=1):
            kept = text if len(text) <= cap else [*text[: cap - 1], text[-1]]  # [SEP] stays last
            shortened += len(text) > cap
            span = slice(begin, begin + len(kept))
            tokens[g, span], owner[g, span], position[g, span] = kept, k, np.arange(len(kept))
    flat = (len(dealt) * rows, length)
    start = np.asarray(starts, np.int32).reshape(-1)
    return PackedText(tokens.reshape(flat), owner.reshape(flat), position.reshape(flat), start, shortened)
