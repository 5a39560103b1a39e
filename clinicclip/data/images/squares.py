"""Files or arrays -> squares of one size, as image towers take them, read ahead by threads."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clinicclip.ahead import mapped
from clinicclip.data.images import raster
from clinicclip.data.images.faults import ImageFault, check_size, unreadable
from clinicclip.data.images.levels import to_gray
from clinicclip.data.images.reading import read
from clinicclip.data.images.stored import resize
from clinicclip.errors import UserError

Source = str | Path | bytes | np.ndarray | Image.Image
Square = UInt8[np.ndarray, "s s"]
AHEAD = 64  # images read and not yet asked for, at most
COLOURS = (3, 4)  # planes of an array that are red, green, blue and, where it is the fourth, opacity


def square(source: Source, side: int, name: str = "image") -> Square:
    """A JPEG, PNG or DICOM file (its path or its bytes), a Pillow image, or an array of gray levels [h, w] or of 8-bit
    colours [h, w, 3 or 4], squashed to ``side`` x ``side``.

    A file is read at the scale that ``side`` needs, as `read` says; gray levels of another type than 8 bits are
    stretched. Messages call all but paths ``name``. Raises ImageFault as `read` does, also for what is no image;
    UserError when the packages that read DICOM are not installed.
    """
    if isinstance(source, str | Path | bytes):
        picture = read(Path(source) if isinstance(source, str) else source, side, name)
        return resize(picture.gray, side, (picture.height, picture.width))
    return resize(_gray(source, name), side)


def _gray(source: np.ndarray | Image.Image, name: str) -> UInt8[np.ndarray, "h w"]:
    if isinstance(source, Image.Image):
        try:
            return raster.shown(source, name)
        except OSError as fault:  # Pillow decodes a file when it is first looked at
            raise unreadable(name, f"not a whole image ({fault})") from None
    if source.ndim == 3 and source.shape[2] in COLOURS and source.dtype == np.uint8:
        check_size(name, *source.shape[:2])
        return raster.shown(Image.fromarray(source), name)
    if source.ndim != 2 or source.dtype.kind not in "biuf":
        expected = "gray [h, w] or 8-bit colours [h, w, 3]"
        raise ImageFault("image_not_gray", f"{name}: an array {source.shape} of {source.dtype}; expected {expected}")
    check_size(name, *source.shape)
    return to_gray(source, name)


def require_ready(images: np.ndarray, side: int) -> None:
    """Raises UserError unless one array holds several squares of ``side`` pixels in 8-bit gray."""
    if images.shape[1:] != (side, side) or images.dtype != np.uint8:
        raise UserError(
            f"one array {images.shape} of {images.dtype}: expected ready squares [n, {side}, {side}] of uint8; give "
            "other images as a list, [image]"
        )


def squares(sources: Iterable[Source], side: int, ahead: int = AHEAD) -> Iterator[Square | ImageFault]:
    """`square` of each source in order; in place of one that cannot be used, its fault. UserError is raised."""
    named = ((source, side, f"image {number}") for number, source in enumerate(sources, start=1))
    # Decoding and resizing run outside of the interpreter's lock.
    yield from mapped(lambda given: _attempt(*given), named, threads=os.cpu_count() or 1, ahead=ahead)


def _attempt(source: Any, side: int, name: str) -> Square | ImageFault:
    try:
        if not isinstance(source, Source):
            expected = "a path, the bytes of a file, a Pillow image or a numpy array"
            raise ImageFault("image_not_gray", f"{name}: is a {type(source).__name__}; expected {expected}")
        return square(source, side, name)
    except ImageFault as fault:
        return fault
