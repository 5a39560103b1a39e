"""Compressed images: what they say of themselves, read before a decoder takes memory for them, and their pixels.

Decoded by imagecodecs, one package for all of them but JPEG of eight bits (`jpeg`): of pydicom's plugins, gdcm ends
the whole process on a damaged stream, and lossless and 12-bit JPEG are otherwise left to a package under the GPL.
Damage inside is told of JPEG of eight bits, of JPEG-LS and HTJ2K by their decoders, of other JPEG mostly
(`_is_damaged`); JPEG 2000 has nothing to know it by while its packets are whole, and confines it to a few blocks.
"""

import importlib
import struct
from collections.abc import Callable

import numpy as np
from jaxtyping import Integer

from clinicclip.data.images import jpeg

_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_END_OF_IMAGE = b"\xff\xd9"
# Start-of-frame markers of JPEG (T.81) and JPEG-LS (T.87); C4, C8 and CC are other segments.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_JPEG_DECODER = "jpeg_decode"
_SYNTAX = "1.2.840.10008.1.2.4."
# {transfer syntax: function of imagecodecs}
DECODERS = {
    **{f"{_SYNTAX}{number}": _JPEG_DECODER for number in (50, 51, 57, 70)},  # baseline, extended, lossless
    **{f"{_SYNTAX}{number}": "jpegls_decode" for number in (80, 81)},
    **{f"{_SYNTAX}{number}": "jpeg2k_decode" for number in (90, 91, 201, 202, 203)},  # the last three: HTJ2K
}


def size(stream: bytes) -> tuple[int, int] | None:
    """Height and width in a JPEG, JPEG-LS or JPEG 2000 header; None where there is none."""
    if stream.startswith(_JPEG2000):
        right, lower, left, upper = struct.unpack(">4I", stream[8:24].ljust(16, b"\0"))
        return lower - upper, right - left
    if not stream.startswith(_JPEG):
        return None
    frame = _frame(stream)
    return (frame[1], frame[2]) if frame else None


def decode(stream: bytes, syntax: str, bits: int, signed: bool) -> Integer[np.ndarray, "..."]:
    """The stored values, ``bits`` of each sample; whatever the decoder raises on a damaged stream is raised."""
    values = _samples(stream, DECODERS[syntax]).astype(np.int64) & ((1 << bits) - 1)
    if signed:  # the sign is the highest bit stored, whether or not the stream calls itself signed
        values -= (values >> (bits - 1)) << bits
    return values


def _samples(stream: bytes, decoder: str) -> Integer[np.ndarray, "..."]:
    if decoder == _JPEG_DECODER and (frame := _frame(stream)) and frame[0] == 8:
        return jpeg.decode(stream)
    decode = getattr(importlib.import_module("imagecodecs"), decoder)
    samples = decode(stream)
    if decoder == _JPEG_DECODER and _is_damaged(stream, decode, samples):
        raise ValueError("the image does not end where its data do")
    return samples


def _is_damaged(stream: bytes, decode: Callable[[bytes], np.ndarray], samples: np.ndarray) -> bool:
    """Whether a JPEG is damaged inside, which its decoder does not say: then image and data seldom end together.

    Where data are lacking, others put before the end marker are read; where too many are left, the last are not.
    """
    # No marker can occur in coded pixels; bytes ff may fill up what stands before one.
    coded = stream[: max(0, stream.rfind(_END_OF_IMAGE))].rstrip(b"\xff")

    def alters(cut: int, filling: bytes) -> bool:  # begins with 0: what is cut may leave a byte ff, half of a marker
        changed = coded[: len(coded) - cut] + b"\0" + filling + _END_OF_IMAGE
        return not np.array_equal(decode(changed), samples)

    return not coded or alters(0, b"\x55\xaa\x55") or not any(alters(3, byte * 2) for byte in (b"\0", b"\x55", b"\xaa"))


def _frame(stream: bytes) -> tuple[int, int, int] | None:
    """Bits a sample, height and width in a JPEG or JPEG-LS header; None where there is none."""
    at = len(_JPEG)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            bits, height, width = struct.unpack(">B2H", stream[at + 4 : at + 9])
            return bits, height, width
        at += 2 + length if marker != 0xFF else 1  # any number of fill bytes may stand before a marker
    return None
