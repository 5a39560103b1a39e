"""A model's towers in use: compiled for a few batch sizes, each batch split over the devices and filled up."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from clinicclip.ahead import Item, Result, mapped
from clinicclip.data import packing
from clinicclip.data.images import mark_weights
from clinicclip.models import clip
from clinicclip.training import sharding

# Images of one call and device; on a CPU more at once only leave its caches.
IMAGES, IMAGES_ON_CPU = (1, 8, 64), (1, 8)
# Batches of images under way: a CPU's cores are not all busy in every step of one, and devices wait for none.
AT_ONCE = 2
FEW_TEXTS = 8  # of one call and device, where there are no more
TOKENS = 2048  # of one call and device otherwise
SHORTEST = 32  # tokens of a row of text; rows are powers of two from here on


def in_turns(call: Callable[[Item], Result], batches: Iterable[Item]) -> Iterator[Result]:
    """``call`` of each batch in order, of some at once; of the first alone, since that compiles what all need."""
    left = iter(batches)
    for first in itertools.islice(left, 1):
        yield call(first)
    yield from mapped(call, left, threads=AT_ONCE, ahead=AT_ONCE)


class Towers:
    """Image and text tower of one architecture on the devices given, or on all of this process.

    A batch is filled up to one of a few sizes by repeating its last row, so that no other shapes are compiled.
    """

    def __init__(self, spec: clip.ClipSpec, devices: Sequence[jax.Device] | None = None) -> None:
        self.mesh = sharding.make_mesh(jax.local_devices() if devices is None else devices)
        self._model = clip.ClinicCLIP(spec)
        self._sizes = IMAGES_ON_CPU if self.mesh.devices.flat[0].platform == "cpu" else IMAGES
        split, whole = sharding.by_study(self.mesh), sharding.replicated(self.mesh)
        self._image_fn = jax.jit(self._images, in_shardings=(whole, split), out_shardings=split)
        self._patch_fn = jax.jit(self._patches, in_shardings=(whole, split), out_shardings=split)
        self._mark_fn = jax.jit(_marks, in_shardings=split, out_shardings=split)
        self._text_fn = jax.jit(self._texts, in_shardings=(whole, split), out_shardings=split)

    @property
    def most_images(self) -> int:
        """Images of the largest batch."""
        return self._sizes[-1] * self.mesh.size

    def place(self, params: Any) -> Any:
        """The parameters on every device."""
        return jax.device_put(params, sharding.replicated(self.mesh))

    def images(self, params: Any, squares: UInt8[np.ndarray, "n s s"], size: int = 0) -> jax.Array:
        """Unit embeddings [m, d] of 1 to ``most_images`` gray squares; the rows after the n-th fill up.

        m is that of ``size`` images where it is given, so that batches of several sizes may be computed alike.
        """
        return self._image_fn(params, self._full(squares, size))

    def rows(
        self, params: Any, squares: UInt8[np.ndarray, "n s s"], size: int = 0, *, patches: bool = False
    ) -> tuple[jax.Array, ...]:
        """As ``images``: the marks of the squares that each device was given, the vectors, and the patches [m, h, w, d]
        where they are asked for."""
        placed = self._full(squares, size)
        vectors = self._patch_fn(params, placed) if patches else (self._image_fn(params, placed),)
        return self._mark_fn(placed), *vectors

    def _full(self, squares: UInt8[np.ndarray, "n s s"], size: int) -> jax.Array:
        filled = squares[_filled(len(squares), self._sizes, self.mesh.size, size)]
        return sharding.place({"image": filled}, self.mesh)["image"]

    def texts(
        self, params: Any, ids: Sequence[Sequence[int]], length: int, pad_id: int
    ) -> Iterator[tuple[list[int], Float[np.ndarray, "n d"]]]:
        """(which texts, their unit embeddings), those of like length together, of texts of at most ``length`` tokens.

        Attention is paid for by the row, so that short texts are read in short rows.
        """
        by_length: dict[int, list[int]] = {}
        for number, text in enumerate(ids):
            by_length.setdefault(_row(len(text), length), []).append(number)
        for row, numbers in sorted(by_length.items()):
            sizes = (FEW_TEXTS, max(FEW_TEXTS, TOKENS // row))
            most = sizes[-1] * self.mesh.size
            for first in range(0, len(numbers), most):
                some = numbers[first : first + most]
                filled = [ids[some[i]] for i in _filled(len(some), sizes, self.mesh.size)]
                packed = packing.plain(filled, row, groups=self.mesh.size, pad_id=pad_id)
                placed = tuple(sharding.place(packed._asdict(), self.mesh).values())
                yield some, np.asarray(self._text_fn(params, placed))[: len(some)]

    def _images(self, params: Any, squares: jax.Array) -> Any:
        return self._model.apply({"params": params}, clip.normalize_images(squares), method="embed_image")

    def _patches(self, params: Any, squares: jax.Array) -> Any:
        return self._model.apply({"params": params}, clip.normalize_images(squares), method="embed_patches")

    def _texts(self, params: Any, packed: tuple[jax.Array, ...]) -> Any:
        return self._model.apply({"params": params}, *packed, self.mesh.size, method="embed_text")


def _marks(squares: jax.Array) -> jax.Array:
    """`data.images.marks`, where the squares are."""
    weights = mark_weights(squares.shape[-1])[None]
    return (squares.astype(jnp.uint32) * weights).sum(axis=(1, 2), dtype=jnp.uint32)


def _row(tokens: int, length: int) -> int:
    return min(length, max(SHORTEST, 1 << (tokens - 1).bit_length()))


def _filled(count: int, sizes: Sequence[int], devices: int, least: int = 0) -> np.ndarray:
    """Row numbers of a batch of the smallest size that holds ``count`` rows, or ``least`` if these are more."""
    size = next(size * devices for size in sizes if max(count, least) <= size * devices)
    return np.minimum(np.arange(size), count - 1)
