"""JPEG of eight bits by libjpeg-turbo: gray levels, at a reduced scale where no more is needed.

Where a stream is damaged inside, libjpeg warns and makes up what it lacks. Pillow, OpenCV and imagecodecs keep the
warning to themselves; simplejpeg hands it on, and here it is an error. Of what stands behind the end, or pads the last
scan by a byte or two, libjpeg does not warn.
"""

import numpy as np
import simplejpeg
from jaxtyping import UInt8

_FACTORS = (8, 4, 2)  # of libjpeg's reduced scales, those Pillow has, too: a DCT of 1, 2 or 4 points a side


def size(stream: bytes) -> tuple[int, int]:
    """Height and width, of the header alone. Raises ValueError where it is damaged or of another kind."""
    height, width, *_ = simplejpeg.decode_jpeg_header(stream)
    return height, width


def decode(stream: bytes, least: int = 0) -> UInt8[np.ndarray, "h w"]:
    """The gray levels; of colours, their luminance.

    The sides are divided by the greatest of 8, 4 and 2 that leaves the shorter one ``least`` pixels (0 = by none).
    Raises ValueError, with libjpeg's words, for whatever libjpeg warns of.
    """
    shape = size(stream)
    factor = next((factor for factor in _FACTORS if min(shape) >= factor * least > 0), 1)
    height, width = (-(-side // factor) for side in shape)
    return simplejpeg.decode_jpeg(stream, "GRAY", min_height=height, min_width=width)[..., 0]
