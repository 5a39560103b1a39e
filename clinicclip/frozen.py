"""Models that describe report text and are never trained: a BERT in a local folder, or TF-IDF with a truncated SVD.

A model gives texts their vectors, and the nodes of report graphs theirs; both of length 1 (or 0 where no word is
known). `in_context` says whether a node's vector depends on the report around it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Float32

from clinicclip.data import graphs, packing
from clinicclip.data.features import TfidfSvd
from clinicclip.data.schema import Graph
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.models import convert
from clinicclip.models.bert import Bert

TOKENS = 4096  # of one call of the model
SHORTEST = 32  # tokens of a row; rows are powers of two from here on, and each length is compiled once
TOGETHER = 1024  # sequences packed together


@runtime_checkable
class FrozenModel(Protocol):
    """What makes frozen features."""

    in_context: bool

    @property
    def width(self) -> int:
        """Length of a vector."""

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n f"]:
        """The vector of each text."""

    def spans(self, found: Sequence[Graph]) -> Float[np.ndarray, "n f"]:
        """The vector of every node, graph after graph."""


class Tfidf:
    """TF-IDF + truncated SVD; a node is its words alone."""

    in_context = False

    def __init__(self, fitted: TfidfSvd) -> None:
        self._fitted = fitted

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._fitted.width

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n f"]:
        """The vector of each text."""
        return self._fitted.transform(texts)

    def spans(self, found: Sequence[Graph]) -> Float32[np.ndarray, "n f"]:
        """The vector of every node's words."""
        return self._fitted.transform([span for graph in found for span in graphs.span_text(graph)])


class Tower:
    """A BERT-type model from a folder in the transformers layout, as it is before any training.

    A text is the mean of its token states; a node is the mean over the pieces of its words, read in their report
    (METHOD: RadGraph's own tokens). A text beyond the model's positions is cut, a graph's report is read in pieces.
    Raises UserError when the folder holds another architecture or an incomplete file.
    """

    in_context = True

    def __init__(self, folder: Path | str) -> None:
        spec, self._params = convert.load_text_tower(folder, pooling="mean")
        self._tokenizer = Tokenizer.load(folder)
        self._length = spec.max_positions
        self.width = spec.width
        bert = Bert(spec, "float32")
        self._run = jax.jit(lambda params, *packed: bert.apply({"params": params}, *packed))

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n f"]:
        """The vector of each text."""
        ids, _ = self._tokenizer.encode(list(texts), self._length)
        means = np.zeros((len(ids), self.width), np.float32)
        for number, states in self._states(ids):
            means[number] = states.mean(0)
        return _unit(means)

    def spans(self, found: Sequence[Graph]) -> Float[np.ndarray, "n f"]:
        """The vector of every node."""
        words = sorted({token for graph in found for token in graph.tokens})
        encoded, _ = self._tokenizer.encode(words, self._length)
        pieces = {word: ids[1:-1] for word, ids in zip(words, encoded, strict=True)}
        reports = [[piece for token in graph.tokens for piece in pieces[token]] for graph in found]
        states = self._read(reports)
        sums = []
        for graph, read in zip(found, states, strict=True):
            running = np.concatenate([np.zeros((1, self.width)), np.cumsum(read, axis=0, dtype=np.float64)])
            starts = [0, *accumulate(len(pieces[token]) for token in graph.tokens)]
            sums += [running[starts[last + 1]] - running[starts[first]] for first, last in graph.spans]
        return _unit(np.asarray(sums, np.float32).reshape(-1, self.width))

    def _read(self, reports: Sequence[Sequence[int]]) -> list[Float32[np.ndarray, "l f"]]:
        """The state of every piece of each report, which is read in windows of the model's length."""
        (cls, sep), room = self._ends(), self._length - 2
        states = [np.zeros((len(report), self.width), np.float32) for report in reports]
        places = [(i, first) for i, report in enumerate(reports) for first in range(0, len(report), room)]
        windows = [[cls, *reports[i][first : first + room], sep] for i, first in places]
        for number, found in self._states(windows):
            i, first = places[number]
            states[i][first : first + room] = found[1:-1]
        return states

    def _ends(self) -> tuple[int, int]:
        (empty,), _ = self._tokenizer.encode([""], 2)
        return empty[0], empty[1]

    def _states(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[int, Float32[np.ndarray, "l f"]]]:
        """(number, states of its tokens) of every sequence; those of like length are read together."""
        by_length: dict[int, list[int]] = {}
        for number, sequence in enumerate(sequences):
            by_length.setdefault(self._row(len(sequence)), []).append(number)
        for length, numbers in sorted(by_length.items()):
            for some in _cut(numbers, TOGETHER):
                packed = packing.pack([sequences[number] for number in some], length=length)
                flat = self._run_rows(packed, length)
                for number, start in zip(some, packed.start, strict=True):
                    yield number, flat[start : start + len(sequences[number])]

    def _row(self, tokens: int) -> int:
        """Length of the rows that sequences of so many tokens are packed into: attention is paid for by the row."""
        return min(self._length, max(SHORTEST, 1 << (tokens - 1).bit_length()))

    def _run_rows(self, packed: packing.PackedText, length: int) -> Float32[np.ndarray, "t f"]:
        """The states of all tokens of packed rows, by calls of one shape."""
        rows = max(1, TOKENS // length)
        parts = []
        for first in range(0, len(packed.ids), rows):
            part = (array[first : first + rows] for array in packed[:3])
            filled = [np.pad(array, ((0, rows - len(array)), (0, 0))) for array in part]
            parts.append(np.asarray(self._run(self._params, *filled)).reshape(-1, self.width))
        return np.concatenate(parts)


def _cut(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _unit(vectors: Float32[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    """Rows of length 1, or 0 where there was nothing; half precision, since they are many."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 1e-6).astype(np.float16)


def folder_digest(folder: Path) -> str:
    """A hash of the files that decide what a model folder computes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".txt", ".safetensors"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                for block in iter(partial(file.read, 1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()
