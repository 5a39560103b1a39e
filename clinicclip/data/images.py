"""Image file -> gray levels -> stored JPEG -> square: the only place where pixels are resized."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from clinicclip.errors import UserError

JPEG_QUALITY = 95
SHORTER_SIDE = 256
SUFFIXES = (".png", ".jpg", ".jpeg")
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class ImageFault(UserError):
    """An image that cannot be used; ``reason`` is the name it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_gray(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The gray levels (0-255) of a PNG or JPEG file of 8 or 16 bits, at full size.

    Raises ImageFault: ``image_missing``, ``image_unreadable`` (damaged, truncated, of another format),
    ``image_constant`` or ``image_not_finite``.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            wide = image.mode in _WIDE_MODES
            pixels = np.asarray(image if wide else image.convert("L"))
    except FileNotFoundError:
        raise ImageFault("image_missing", f"{path.name}: no such image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise ImageFault(
            "image_unreadable", f"{path.name}: not a whole PNG or JPEG file ({fault}); fetch it again"
        ) from None
    return to_gray(pixels, path.name)


def to_gray(pixels: Shaped[np.ndarray, "h w"], name: str) -> UInt8[np.ndarray, "h w"]:
    """Pixels of any real type as 0-255: 8-bit levels stay, wider ranges are stretched, minimum to maximum.

    Raises ImageFault when a value is not finite or all are equal.
    """
    if not np.isfinite(pixels).all():
        raise ImageFault("image_not_finite", f"{name}: some pixels are not finite numbers")
    low, high = pixels.min(), pixels.max()
    if low == high:
        raise ImageFault("image_constant", f"{name}: every pixel is equal, there is no picture in it")
    if pixels.dtype == np.uint8:
        return pixels
    scaled = (pixels.astype(np.float64) - low) * (255.0 / (float(high) - float(low)))
    return np.rint(scaled).astype(np.uint8)


def encode(gray: UInt8[np.ndarray, "h w"], shorter_side: int = SHORTER_SIDE) -> bytes:
    """The stored form: gray JPEG of quality 95 whose shorter side is at most ``shorter_side`` pixels."""
    image = Image.fromarray(gray)
    scale = shorter_side / min(image.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    stored = io.BytesIO()
    image.save(stored, format="JPEG", quality=JPEG_QUALITY)
    return stored.getvalue()


def decode(stored: bytes) -> UInt8[np.ndarray, "h w"]:
    """The gray levels of a stored image."""
    with Image.open(io.BytesIO(stored), formats=("JPEG",)) as image:
        return np.asarray(image.convert("L"))


def resize(gray: UInt8[np.ndarray, "h w"], size: int) -> UInt8[np.ndarray, "{size} {size}"]:
    """The image squashed to ``size`` x ``size`` pixels by Pillow's antialiased bicubic filter."""
    if gray.shape == (size, size):
        return gray
    return np.asarray(Image.fromarray(gray).resize((size, size), Image.Resampling.BICUBIC))
