r"""Near-duplicate images: pairs whose thumbnails correlate, found without comparing every pair.

A thumbnail, centred and of length 1, is hashed to 64 bits: its lowest DCT coefficients but the mean, each compared
with its median over all images given. (Radiographs share so much that a hash compared with a fixed level, or the
image's own median, is nearly the same for all; against the common median every bit divides the set in half.) Images
that agree in one of the eight bytes are candidates (one pair in 20 on Open-I, in numpy), those of near hashes are
compared by correlation.

Of 300 frontal images of Open-I all are found again after JPEG of quality 50, halving, contrast x 1.3 or gamma 0.7, 99 %
after a turn of 1 degree, 93 % with 1 % of each border cut off; about 1 % with 3 % cut off, none after 3 degrees or
inverted. Of the 2.9 million pairs of 2,420 images none of two patients passes: their highest correlation is 0.9645.
"""

from collections.abc import Iterator

import numpy as np
import scipy.fft
from jaxtyping import Float32, Int, UInt8, UInt64

ALIKE = 0.985  # correlation of two thumbnails: different patients' radiographs stay below it
NEAR = 16  # bits in which the hashes of candidates may differ
EVERY_PAIR = 512  # so few images are all compared: a median of few says little
_CHUNK = 4096  # images hashed at a time
_LOW = sorted((i + j, i, j) for i in range(16) for j in range(16) if i + j)[:64]


def alike(thumbs: UInt8[np.ndarray, "n s s"]) -> list[tuple[int, int, float]]:
    """Every pair i < j of images that look the same, with the correlation of their thumbnails, in order."""
    found: dict[tuple[int, int], float] = {}
    for first, second in _candidates(thumbs):
        for start in range(0, len(first), _CHUNK):
            i, j = first[start : start + _CHUNK], second[start : start + _CHUNK]
            correlation = np.einsum("nk,nk->n", _unit(thumbs[i]), _unit(thumbs[j]))
            for at in np.flatnonzero(correlation >= ALIKE):
                found[int(i[at]), int(j[at])] = float(correlation[at])
    return [(i, j, found[i, j]) for i, j in sorted(found)]


def hashes(thumbs: UInt8[np.ndarray, "n s s"]) -> UInt64[np.ndarray, " n"]:
    """Sixty-four bits an image."""
    low = np.concatenate([_low(thumbs[start : start + _CHUNK]) for start in range(0, len(thumbs), _CHUNK)])
    return np.packbits(low > np.median(low, axis=0), axis=1).view(np.uint64)[:, 0]


def _candidates(
    thumbs: UInt8[np.ndarray, "n s s"],
) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
    if len(thumbs) <= EVERY_PAIR:
        yield np.triu_indices(len(thumbs), 1)
        return
    bits = hashes(thumbs)
    for band in bits.view(np.uint8).reshape(-1, 8).T:
        order = np.argsort(band, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            yield from _near(bits, bucket)


def _near(
    bits: UInt64[np.ndarray, " n"], bucket: Int[np.ndarray, " m"]
) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
    """Pairs of a bucket (in rising order) whose hashes are near, a block of rows at a time."""
    rows = max(1, 2**22 // len(bucket))
    for start in range(0, len(bucket), rows):
        block = bucket[start : start + rows]
        differing = np.bitwise_count(bits[block][:, None] ^ bits[bucket][None, start:])
        i, j = np.nonzero(np.triu(differing <= NEAR, 1))
        yield block[i], bucket[start + j]


def _low(thumbs: UInt8[np.ndarray, "m s s"]) -> Float32[np.ndarray, "m 64"]:
    transformed = scipy.fft.dctn(_unit(thumbs).reshape(thumbs.shape), axes=(1, 2), norm="ortho")
    return np.stack([transformed[:, i, j] for _, i, j in _LOW], axis=1)


def _unit(thumbs: UInt8[np.ndarray, "m s s"]) -> Float32[np.ndarray, "m p"]:
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
