"""A BERT that reads many texts outside of training: packed, by length, each shape compiled once."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from clinicclip.data import packing
from clinicclip.models.bert import Bert, BertSpec

TOKENS = 4096  # of one call of the model
SHORTEST = 32  # tokens of a row; rows are powers of two from here on
TOGETHER = 1024  # sequences packed together


class Reader:
    """A BERT with its parameters, in float32."""

    def __init__(self, spec: BertSpec, params: Any) -> None:
        self._spec, self._params = spec, params
        bert = Bert(spec, "float32")
        self._run = jax.jit(lambda params, *packed: bert.apply({"params": params}, *packed))
        self._pool = jax.jit(
            lambda params, *rows: bert.apply({"params": params}, *rows, len(rows[0]), method=bert.pool)
        )

    def states(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, Float32[np.ndarray, "l w"]]]:
        """(number, states of its tokens) of every sequence of token ids, those of like length together.

        Raises ValueError for a sequence beyond the model's positions.
        """
        by_length: dict[int, list[int]] = {}
        for number, sequence in enumerate(sequences):
            by_length.setdefault(self._row(len(sequence)), []).append(number)
        for length, numbers in sorted(by_length.items()):
            for first in range(0, len(numbers), TOGETHER):
                some = numbers[first : first + TOGETHER]
                packed = packing.pack([sequences[number] for number in some], length=length)
                flat = self._read(packed, length)
                for number, start in zip(some, packed.start, strict=True):
                    yield number, flat[start : start + len(sequences[number])]

    def pooled(self, sequences: Sequence[Sequence[int]]) -> Float32[np.ndarray, "n w"]:
        """Every sequence of token ids as the tower pools it."""
        read = np.zeros((len(sequences), 1, self._spec.width), np.float32)
        for number, states in self.states(sequences):
            read[number] = states.mean(0) if self._spec.pooling == "mean" else states[0]
        one = np.ones((len(sequences), 1), np.int32)
        return np.asarray(self._pool(self._params, read, one, 0 * one[:, 0]))

    def _row(self, tokens: int) -> int:
        """Length of the rows that sequences of so many tokens are packed into: attention is paid for by the row."""
        return min(self._spec.max_positions, max(SHORTEST, 1 << (tokens - 1).bit_length()))

    def _read(self, packed: packing.PackedText, length: int) -> Float32[np.ndarray, "t w"]:
        """The states of all tokens of packed rows, by calls of one shape."""
        rows = max(1, TOKENS // length)
        parts = []
        for first in range(0, len(packed.ids), rows):
            part = (array[first : first + rows] for array in packed[:3])
            filled = [np.pad(array, ((0, rows - len(array)), (0, 0))) for array in part]
            parts.append(np.asarray(self._run(self._params, *filled)).reshape(-1, self._spec.width))
        return np.concatenate(parts)
