"""A guest as evaluations know a model: squares of gray and texts in, unit embeddings out."""

import functools
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8, UInt64

from clinicclip import terms
from clinicclip.errors import UserError, library_says
from clinicclip.guests import layouts
from clinicclip.guests.base import version

BATCH = 32
EXACT = 0.01  # gray levels that a square brought back from pixels may be off
T = TypeVar("T", np.ndarray, Sequence[str])


class Guest:
    """A CLIP folder of others with its own preprocessing and tokenizer.

    Its preprocessing is kept as gray levels, one byte a pixel: what it makes of black and white says how levels become
    the model's numbers, and the first picture proves that nothing else happens to them.
    """

    config: Mapping[str, Any] = {}  # of no run of ours
    trained_on: UInt64[np.ndarray, " n"] = np.empty(0, np.uint64)  # not known

    def __init__(self, folder: Path, layout: str, *, force: bool = False, noted: Sequence[str] = ()) -> None:
        """Reads the folder; ``noted`` is what was forced on it before.

        Raises UserError when its library cannot, or is not there; or when the weights were trained to be given other
        images or another vocabulary than the folder gives them, unless ``force``.
        """
        self.reader = layouts.open_reader(layout, folder)
        self.source, self._folder = folder.resolve().name, folder
        black, white = (self._seen(np.full((512, 512), level, np.uint8)) for level in (0, 255))
        self._black, self._step = black, (white - black) / 255
        self.image_size: int = black.shape[-1]
        self.says = self.reader.says or f"as {self.reader.library} reads the folder, {{}} px"
        noise = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
        if not (self._step > 0).all() or self._off(noise) > EXACT * self._step.max():
            raise UserError(f"{folder}: its preprocessing does more than to crop, resize and scale gray images")
        rows, pieces = self.reader.vocabulary  # rows may be left over
        trained = {"image_size": self.reader.image_size, "pieces": rows}
        given = {"image_size": self.image_size, "pieces": max(rows, pieces)}
        self.forced = [*noted, *terms.require(folder, [trained], given, force=force)]

    def square(self, gray: UInt8[np.ndarray, "h w"], size: int) -> UInt8[np.ndarray, "s s"]:
        """What the guest sees of an image, as gray levels; ``size`` is ``image_size``."""
        levels = (self._seen(gray) - self._black) / self._step
        return np.rint(np.clip(levels[0], 0, 255)).astype(np.uint8)

    def embed_images(self, images: UInt8[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n d"]:
        """Unit embeddings of what ``square`` made of images."""
        with self._library_says:
            return _in_batches(images, lambda some: self.reader.embed_pixels(self._pixels(some)))

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Unit embeddings of texts, cut where the guest's tokenizer cuts them."""
        with self._library_says:
            return _in_batches(list(texts), self.reader.embed_texts)

    @property
    def _library_says(self) -> AbstractContextManager[None]:
        return library_says(f"{self._folder}: {self.reader.library} cannot embed with it")

    def describe(self) -> dict[str, str]:
        """What was scored, and by which versions."""
        library = self.reader.library
        return {
            "checkpoint": self.source,
            "parameters_sha256": _digest(self._folder),
            "read_by": f"{library} {version(library)}, torch {version('torch')}",
            "trained_on": "not known: whether it has seen these patients cannot be told",
            **terms.noted(self.forced),
        }

    def _off(self, gray: UInt8[np.ndarray, "h w"]) -> float:
        """How far pixels made of the gray levels that the guest sees are from those it makes itself."""
        square = self.square(gray, self.image_size)[None]
        return float(np.abs(self._pixels(square)[0] - self._seen(gray)).max())

    def _pixels(self, squares: UInt8[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n 3 s s"]:
        return (self._black[None] + squares[:, None] * self._step[None]).astype(np.float32)

    def _seen(self, gray: UInt8[np.ndarray, "h w"]) -> Float32[np.ndarray, "3 s s"]:
        picture = _image().fromarray(gray).convert("RGB")
        return self.reader.pixels([picture])[0]


@functools.cache
def _image() -> Any:
    return importlib.import_module("PIL.Image")


def _in_batches(items: T, embed: Callable[[T], Float32[np.ndarray, "m d"]]) -> Float32[np.ndarray, "n d"]:
    return np.concatenate([embed(items[first : first + BATCH]) for first in range(0, len(items), BATCH)])


def _digest(folder: Path) -> str:
    """Of all files of weights, by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
        if path.suffix in (".safetensors", ".bin", ".pt", ".pth"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
