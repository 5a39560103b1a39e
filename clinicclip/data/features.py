"""Frozen text features: vectors that describe report text and are never trained.

`FeatureTable` answers for the strings it was built with, whoever computed the vectors, and keeps no text but
64-bit digests. `TfidfSvd` is the way to compute vectors that needs no pretrained model.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt64
from safetensors.numpy import load_file

from clinicclip import files
from clinicclip.errors import UserError

NGRAMS = (1, 2)  # pairs of words tell "no effusion" from "effusion"
MAX_TERMS = 8192


class FeatureTable:
    """A frozen map from strings to vectors of one width; read-only and picklable."""

    def __init__(self, texts: Sequence[str], vectors: Float32[np.ndarray, "n f"]) -> None:
        keys, first = np.unique(digests(texts), return_index=True)
        self._keys, self._vectors = keys, np.asarray(vectors[first], order="C")
        self._keys.flags.writeable = self._vectors.flags.writeable = False

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._vectors.shape[1]

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
        return self._vectors[places]

    def save(self, path: Path) -> None:
        """Write the table as safetensors."""
        files.write_tensors(path, {"keys": self._keys, "vectors": self._vectors})

    @classmethod
    def load(cls, path: Path) -> "FeatureTable":
        """Read what `save` wrote."""
        stored = load_file(path)
        table = cls([], np.zeros((0, stored["vectors"].shape[1]), np.float32))
        table._keys, table._vectors = stored["keys"], stored["vectors"]
        return table


def digests(texts: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """Sixty-four bits that stand for each text."""
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
        terms = json.loads((folder / "tfidf_svd.json").read_text(encoding="utf-8"))["terms"]
        return cls(terms, stored["idf"], stored["basis"])
