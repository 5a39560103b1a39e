"""Does an image look as a frontal chest radiograph should? Border, middle and extremes of its gray levels."""

import numpy as np
from jaxtyping import UInt8

from clinicclip.data.images import resize

INVERTED, LOW_CONTRAST, CLIPPED = "looks_inverted", "low_contrast", "clipped"
ADVICE = {
    INVERTED: "the outside of the body is brighter than its middle: a MONOCHROME1 image shown as it is stored?",
    LOW_CONTRAST: "blank or nearly so: look at the files, and leave them out",
    CLIPPED: "bright or dark areas are cut off: another window, or a wrong bit depth, when the files were made?",
}

_SIDE = 64
_DARKER = 0.05  # of the spread of gray: how much darker than the flanks a spine must be to look inverted
_SPREAD = 64  # gray levels between the 2nd and 98th percentile, at least
_CLIPPED = 0.25  # share of the inner half of an image at its brightest level, or at its darkest


def flags(gray: UInt8[np.ndarray, "h w"]) -> list[str]:
    """What is odd about an image, as keys of ``ADVICE``."""
    small = resize(gray, _SIDE).astype(np.float64)
    low, high = np.percentile(small, (2, 98))
    found = [LOW_CONTRAST] if high - low < _SPREAD else []
    flanks = (small[:32, :4].mean() + small[:32, -4:].mean()) / 2  # air beside the neck and shoulders
    if flanks - small[8:56, 28:36].mean() > _DARKER * small.std() > 0:
        found.append(INVERTED)
    height, width = gray.shape
    inner = gray[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    if max((inner == gray.max()).mean(), (inner == gray.min()).mean()) > _CLIPPED:
        found.append(CLIPPED)
    return found
