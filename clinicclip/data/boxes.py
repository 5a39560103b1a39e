"""A study's boxes and masks -> boxes that lie in its picture, and what was odd about them."""

from collections.abc import Iterator

import numpy as np

from clinicclip.data.images import ImageFault
from clinicclip.data.schema import Box, Study

CLIPPED, REPEATED = "box_clipped", "box_repeated"
FLAGS = (CLIPPED, REPEATED)

_ROUNDING = 1.0  # pixels by which a box may pass the border of its image unsaid


def fit(study: Study, height: int, width: int) -> tuple[list[Box], list[str]]:
    """The study's boxes and those of its masks' connected parts, in pixels of the height x width image, and ``FLAGS``.

    A box that passes the border is cut there, one that occurs again is left out; both are flagged. Raises ImageFault:
    ``image_of_another_size`` than the boxes were drawn on, ``box_outside_image``, ``mask_outside_image``.
    """
    if study.drawn_on not in (None, (height, width)):
        raise ImageFault(
            "image_of_another_size", f"{study.image_id}: the image is not of the size its boxes were drawn on"
        )
    found: list[Box] = []
    flags = {REPEATED} if len(set(study.masks)) < len(study.masks) else set()
    for box in (*study.boxes, *_drawn(study, height, width)):
        cut = _cut(box, height, width)
        if cut.width <= 0 or cut.height <= 0:
            raise ImageFault("box_outside_image", f"{study.image_id}: a box lies outside of the image")
        if max(box.width - cut.width, box.height - cut.height) > _ROUNDING:
            flags.add(CLIPPED)
        if cut in found:
            flags.add(REPEATED)
        else:
            found.append(cut)
    return found, sorted(flags)


def _cut(box: Box, height: int, width: int) -> Box:
    left, upper = max(box.x, 0.0), max(box.y, 0.0)
    right, lower = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    inside = (left, upper, right, lower) == (box.x, box.y, box.x + box.width, box.y + box.height)
    return box if inside else Box(box.finding, left, upper, right - left, lower - upper)


def _drawn(study: Study, height: int, width: int) -> Iterator[Box]:
    """The box of each part, corners touching included, of what the masks of a finding show together."""
    if not study.masks:
        return
    from scipy import ndimage  # slow to import, and few releases have masks

    for finding in dict.fromkeys(mask.finding for mask in study.masks):
        filled = np.zeros(height * width, bool)
        for start, length in (run for mask in study.masks if mask.finding == finding for run in mask.runs):
            if start + length > len(filled):
                raise ImageFault("mask_outside_image", f"{study.image_id}: a mask is larger than the image")
            filled[start : start + length] = True
        parts, _ = ndimage.label(filled.reshape(width, height).T, structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(parts):
            corner, size = (columns.start, rows.start), (columns.stop - columns.start, rows.stop - rows.start)
            yield Box(finding, *map(float, corner), *map(float, size))
