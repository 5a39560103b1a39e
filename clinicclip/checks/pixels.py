"""Gray levels cut off at an end: what `prepare` does not flag of an image (see `data.images.flags`)."""

import numpy as np
from jaxtyping import UInt8

CLIPPED = "clipped"
_CLIPPED = 0.25  # share of the inner half of an image at its brightest level, or at its darkest


def clipped(gray: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether much of the middle of an image is at its brightest level, or at its darkest."""
    height, width = gray.shape
    inner = gray[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return any(bool((inner == end).mean() > _CLIPPED) for end in (gray.max(), gray.min()))
