"""Embedding a set once, with the checks that keep scores and labels in step, and a store for the vectors."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt64

from clinicclip import files
from clinicclip.errors import UserError
from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EmbedFns, EvalSet

# Rows embedded a second time, alone, to see that an embedding function keeps its rows in order.
PROBES = 3
PROBE_TOLERANCE = 0.02
TEXTS = "texts"
KEYS, VECTORS = "keys", "vectors"


@dataclass(frozen=True)
class Store:
    """A folder of vectors: a file for the images of a set, one for all texts, under the model's name.

    A row goes under the first sixteen bytes of the SHA-256 of what was embedded, so that neither ids nor texts are
    in the folder, and a row is found whatever the order and the set it was embedded in.
    """

    folder: Path
    model: str  # digest of parameters, tokenizer and preprocessing

    def load(self, name: str) -> dict[bytes, Float32[np.ndarray, "d"]]:
        """The rows under their keys; none where there is no such file. Raises UserError for a damaged one."""
        path = self._path(name)
        if not path.exists():
            return {}
        try:
            found = files.map_tensors(path)
            keys, vectors = np.asarray(found[KEYS]), np.asarray(found[VECTORS])
            return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
        except (ValueError, KeyError):
            raise UserError(f"{path} is damaged: delete it, and its vectors are made again") from None

    def save(self, name: str, rows: dict[bytes, Float32[np.ndarray, "d"]]) -> None:
        """Writes the rows in place of the file's."""
        if rows:
            files.make_folder(self.folder)
            files.write_tensors(self._path(name), {KEYS: _numbers(rows), VECTORS: np.stack(list(rows.values()))})

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}-{self.model}.safetensors"


def _numbers(keys: Iterable[bytes]) -> UInt64[np.ndarray, "n 2"]:
    return np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2)


def _key(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]


class TextBank:
    """Embeds each distinct text once, however many suites and runs ask for it."""

    def __init__(
        self, embed: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]], store: Store | None = None
    ) -> None:
        self._embed = embed
        self._store = store
        self._rows = store.load(TEXTS) if store else {}
        self._stored = len(self._rows)

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        keys = [_key(text.encode()) for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        if fresh:
            self._rows.update(zip(fresh, checked(self._embed, list(fresh.values()), "texts"), strict=True))
        return np.stack([self._rows[key] for key in keys])

    def save(self) -> None:
        """Puts what was embedded into the store, where there is one and it lacks any of it."""
        if self._store and len(self._rows) > self._stored:
            self._store.save(TEXTS, self._rows)


def checked(embed: Callable, items: Sequence[str] | np.ndarray, kind: str) -> Float32[np.ndarray, "n d"]:
    """Embed, and refuse what would score wrongly in silence: missing, non-finite, unscaled, reordered rows.

    Raises: ValueError naming what is wrong with the embedding function.
    """
    vectors = np.asarray(embed(items), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(items):
        raise ValueError(f"embedding {len(items)} {kind} gave an array of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"embeddings of {kind} are not finite")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} are not L2-normalised")
    probes = np.unique(np.linspace(0, len(items) - 1, PROBES).astype(int))
    again = embed(items[probes] if isinstance(items, np.ndarray) else [items[i] for i in probes])
    if np.abs(again - vectors[probes]).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} change or lose their order from call to call")
    return vectors


def embed_set(
    embed: EmbedFns,
    evalset: EvalSet,
    texts: TextBank,
    wording: prompts.PromptSet = prompts.REPORTS,
    store: Store | None = None,
) -> Embedded:
    """Embed a set's images once, those that the store lacks; the texts follow on demand."""
    keys = [_key(image.tobytes()) for image in evalset.images]
    rows = store.load(evalset.name) if store else {}
    lacking = [row for row, key in enumerate(keys) if key not in rows]
    if lacking:
        vectors = checked(embed.images, evalset.images[lacking], "images")
        rows.update(zip([keys[row] for row in lacking], vectors, strict=True))
        if store:
            store.save(evalset.name, rows)
    return Embedded(evalset.ids, np.stack([rows[key] for key in keys]), texts, wording, embed.patches)
