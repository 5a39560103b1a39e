"""Models that describe report text and are never trained: a BERT in a local folder, or TF-IDF with a truncated SVD.

A model gives texts their vectors, and the nodes of report graphs theirs; both of length 1 (or 0 where no word is
known). `in_context` says whether a node's vector depends on the report around it.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from clinicclip import importing
from clinicclip.data import graphs
from clinicclip.data.features import TfidfSvd
from clinicclip.data.manifest import file_sha256
from clinicclip.data.schema import Graph
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.reading import Reader

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


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
        place = importing.locate(folder)
        spec, params = importing.load_text_tower(place, pooling="mean")
        self._bert = Reader(spec, params)
        self._tokenizer = Tokenizer.load(importing.folder_of(place))
        self._length = spec.max_positions
        self.width = spec.width

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n f"]:
        """The vector of each text."""
        ids, _ = self._tokenizer.encode(list(texts), self._length)
        means = np.zeros((len(ids), self.width), np.float32)
        for number, states in self._bert.states(ids):
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
        for number, found in self._bert.states(windows):
            i, first = places[number]
            states[i][first : first + room] = found[1:-1]
        return states

    def _ends(self) -> tuple[int, int]:
        (empty,), _ = self._tokenizer.encode([""], 2)
        return empty[0], empty[1]


class States:
    """The pooled states of a text tower's starting weights, float32, of texts cut at `length` tokens.

    They are all that a tower which is never trained adds to a step.
    """

    in_context = False

    def __init__(self, place: Path, pooling: str, length: int) -> None:
        spec, params = importing.load_text_tower(place, pooling=pooling)
        self._bert = Reader(spec, params)
        self._tokenizer = Tokenizer.load(importing.folder_of(place))
        self._length = length
        self.width = spec.width

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n f"]:
        """The pooled state of each text."""
        return self._bert.pooled(self._tokenizer.encode(list(texts), self._length)[0])

    def spans(self, found: Sequence[Graph]) -> Float32[np.ndarray, "0 f"]:
        """Nothing: these are of texts alone."""
        assert not found
        return np.zeros((0, self.width), np.float32)


def _unit(vectors: Float32[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    """Rows of length 1, or 0 where there was nothing; half precision, since they are many."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 1e-6).astype(np.float16)


def folder_digest(place: Path) -> str:
    """A hash of the files that decide what a model folder, or a weight file and what lies beside it, computes."""
    digest = hashlib.sha256()
    for path in sorted(importing.folder_of(place).iterdir()):
        if path.suffix in (".json", ".txt") or (path.suffix in WEIGHTS and (place.is_dir() or path == place)):
            digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
