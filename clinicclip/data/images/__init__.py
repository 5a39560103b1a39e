"""Image file -> gray levels -> stored JPEG -> square: the only place where pixels are read and resized.

``read`` takes JPEG, PNG and DICOM alike; every reader of a release and everything that embeds files goes through it.
"""

from clinicclip.data.images.dicom import age_band
from clinicclip.data.images.dicom import view as dicom_view
from clinicclip.data.images.faults import SUFFIXES, ImageFault
from clinicclip.data.images.levels import to_gray
from clinicclip.data.images.marks import mark_weights, marks
from clinicclip.data.images.reading import Facts, Picture, read
from clinicclip.data.images.sanity import FLAGS, flags
from clinicclip.data.images.squares import Source, require_ready, square, squares
from clinicclip.data.images.stored import JPEG_QUALITY, SHORTER_SIDE, decode, encode, resize, shrink

__all__ = [
    "FLAGS",
    "JPEG_QUALITY",
    "SHORTER_SIDE",
    "SUFFIXES",
    "Facts",
    "ImageFault",
    "Picture",
    "Source",
    "age_band",
    "decode",
    "dicom_view",
    "encode",
    "flags",
    "mark_weights",
    "marks",
    "read",
    "require_ready",
    "resize",
    "shrink",
    "square",
    "squares",
    "to_gray",
]
