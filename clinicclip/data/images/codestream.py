"""Compressed images: what they say of themselves, read before a decoder takes memory for them, and their pixels.

Decoded by imagecodecs, one package for all of them: of pydicom's plugins, gdcm ends the whole process on a damaged
stream, and lossless and 12-bit JPEG are otherwise left to a package under the GPL.
"""

import importlib
import struct

import numpy as np
from jaxtyping import Integer

_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# Start-of-frame markers of JPEG (T.81) and JPEG-LS (T.87); C4, C8 and CC are other segments.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SYNTAX = "1.2.840.10008.1.2.4."
# {transfer syntax: function of imagecodecs}
DECODERS = {
    **{f"{_SYNTAX}{number}": "jpeg_decode" for number in (50, 51, 57, 70)},  # baseline, extended, lossless
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
    at = len(_JPEG)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            height, width = struct.unpack(">2H", stream[at + 5 : at + 9])
            return height, width
        at += 2 + length if marker != 0xFF else 1  # any number of fill bytes may stand before a marker
    return None


def is_whole_jpeg(stream: bytes) -> bool:
    """Whether the last scan has an end. libjpeg would fill up what is lacking, unasked."""
    end = stream.rfind(_END_OF_IMAGE)  # neither marker can occur in coded pixels
    return end >= 0 and stream.find(_START_OF_SCAN, end) < 0


def decode(stream: bytes, syntax: str, bits: int, signed: bool) -> Integer[np.ndarray, "..."]:
    """The stored values, ``bits`` of each sample; whatever the decoder raises on a damaged stream is raised."""
    samples = getattr(importlib.import_module("imagecodecs"), DECODERS[syntax])(stream).astype(np.int64)
    values = samples & ((1 << bits) - 1)
    if signed:  # the sign is the highest bit stored, whether or not the stream calls itself signed
        values -= (values >> (bits - 1)) << bits
    return values
