"""Pixel values of any type -> gray levels 0-255."""

import numpy as np
from jaxtyping import Shaped, UInt8

from clinicclip.data.images.faults import ImageFault


def to_gray(pixels: Shaped[np.ndarray, "h w"], name: str) -> UInt8[np.ndarray, "h w"]:
    """Pixels of any real type as 0-255: 8-bit levels stay, wider ranges are stretched, minimum to maximum.

    Raises ImageFault when a value is not finite or all are equal.
    """
    if not np.isfinite(pixels).all():
        raise ImageFault("image_not_finite", f"{name}: some pixels are not finite numbers")
    low, high = pixels.min(), pixels.max()
    if low == high:
        raise constant(name)
    if pixels.dtype == np.uint8:
        return pixels
    scaled = (pixels.astype(np.float64) - low) * (255.0 / (float(high) - float(low)))
    return np.rint(scaled).astype(np.uint8)


def constant(name: str) -> ImageFault:
    """The fault of an image without a picture."""
    return ImageFault("image_constant", f"{name}: every pixel is equal, there is no picture in it")
