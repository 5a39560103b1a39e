"""JPEG and PNG files: gray levels, of JPEG at a reduced scale where no more is needed."""

import io
import zlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from clinicclip.data.images import jpeg, levels
from clinicclip.data.images.faults import ImageFault, check_size, unreadable

OVERSAMPLING = 2  # sides of a JPEG decoded at reduced scale over those it is resized to, at least
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_END = b"IEND"  # name of the last chunk
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read(content: bytes, side: int, name: str) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]]:
    """The gray levels, and height and width before any reduction to ``side`` (0 = none).

    Colours become their luminance, and what is transparent is shown on black. Raises ImageFault.
    """
    try:
        if content.startswith(_JPEG):
            return _read_jpeg(content, side, name)
        if content.startswith(_PNG):
            if not _is_whole_png(memoryview(content)):
                raise unreadable(name, "the PNG file is cut short, or damaged inside")
            # The plugin itself, not `Image.open`: it warns of sizes that are checked here.
            with PngImagePlugin.PngImageFile(io.BytesIO(content)) as image:
                return shown(image, name), (image.height, image.width)
    except (OSError, SyntaxError, ValueError, EOFError) as fault:
        raise unreadable(name, f"not a whole PNG or JPEG file ({fault})") from None
    raise unreadable(name, "not a JPEG, PNG or DICOM file")


def _read_jpeg(content: bytes, side: int, name: str) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]]:
    shape = jpeg.size(content)
    check_size(name, *shape)
    return levels.to_gray(jpeg.decode(content, OVERSAMPLING * side), name), shape


def _is_whole_png(content: memoryview) -> bool:
    """Whether all chunks agree with their checksums; Pillow looks at those before the pixels alone."""
    at = len(_PNG)
    while at + 12 <= len(content):  # length, name and checksum of a chunk
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            return False
        if content[at + 4 : at + 8] == _PNG_END:
            return True
        at = end + 4
    return False


def shown(image: Image.Image, name: str) -> UInt8[np.ndarray, "h w"]:
    """The gray levels of a Pillow image, as of a file. Raises ImageFault."""
    check_size(name, image.height, image.width)
    if getattr(image, "is_animated", False):
        raise ImageFault("image_multi_frame", f"{name}: an animation; expected one radiograph a file")
    image.load()
    if image.mode in _WIDE_MODES:
        pixels = np.asarray(image)
    elif image.has_transparency_data:
        on_black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        on_black.alpha_composite(image.convert("RGBA"))
        pixels = np.asarray(on_black.convert("L"))
    else:
        pixels = np.asarray(image.convert("L"))
    return levels.to_gray(pixels, name)
