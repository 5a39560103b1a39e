"""Gray levels -> stored JPEG -> square: resized by Pillow's antialiased bicubic filter throughout."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clinicclip.data.images import jpeg
from clinicclip.data.images.faults import ImageFault, check_size

JPEG_QUALITY = 95
SHORTER_SIDE = 256


def shrink(
    gray: UInt8[np.ndarray, "h w"], shorter_side: int = SHORTER_SIDE, shape: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "k m"]:
    """The image with a shorter side of at most ``shorter_side`` pixels.

    ``shape`` is height and width of the file where ``gray`` was read at a reduced scale.
    """
    height, width = shape or gray.shape
    scale = min(1, shorter_side / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _fit(gray, size, (height, width))


def encode(gray: UInt8[np.ndarray, "h w"]) -> bytes:
    """The stored form: gray JPEG of quality 95."""
    stored = io.BytesIO()
    Image.fromarray(gray).save(stored, format="JPEG", quality=JPEG_QUALITY)
    return stored.getvalue()


def decode(stored: bytes, name: str = "image") -> UInt8[np.ndarray, "h w"]:
    """The gray levels of a stored image. Raises ImageFault, with the image's ``name``."""
    try:
        check_size(name, *jpeg.size(stored))
        return jpeg.decode(stored)
    except (ValueError, ImageFault):
        raise ImageFault("image_unreadable", f"{name}: the stored image is damaged; prepare again") from None


def resize(
    gray: UInt8[np.ndarray, "h w"], size: int, shape: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "{size} {size}"]:
    """The image squashed to ``size`` x ``size`` pixels by Pillow's antialiased bicubic filter; ``shape`` as above."""
    return _fit(gray, (size, size), shape or gray.shape)


def _fit(gray: UInt8[np.ndarray, "h w"], size: tuple[int, int], shape: tuple[int, ...]) -> UInt8[np.ndarray, "k m"]:
    """The image at ``size`` (width, height), exactly where it lies in a file of ``shape``."""
    image = Image.fromarray(gray)
    if image.size == size:
        return gray
    factor = round(shape[0] / gray.shape[0])  # the last row and column of a reduced image may be partly beyond it
    box = (0, 0, min(gray.shape[1], shape[1] / factor), min(gray.shape[0], shape[0] / factor))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box))
