"""Does a picture look as a frontal chest radiograph should? Said of it, never mended.

Comparisons of mean gray at 64 x 64 pixels. Of 2,420 frontal images of Open-I 0.7 % look inverted, 0.6 % sideways (some
are) and 1.3 % upside down; of the same images inverted 99 %, turned by a right angle 96 %, turned upside down 92 %.
"""

import numpy as np
from jaxtyping import Float, UInt8

from clinicclip.data.images.dicom import Facts
from clinicclip.data.images.stored import resize

INVERTED, SIDEWAYS, UPSIDE_DOWN = "looks_inverted", "looks_sideways", "looks_upside_down"
LOW_CONTRAST, BURNED_IN, PERSONAL = "low_contrast", "burned_in_annotation", "personal_header"
FLAGS = (INVERTED, SIDEWAYS, UPSIDE_DOWN, LOW_CONTRAST, BURNED_IN, PERSONAL)

_SIDE = 64
_DARKER = 0.05  # of the spread of gray: how much darker than the flanks a spine must be to look inverted
_SYMMETRY = 0.15  # by which the left-right correlation may stay below the top-bottom one
_SPREAD = 64  # gray levels between the 2nd and 98th percentile, at least


def flags(gray: UInt8[np.ndarray, "h w"], facts: Facts) -> list[str]:
    """What is odd about a frontal chest radiograph, and what its header warns of, out of ``FLAGS``."""
    small = resize(gray, _SIDE).astype(np.float64)
    found = [*[BURNED_IN] * facts.burned_in, *[PERSONAL] * facts.personal]
    low, high = np.percentile(small, (2, 98))
    if high - low < _SPREAD:
        found.append(LOW_CONTRAST)
    spread = small.std()
    if spread == 0:
        return found
    flanks = (small[:32, :4].mean() + small[:32, -4:].mean()) / 2
    if flanks - small[8:56, 28:36].mean() > _DARKER * spread:  # outside of the body is brighter than the spine
        found.append(INVERTED)
        small = 255 - small
    if _correlation(small, small[:, ::-1]) < _correlation(small, small[::-1]) - _SYMMETRY:
        found.append(SIDEWAYS)
    elif small[:12, 20:44].mean() > small[-12:, 20:44].mean():  # the neck is brighter than the abdomen
        found.append(UPSIDE_DOWN)
    return found


def _correlation(one: Float[np.ndarray, "s s"], other: Float[np.ndarray, "s s"]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
