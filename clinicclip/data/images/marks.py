"""A number by which a square of gray levels is known wherever it is computed: on the host, or on a device."""

import functools

import numpy as np
from jaxtyping import UInt8, UInt32


@functools.cache
def mark_weights(side: int) -> UInt32[np.ndarray, "s s"]:
    """Odd weights of the pixels; a mark is the sum of weighted gray levels, modulo 2**32."""
    drawn = np.random.default_rng(0).integers(2**32, size=(side, side), dtype=np.uint32)
    return drawn | np.uint32(1)


def marks(images: UInt8[np.ndarray, "n s s"]) -> UInt32[np.ndarray, "n"]:
    """The mark of each square. Two squares share one by chance, once in 2**32."""
    weights = mark_weights(images.shape[-1])
    return np.array([np.multiply(image, weights, dtype=np.uint32).sum(dtype=np.uint32) for image in images], np.uint32)
