"""DICOM files made for the tests: one radiograph each, of any pixel form and compression."""

import io
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from clinicclip.data import images
from clinicclip.data.images import ImageFault

SHAPE = (48, 66)

# What no record, message or log may ever hold.
SECRETS = {
    "PatientName": "Planted^Name",
    "PatientID": "PLANTED-ID-7",
    "PatientBirthDate": "19570309",
    "StudyDate": "20210704",
    "InstitutionName": "Planted Hospital",
    "AccessionNumber": "PLANTED-77",
}


def ramp(bits: int, signed: bool = False) -> np.ndarray:
    """Stored values over the whole range of so many bits, least and greatest included."""
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.linspace(low, low + 2**bits - 1, SHAPE[0] * SHAPE[1]).round().reshape(SHAPE)
    kind = "i" if signed else "u"
    return values.astype(f"{kind}{1 if bits <= 8 else 2}")


def table(entries: np.ndarray, first: int, bits: int, signed: bool = False) -> Sequence:
    """A modality or VOI table of one item whose first entry is for the value ``first``."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


def fault(content: bytes) -> str:
    """The reason of the fault that reading ``content`` raises, told without what names a person."""
    with pytest.raises(ImageFault) as caught:
        images.read(content, name="scan.dcm")
    message = str(caught.value)
    assert message.startswith("scan.dcm: ") and "\n" not in message
    assert not [secret for secret in SECRETS.values() if secret in message]
    return caught.value.reason


def dataset(pixels: np.ndarray, bits: int = 0, **elements: Any) -> Dataset:
    """A digital radiograph with these stored values; ``elements`` are set, or left out where None."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.4"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in (SECRETS | elements).items():
        if value is not None:
            setattr(made, name, value)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OW" if made.BitsAllocated > 8 else "OB"
    return made


def content(made: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compress(made: Dataset, syntax: str, frame: bytes) -> Dataset:
    """The data set with its pixels replaced by a compressed frame."""
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([frame])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def _baseline(pixels: np.ndarray, bits: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98)
    return file.getvalue()


# {name: (transfer syntax, lossless, bits that are tested, encoder of stored values of so many bits)}
SYNTAXES: dict[str, tuple[str, bool, tuple[int, ...], Callable[[np.ndarray, int], bytes]]] = {
    "jpeg_baseline": (uid.JPEGBaseline8Bit, False, (8,), _baseline),
    "jpeg_extended": (
        *(uid.JPEGExtended12Bit, False, (12,)),
        lambda pixels, bits: imagecodecs.jpeg_encode(pixels, level=98, bitspersample=bits),
    ),
    "jpeg_lossless": (
        *(uid.JPEGLossless, True, (8, 10, 12, 16)),
        lambda pixels, bits: imagecodecs.jpeg_encode(pixels, lossless=True, predictor=4, bitspersample=bits),
    ),
    "jpeg_lossless_sv1": (
        *(uid.JPEGLosslessSV1, True, (8, 10, 12, 16)),
        lambda pixels, bits: imagecodecs.ljpeg_encode(pixels, bitspersample=bits),
    ),
    "jpeg_ls": (uid.JPEGLSLossless, True, (8, 10, 12, 16), lambda pixels, bits: imagecodecs.jpegls_encode(pixels)),
    "jpeg_ls_near": (uid.JPEGLSNearLossless, False, (8,), lambda pixels, bits: imagecodecs.jpegls_encode(pixels, 2)),
    "jpeg_2000": (
        *(uid.JPEG2000, False, (8, 10, 12)),
        lambda pixels, bits: imagecodecs.jpeg2k_encode(pixels, level=60, codecformat="j2k", bitspersample=bits),
    ),
    "jpeg_2000_lossless": (
        *(uid.JPEG2000Lossless, True, (8, 10, 12, 16)),
        lambda pixels, bits: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=bits),
    ),
    "htj2k_lossless": (
        *(uid.HTJ2KLossless, True, (8, 10, 16)),
        lambda pixels, bits: imagecodecs.htj2k_encode(pixels, reversible=True),
    ),
}
