"""JPEG and PNG by Pillow: gray levels, at a reduced scale where no more is needed."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, JpegImagePlugin, PngImagePlugin

from clinicclip.data.images import codestream, levels
from clinicclip.data.images.faults import ImageFault, check_size, unreadable

OVERSAMPLING = 2  # sides of a JPEG decoded at reduced scale over those it is resized to, at least
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_END = b"IEND\xae\x42\x60\x82"  # the last chunk with its checksum
_TRAILER = 2**16  # bytes that may stand behind it
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def read(content: bytes, side: int, name: str) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]]:
    """The gray levels, and height and width before any reduction to ``side`` (0 = none).

    Colours become their luminance, and what is transparent is shown on black. Raises ImageFault.
    """
    # The plugins themselves, not `Image.open`: it warns of sizes that are checked here.
    try:
        if content.startswith(_JPEG):
            return _read_jpeg(content, side, name)
        if content.startswith(_PNG):
            if _PNG_END not in content[-_TRAILER:]:
                raise unreadable(name, "the PNG file ends before its image does")
            with PngImagePlugin.PngImageFile(io.BytesIO(content)) as image:
                return shown(image, name), (image.height, image.width)
    except (OSError, SyntaxError, ValueError, EOFError) as fault:
        raise unreadable(name, f"not a whole PNG or JPEG file ({fault})") from None
    raise unreadable(name, "not a JPEG, PNG or DICOM file")


def _read_jpeg(content: bytes, side: int, name: str) -> tuple[UInt8[np.ndarray, "h w"], tuple[int, int]]:
    if not codestream.is_whole_jpeg(content):
        raise unreadable(name, "the JPEG file ends before its image does")
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as image:
        width, height = image.size
        check_size(name, height, width)
        wanted = OVERSAMPLING * side
        image.draft("L", (wanted, wanted) if side else image.size)
        image.decodermaxblock = len(content)  # fed at once: it lies in memory
        return levels.to_gray(np.asarray(image.convert("L")), name), (height, width)


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
