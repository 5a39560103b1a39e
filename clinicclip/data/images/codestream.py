"""What a compressed image says of itself, read before a decoder takes memory for it."""

import struct
from typing import NamedTuple

_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
# Start-of-frame markers of JPEG (T.81) and JPEG-LS (T.87); C4, C8 and CC are other segments.
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_ITEM, _HEADER = b"\xfe\xff\x00\xe0", 8


class Header(NamedTuple):
    """Size and bits a sample of a compressed image."""

    height: int
    width: int
    bits: int


def first_frame(encapsulated: bytes) -> bytes:
    """The first fragment of image data behind the offset table of an encapsulated DICOM element ('' if none)."""
    table = int.from_bytes(encapsulated[4:_HEADER], "little")
    start = _HEADER + table
    if not encapsulated.startswith(_ITEM) or encapsulated[start : start + 4] != _ITEM:
        return b""
    return encapsulated[start + _HEADER :]


def header(stream: bytes) -> Header | None:
    """The header of JPEG, JPEG-LS or JPEG 2000; None for another format or a damaged one."""
    if stream.startswith(_JPEG2000):
        right, lower, left, upper = struct.unpack(">4I", stream[8:24].ljust(16, b"\0"))
        return Header(lower - upper, right - left, (stream[42] & 0x7F) + 1 if len(stream) > 42 else 0)
    if not stream.startswith(_JPEG):
        return None
    at = len(_JPEG)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            bits, height, width = struct.unpack(">B2H", stream[at + 4 : at + 9])
            return Header(height, width, bits)
        at += 2 + length if marker != 0xFF else 1  # any number of fill bytes may stand before a marker
    return None
