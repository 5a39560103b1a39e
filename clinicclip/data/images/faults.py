"""What may be wrong with an image file, and the bounds that are checked before memory is taken for it."""

from clinicclip.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
MOST_PIXELS = 2**26  # 8,192 x 8,192; the largest radiographs of the public releases have a third of it
MOST_BYTES = 2**29  # of a file


class ImageFault(UserError):
    """An image that cannot be used; ``reason`` is the name it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unreadable(name: str, why: str) -> ImageFault:
    """The fault of a file that is damaged, cut short or of another format."""
    return ImageFault("image_unreadable", f"{name}: {why}; fetch it again")


def check_size(name: str, height: int, width: int) -> None:
    """Raises ImageFault when an image of this size is empty or larger than any radiograph."""
    if height * width > MOST_PIXELS:
        raise ImageFault("image_too_large", f"{name}: {width} x {height} pixels, more than {MOST_PIXELS:,}")
    if height < 1 or width < 1:
        raise unreadable(name, f"says it has {width} x {height} pixels")
