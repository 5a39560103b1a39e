"""Frozen text features: vectors that describe report text and are never trained.

`FeatureTable` answers for the strings it was built with, whoever computed the vectors, and keeps no text but
64-bit digests. `TfidfSvd` is the way to compute vectors that needs no pretrained model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt64
from safetensors.numpy import load_file

from clinicclip import files
from clinicclip.data.graphs import span_text
from clinicclip.data.schema import Graph
from clinicclip.errors import UserError

NGRAMS = (1, 2)  # pairs of words tell "no effusion" from "effusion"
MAX_TERMS = 8192


class FeatureTable:
    """A frozen map from strings to vectors of one width; read-only and picklable.

    With ``in_context`` a node of a report graph is described together with its report, else by its words alone.
    """

    def __init__(self, texts: Sequence[str], vectors: Float[np.ndarray, "n f"], *, in_context: bool = False) -> None:
        self._index([digests(texts)], [np.array(vectors)], in_context)

    def _index(self, keys: list[np.ndarray], parts: list[np.ndarray], in_context: bool) -> None:
        self.in_context = in_context
        self._keys, self._rows = np.unique(np.concatenate(keys), return_index=True)
        self._starts = np.cumsum([0, *map(len, parts)])
        self._parts = parts
        self._folder: Path | None = None
        for array in (self._keys, self._rows, *parts):
            array.flags.writeable = False

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self._parts[0].shape[1])

    def __len__(self) -> int:
        return len(self._keys)

    def lookup(self, texts: Sequence[str]) -> Float32[np.ndarray, "n f"]:
        """The vector of each text.

        Raises:
          UserError: a text the table was not built with (its words are not shown).
        """
        wanted = digests(texts)
        places = np.searchsorted(self._keys, wanted)
        found = places < len(self._keys)
        found[found] = self._keys[places[found]] == wanted[found]
        if not found.all():
            raise UserError(
                f"frozen features: {int((~found).sum())} of {len(texts)} texts are not in the table; "
                "it was built from other data, so build it again from this data set"
            )
        rows = self._rows[places]
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        vectors = np.empty((len(texts), self.width), np.float32)
        for part in np.unique(owners):
            mine = owners == part
            vectors[mine] = self._parts[part][rows[mine] - self._starts[part]]
        return vectors

    def nodes(self, graph: Graph) -> Float32[np.ndarray, "n f"]:
        """The vector of each node of a report graph. Raises UserError as `lookup`."""
        return self.lookup(node_keys(graph, in_context=self.in_context))

    @classmethod
    def load(cls, folder: Path) -> "FeatureTable":
        """What was stored part by part and finished with `finish`; vectors stay on the disk until they are asked for.

        Raises:
          UserError: the folder is not whole.
        """
        try:
            facts = json.loads(files.content(folder / FINISHED))
            names = [part_name(number) for number in range(facts["parts"])]
            stored = [files.map_tensors(folder / name) for name in names]
        except (OSError, ValueError, KeyError):
            raise UserError(f"{folder}: frozen features are not whole; delete the folder and run again") from None
        table = cls.__new__(cls)
        table._index([part["keys"] for part in stored], [part["vectors"] for part in stored], facts["in_context"])
        table._folder = folder
        return table

    def __reduce__(self) -> Any:
        """A table of a folder travels as the folder's name: worker processes read it themselves."""
        if self._folder is not None:
            return FeatureTable.load, (self._folder,)
        return super().__reduce__()


FINISHED = "features.json"  # written last: without it the parts beside it are work in progress


def part_name(number: int) -> str:
    """The file of a stored part."""
    return f"part-{number:05d}.safetensors"


def write_part(path: Path, keys: Sequence[str], vectors: Float[np.ndarray, "n f"]) -> None:
    """Stores the vectors of some strings."""
    files.write_tensors(path, {"keys": digests(keys), "vectors": vectors})


def finish(folder: Path, parts: int, *, in_context: bool, facts: Mapping[str, Any]) -> None:
    """Says that all parts are there, and what made them."""
    files.write_whole(
        folder / FINISHED, json.dumps({"parts": parts, "in_context": in_context, **facts}, indent=1) + "\n"
    )


def node_keys(graph: Graph, *, in_context: bool) -> list[str]:
    """The strings that stand for the nodes of a graph in a table."""
    if not in_context:
        return span_text(graph)
    report = " ".join(graph.tokens)
    return [f"{report}\n{first} {last}" for first, last in graph.spans]


def digests(texts: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """What a table keeps of each text."""
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, np.uint64)


class TfidfSvd:
    """TF-IDF over words and word pairs, reduced by a truncated SVD fitted on the training reports.

    Output rows have length 1, or are 0 for a text without a known word. At most min(texts, terms) directions
    exist; where `dim` asks for more, the further columns are 0, so the width is always `dim`.
    """

    def __init__(
        self,
        terms: Sequence[str],
        idf: Float32[np.ndarray, " terms"],
        basis: Float32[np.ndarray, "dim terms"],
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import; data workers do without

        self._terms, self._idf, self._basis = tuple(terms), idf, basis
        self._tfidf = TfidfVectorizer(
            vocabulary={term: i for i, term in enumerate(terms)}, ngram_range=NGRAMS, sublinear_tf=True
        )
        self._tfidf.idf_ = idf.astype(np.float64)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._basis.shape[0]

    @classmethod
    def fit(cls, texts: Sequence[str], dim: int, seed: int) -> "TfidfSvd":
        """Fit vocabulary, weights and basis on `texts`.

        Raises:
          UserError: no words in the texts.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        tfidf = TfidfVectorizer(ngram_range=NGRAMS, sublinear_tf=True, max_features=MAX_TERMS)
        try:
            counts = tfidf.fit_transform(texts)
        except ValueError as error:
            raise UserError("frozen features: the training reports hold no words to fit TF-IDF on") from error
        rank = min(dim, *counts.shape)
        svd = TruncatedSVD(rank, random_state=seed).fit(counts)
        basis = np.zeros((dim, counts.shape[1]), np.float32)
        basis[:rank] = svd.components_
        return cls(tfidf.get_feature_names_out().tolist(), tfidf.idf_.astype(np.float32), basis)

    def transform(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """The unit vector of each text."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        reduced = (self._tfidf.transform(texts) @ self._basis.T).astype(np.float32)
        norm = np.linalg.norm(reduced, axis=1, keepdims=True)
        return np.divide(reduced, norm, out=np.zeros_like(reduced), where=norm > 1e-6)

    def save(self, folder: Path) -> None:
        """Write tfidf_svd.safetensors and its terms, tfidf_svd.json."""
        folder.mkdir(parents=True, exist_ok=True)
        files.write_tensors(folder / "tfidf_svd.safetensors", {"idf": self._idf, "basis": self._basis})
        files.write_whole(folder / "tfidf_svd.json", json.dumps({"terms": self._terms}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "TfidfSvd":
        """Read what `save` wrote."""
        stored = load_file(folder / "tfidf_svd.safetensors")
        terms = files.read_json(folder / "tfidf_svd.json", ("terms",))["terms"]
        return cls(terms, stored["idf"], stored["basis"])
