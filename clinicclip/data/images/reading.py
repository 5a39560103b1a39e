"""One file -> one picture, whatever the format."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from clinicclip.data.images import dicom, raster
from clinicclip.data.images.dicom import Facts
from clinicclip.data.images.faults import MOST_BYTES, ImageFault, unreadable


class Picture(NamedTuple):
    """Gray levels as a viewer shows them, the size they were stored in, and what the file's header says."""

    gray: UInt8[np.ndarray, "h w"]
    height: int
    width: int
    facts: Facts


def read(file: Path | bytes, side: int = 0, name: str = "image") -> Picture:
    """The picture in a JPEG, PNG or DICOM file, or in the bytes of one, called ``name`` in messages.

    With ``side``, that of the square or the shorter one of the rectangle it will be resized to, a JPEG may be decoded
    at a half, a quarter or an eighth of its size, while its shorter side stays at least twice as long: resized, no
    more than a gray level or two from the picture read in full. ``height`` and ``width`` are those of the file.

    Raises ImageFault by reason: ``image_missing``, ``image_unreadable`` (damaged, cut short, of another format),
    ``image_too_large``, ``image_constant``, ``image_not_finite``, ``image_multi_frame``, or ``dicom_...`` for objects
    that are no grayscale image. Raises UserError when the packages that read DICOM are not installed.
    """
    if isinstance(file, Path):
        name, content = file.name, _content(file)
    else:
        content = file
    if content[dicom.PREAMBLE :].startswith(dicom.MAGIC):
        gray, facts = dicom.read(content, name)
        return Picture(gray, gray.shape[0], gray.shape[1], facts)
    gray, (height, width) = raster.read(content, side, name)
    return Picture(gray, height, width, Facts())


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ImageFault("image_too_large", f"{path.name}: more than {MOST_BYTES // 2**20} MiB")
        return path.read_bytes()
    except (FileNotFoundError, ValueError):  # the latter for a zero character, which no file can have in its name
        raise ImageFault("image_missing", f"{path.name}: no such image file") from None
    except OSError as fault:
        raise unreadable(path.name, f"cannot be read ({fault.strerror})") from None
