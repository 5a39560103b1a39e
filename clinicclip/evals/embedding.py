"""Embedding a set once, with the checks that keep scores and labels in step, and a store for the vectors."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, UInt64

from clinicclip import files
from clinicclip.errors import UserError
from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EmbedFns, EvalSet, ImageFn, Rows

# Rows embedded a second time, alone, to see that an embedding function keeps its rows in order.
PROBES = 3
PROBE_TOLERANCE = 0.02
CHUNK = 32  # images whose patches are held at once
TEXTS, MAPS = "texts", "maps"
KEYS, VECTORS = "keys", "vectors"
Vectors = dict[bytes, Float32[np.ndarray, "..."]]  # or maps, under the keys of what they are of


@dataclass(frozen=True)
class Store:
    """A folder of vectors: a file for the images of a set, one for all texts, under the model's name.

    A row goes under the first sixteen bytes of the SHA-256 of what was embedded, so that neither ids nor texts are
    in the folder, and a row is found whatever the order and the set it was embedded in.
    """

    folder: Path
    model: str  # digest of parameters, tokenizer and preprocessing

    def load(self, name: str) -> Vectors:
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

    def save(self, name: str, rows: Vectors) -> None:
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
    _require_sound(vectors, len(items), kind)
    _require_steady(embed, items, vectors, kind)
    return vectors


def _require_sound(vectors: np.ndarray, count: int, kind: str) -> None:
    if vectors.ndim != 2 or len(vectors) != count:
        raise ValueError(f"embedding {count} {kind} gave an array of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"embeddings of {kind} are not finite")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} are not L2-normalised")


def _require_steady(embed: Callable, items: Sequence[str] | np.ndarray, vectors: np.ndarray, kind: str) -> None:
    probes = np.unique(np.linspace(0, len(items) - 1, PROBES).astype(int))
    again = embed(items[probes] if isinstance(items, np.ndarray) else [items[i] for i in probes])
    if np.abs(again - vectors[probes]).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} change or lose their order from call to call")


class _Seen:
    """The images of a set by number, embedded: every vector comes back with the mark of the pixels it was made of."""

    def __init__(self, embed: ImageFn, evalset: EvalSet) -> None:
        self._embed, self._set = embed, evalset

    def rows(self, numbers: Int[np.ndarray, "m"]) -> Rows:
        """Raises ValueError where what comes back was made of other images than those that were given."""
        found = self._embed(self._set.images[numbers])
        marks = self._set.marks[numbers]
        if len(found.marks) != len(numbers) or (found.marks != marks).any():
            raise ValueError(f"{self._set.name}: embeddings of images have lost their order: they are of other images")
        return found

    def vectors(self, numbers: Int[np.ndarray, "m"]) -> Float32[np.ndarray, "m d"]:
        return self.rows(numbers).vectors


def embed_set(
    embed: EmbedFns,
    evalset: EvalSet,
    texts: TextBank,
    wording: prompts.PromptSet = prompts.REPORTS,
    store: Store | None = None,
    *,
    maps: bool = False,
) -> Embedded:
    """Embed a set's images once, those that the store lacks; the texts follow on demand.

    With ``maps`` the images with boxes are embedded with their patches, of which only the likeness to each boxed
    finding's affirming prompts is kept.

    Raises: ValueError where the vectors are not those of the set's images in the set's order.
    """
    evalset.require_seal()
    keys = [_key(image.tobytes()) for image in evalset.images]
    rows = store.load(evalset.name) if store else {}
    held = len(rows)
    embedded = Embedded({}, texts, wording)
    if maps and embed.patches:
        embedded = dataclasses.replace(embedded, maps=_maps(embed.patches, evalset, keys, embedded, rows, store))
    lacking = np.array([row for row, key in enumerate(keys) if key not in rows], int)
    if len(lacking):
        vectors = checked(_Seen(embed.images, evalset).vectors, lacking, "images")
        rows.update(zip([keys[row] for row in lacking], vectors, strict=True))
    if store and len(rows) > held:
        store.save(evalset.name, rows)
    return dataclasses.replace(embedded, rows={name: rows[key] for name, key in zip(evalset.ids, keys, strict=True)})


def _maps(
    patches: ImageFn,
    evalset: EvalSet,
    keys: Sequence[bytes],
    embedded: Embedded,
    rows: Vectors,
    store: Store | None,
) -> dict[tuple[str, str], Float32[np.ndarray, "h w"]]:
    """Of every boxed finding, its map; the vectors of the images that are embedded for it are added to ``rows``."""
    asked = {row: sorted({box.finding for box in boxes}) for row, boxes in enumerate(evalset.boxes) if boxes}
    towards = {one: embedded.sides(one).positive for one in {box.finding for boxes in evalset.boxes for box in boxes}}
    named = {
        (row, one): _key(keys[row] + towards[one].tobytes()) for row, findings in asked.items() for one in findings
    }
    held = store.load(f"{evalset.name}-{MAPS}") if store else {}
    lacking = np.unique([row for (row, _), key in named.items() if key not in held]).astype(int)
    seen = _Seen(patches, evalset)
    for first in range(0, len(lacking), CHUNK):
        some = lacking[first : first + CHUNK]
        found = seen.rows(some)
        assert found.patches is not None
        _require_sound(found.vectors, len(some), "images")
        for row, vector, grid in zip(some.tolist(), found.vectors, found.patches, strict=True):
            rows[keys[row]] = vector
            held.update({named[row, finding]: grid @ towards[finding] for finding in asked[row]})
    if len(lacking):
        _require_steady(seen.vectors, lacking, np.stack([rows[keys[row]] for row in lacking]), "images")
    if store and len(lacking):
        store.save(f"{evalset.name}-{MAPS}", held)
    return {(evalset.ids[row], finding): held[key] for (row, finding), key in named.items()}
