"""Training views of a radiograph: crop, rotation, brightness and contrast; never a flip (left is left).

What happens to an image is drawn first (`draw`, a function of the generator alone) and done second
(`render`).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clinicclip.errors import UserError

cv2.setNumThreads(0)  # whoever calls has threads or processes of its own

# Pixels of the image a pixel of the view up to which four neighbours are enough: of radiographs of 256 pixels at 160,
# a view was as close to one drawn at four times the resolution as by turning first and shrinking with a wide filter.
_DIRECT = 1.5


@dataclass(frozen=True)
class AugmentSpec:
    """Amounts of change; `STILL` has none of it."""

    crop_area: float  # smallest share of the image's area a random crop keeps
    rotation: float  # degrees, to either side
    brightness: float  # share of full scale, up or down
    contrast: float  # relative change of the spread around mid-gray, up or down

    def __post_init__(self) -> None:
        """Refuse amounts that no picture can take."""
        if not 0.0 < self.crop_area <= 1.0:
            raise UserError(f"data.crop_area={self.crop_area}: expected a share above 0 and up to 1")
        for name, most in (("rotation", 180.0), ("brightness", 1.0), ("contrast", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise UserError(f"data.{name}={getattr(self, name)}: expected a number from 0 to {most:g}")


STILL = AugmentSpec(crop_area=1.0, rotation=0.0, brightness=0.0, contrast=0.0)  # what evaluation sees


class View(NamedTuple):
    """One drawn view; `box` is left, upper, right, lower as fractions of the image."""

    box: tuple[float, float, float, float]
    rotation: float
    brightness: float
    contrast: float


def draw(spec: AugmentSpec, rng: np.random.Generator) -> View:
    """A view; takes seven numbers from `rng` whatever the amounts, so that one amount moves no other draw."""
    area, shape, x, y, rotation, brightness, contrast = rng.uniform(size=7).tolist()
    area = 1.0 - (1.0 - spec.crop_area) * area
    width = area ** (0.25 + 0.5 * shape)  # from wide to tall, neither side ever longer than the image's
    height = area / width
    left, upper = x * (1.0 - width), y * (1.0 - height)
    return View(
        (left, upper, left + width, upper + height),
        spec.rotation * (2.0 * rotation - 1.0),
        spec.brightness * (2.0 * brightness - 1.0),
        spec.contrast * (2.0 * contrast - 1.0),
    )


def render(gray: UInt8[np.ndarray, "h w"], view: View, size: int) -> UInt8[np.ndarray, "{size} {size}"]:
    """The drawn view of a gray image at `size` x `size` pixels: rotated, cropped and shrunk, then levels."""
    left, upper, right, lower = view.box
    height, width = gray.shape
    if view.rotation and max((right - left) * width, (lower - upper) * height) <= _DIRECT * size:
        pixels = _turn_and_crop(gray, view, size)
    elif not view.rotation and view.box == (0.0, 0.0, 1.0, 1.0) and gray.shape == (size, size):
        pixels = gray
    else:
        image = Image.fromarray(gray)
        if view.rotation:
            # Turning is the dear part: pixels beyond twice the wanted resolution are averaged away before it.
            image = image.reduce(max(1, min(image.size) // (2 * size)))
            image = image.rotate(view.rotation, Image.Resampling.BILINEAR)
        box = (left * image.width, upper * image.height, right * image.width, lower * image.height)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    levels = (np.arange(256) - 127.5) * (1.0 + view.contrast) + 127.5 + 255.0 * view.brightness
    return cv2.LUT(pixels, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _turn_and_crop(pixels: UInt8[np.ndarray, "h w"], view: View, size: int) -> UInt8[np.ndarray, "{size} {size}"]:
    """Turning about the centre and cropping as one map of pixels, each interpolated from its four neighbours.

    Closer to the ideal picture than two steps while hardly any pixels are passed over. OpenCV has the map at a
    sixth of Pillow's time.
    """
    left, upper, right, lower = view.box
    height, width = pixels.shape
    across, down = (right - left) * width / size, (lower - upper) * height / size
    middle_x, middle_y = width / 2, height / 2
    x, y = left * width - middle_x, upper * height - middle_y
    cos, sin = math.cos(math.radians(view.rotation)), math.sin(math.radians(view.rotation))
    turned = np.array([[cos * across, -sin * down], [sin * across, cos * down]])
    origin = np.array([cos * x - sin * y + middle_x, sin * x + cos * y + middle_y])
    # Positions above count from the image's corner, OpenCV's from the middle of its first pixel.
    matrix = np.column_stack([turned, origin + turned @ (0.5, 0.5) - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, (size, size), flags=flags)
