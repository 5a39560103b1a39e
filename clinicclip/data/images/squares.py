"""Files or arrays -> squares of one size, as image towers take them, read ahead by threads."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from clinicclip.ahead import mapped
from clinicclip.data.images.faults import ImageFault, check_size
from clinicclip.data.images.levels import to_gray
from clinicclip.data.images.reading import read
from clinicclip.data.images.stored import resize

Source = str | Path | bytes | np.ndarray
Square = UInt8[np.ndarray, "s s"]
AHEAD = 64  # images read and not yet asked for, at most


def square(source: Source, side: int, name: str = "image") -> Square:
    """A JPEG, PNG or DICOM file (its path or its bytes) or an array of gray levels, squashed to ``side`` x ``side``.

    A file is read at the scale that ``side`` needs, as `read` says; an array of other levels than 0-255 in 8 bits is
    stretched. Messages call bytes and arrays ``name``. Raises ImageFault as `read` does, also for an array that is not
    gray; UserError when the packages that read DICOM are not installed.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype.kind not in "biuf":
            raise ImageFault(
                "image_not_gray", f"{name}: an array {source.shape} of {source.dtype}; expected gray [h, w]"
            )
        check_size(name, *source.shape)
        return resize(to_gray(source, name), side)
    picture = read(Path(source) if isinstance(source, str) else source, side, name)
    return resize(picture.gray, side, (picture.height, picture.width))


def squares(sources: Iterable[Source], side: int, ahead: int = AHEAD) -> Iterator[Square | ImageFault]:
    """`square` of each source in order; in place of one that cannot be used, its fault. UserError is raised."""
    named = ((source, side, f"image {number}") for number, source in enumerate(sources, start=1))
    # Decoding and resizing run outside of the interpreter's lock.
    yield from mapped(lambda given: _attempt(*given), named, threads=os.cpu_count() or 1, ahead=ahead)


def _attempt(source: Source, side: int, name: str) -> Square | ImageFault:
    try:
        return square(source, side, name)
    except ImageFault as fault:
        return fault
