"""DICOM files: what a viewer shows of them, and the few facts of their headers that are kept.

Only the elements named here are read from a file at all, and of those that name a person, the length alone, so no name,
date or id is ever in memory, a message or a record. pydicom and imagecodecs are imported with the first DICOM file.
"""

import importlib
import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from clinicclip.data.images import codestream, voi
from clinicclip.data.images.faults import ImageFault, check_size, unreadable
from clinicclip.errors import UserError

PREAMBLE, MAGIC = 128, b"DICM"
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
INSTALL = "pip install 'clinicclip[dicom]'"
_FACTS = ("ViewPosition", "PatientSex", "PatientAge", "BurnedInAnnotation", "PatientIdentityRemoved")
# What a file that was de-identified has empty, or not at all. A PatientID is needed, and may be a pseudonym.
_PERSONAL = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate"),
    *("PatientAddress", "PatientTelephoneNumbers", "AccessionNumber", "InstitutionName", "InstitutionAddress"),
    *("ReferringPhysicianName", "RequestingPhysician", "PerformingPhysicianName", "OperatorsName"),
)
_WHOLE = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_ELEMENTS = (*_FACTS, *_WHOLE, "PhotometricInterpretation", "PixelData", *voi.ELEMENTS)
_NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
# A deflated file is inflated whole before a size can be checked; no radiograph is stored so.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 4096
_OLDEST = 120
_BANDS = ((18, "0-17"), (40, "18-39"), (60, "40-59"), (80, "60-79"))


class Facts(NamedTuple):
    """What a header says of an image beside its pixels; '' where it says nothing."""

    view: str = ""  # PA, AP, LL, ...
    sex: str = ""  # F, M or O
    age_band: str = ""  # years, "40-59"
    burned_in: bool = False  # the pixels hold writing that may identify someone
    personal: bool = False  # names, dates of birth or the like are filled in, and nothing says they are no one's


def read(content: bytes, name: str) -> tuple[UInt8[np.ndarray, "h w"], Facts]:
    """The gray levels a viewer shows of a DICOM file with one radiograph, and its facts.

    Modality LUT or rescale, then the first VOI LUT or window (none: the values shown, minimum to maximum), then the
    inversion of MONOCHROME1; padding is black. Raises ImageFault by reason, UserError without the packages.
    """
    _require("pydicom", "imagecodecs")
    quiet = importlib.import_module("pydicom.config").disable_value_validation
    with quiet(), warnings.catch_warnings():  # pydicom's warnings quote values of the header
        warnings.simplefilter("ignore")
        dataset = _parse(content, name)
        _check(dataset, name)
        removed = str(dataset.get("PatientIdentityRemoved")).strip().upper() == "YES"
        facts = _facts(dataset)._replace(personal=not removed and _personal(content))
        return voi.render(dataset, _decode(dataset, name), name), facts


def view(path: Path) -> str:
    """The view that the header of a DICOM file names, '' where it names none; the pixels are not read.

    Raises ImageFault for another file, UserError without the packages.
    """
    _require("pydicom")
    quiet = importlib.import_module("pydicom.config").disable_value_validation
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcmread = importlib.import_module("pydicom").dcmread
            return _facts(dcmread(path, specific_tags=["ViewPosition"], stop_before_pixels=True)).view
        except Exception as fault:  # as in _parse
            raise unreadable(path.name, f"not a whole DICOM file ({type(fault).__name__})") from None


def age_band(age: str) -> str:
    """The band of years of an age such as 045Y or 011M; '' when it is none."""
    number, unit = age.strip()[:-1], age.strip()[-1:].upper()
    if not number.isdecimal() or unit not in ("Y", "M", "W", "D"):
        return ""
    years = int(number) if unit == "Y" else 0  # months, weeks and days are written for children
    if years > _OLDEST:
        return ""
    return next((band for end, band in _BANDS if years < end), "80+")


def _parse(content: bytes, name: str) -> Any:
    if _DEFLATED in content[:_META_BYTES]:
        raise ImageFault("dicom_unsupported_syntax", f"{name}: a deflated DICOM file; store it plain")
    dcmread = importlib.import_module("pydicom").dcmread
    try:
        dataset = dcmread(io.BytesIO(content), specific_tags=list(_ELEMENTS))
        values = {keyword: dataset.get(keyword) for keyword in _ELEMENTS}  # converted at the first look
        for keyword in _WHOLE:
            if values[keyword] is not None:
                setattr(dataset, keyword, int(values[keyword]))
    except MemoryError:
        raise
    except Exception as fault:  # whatever a damaged file leads pydicom to; its message may quote the header
        raise unreadable(name, f"not a whole DICOM file ({type(fault).__name__})") from None
    return dataset


def _check(dataset: Any, name: str) -> None:
    """Raises ImageFault unless this is one grayscale image of 8 to 16 bits that fits in memory."""
    if not dataset.get("PixelData"):
        raise ImageFault("dicom_without_image", f"{name}: a DICOM object without an image")
    missing = [keyword for keyword in _NEEDED if dataset.get(keyword) is None]
    if missing or "TransferSyntaxUID" not in dataset.file_meta:
        raise unreadable(name, f"lacks {', '.join(missing) or 'TransferSyntaxUID'}")
    frames = dataset.get("NumberOfFrames") or 1
    if frames != 1:
        raise ImageFault("image_multi_frame", f"{name}: {frames} frames; expected one radiograph a file")
    if dataset.PhotometricInterpretation not in MONOCHROME or (dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageFault("dicom_not_grayscale", f"{name}: a colour image, no radiograph")
    allocated, stored, high = dataset.BitsAllocated, dataset.BitsStored, dataset.get("HighBit")
    if allocated not in (8, 16) or not 2 <= stored <= allocated or high not in (None, stored - 1):
        raise ImageFault(
            "dicom_unsupported_bits",
            f"{name}: {stored} bits stored in {allocated}; expected 2 to 16 in 8 or 16, the lowest ones",
        )
    check_size(name, dataset.Rows, dataset.Columns)


def _decode(dataset: Any, name: str) -> Integer[np.ndarray, "h w"]:
    """The stored values. Raises ImageFault."""
    syntax, shape = dataset.file_meta.TransferSyntaxUID, (dataset.Rows, dataset.Columns)
    try:
        if syntax in codestream.DECODERS:
            stream = importlib.import_module("pydicom.encaps").get_frame(dataset.PixelData, 0, number_of_frames=1)
            values = _decompress(stream, dataset, name)
        else:  # plain or RLE, which pydicom reads itself
            values = importlib.import_module("pydicom.pixels").get_decoder(syntax).as_array(dataset)[0]
    except (ImageFault, MemoryError):
        raise
    except NotImplementedError:
        raise ImageFault("dicom_unsupported_syntax", f"{name}: {syntax.name} is no still image") from None
    except Exception as fault:  # whatever a damaged stream leads the decoders to
        raise unreadable(name, f"its pixels cannot be decoded ({type(fault).__name__})") from None
    if values.shape != shape:
        raise unreadable(name, "its pixels are not of the size the header says")
    return values


def _decompress(stream: bytes, dataset: Any, name: str) -> Integer[np.ndarray, "..."]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if codestream.size(stream) != (dataset.Rows, dataset.Columns):
        raise unreadable(name, "the compressed image is not of the size the header says")
    return codestream.decode(stream, syntax, dataset.BitsStored, dataset.PixelRepresentation == 1)


def _facts(dataset: Any) -> Facts:
    def word(keyword: str) -> str:
        return str(dataset.get(keyword) or "").strip().upper()

    sex = word("PatientSex")
    return Facts(
        view=word("ViewPosition"),
        sex=sex if sex in ("F", "M", "O") else "",
        age_band=age_band(word("PatientAge")),
        burned_in=word("BurnedInAnnotation") == "YES",
    )


def _personal(content: bytes) -> bool:
    """Whether elements that name a person are filled in; their values are passed over, and never in memory."""
    dcmread = importlib.import_module("pydicom").dcmread
    found = dcmread(io.BytesIO(content), specific_tags=list(_PERSONAL), defer_size=0, stop_before_pixels=True)
    return any(getattr(element, "length", 1) for element in found.values())  # a sequence has no length, and something


def _require(*packages: str) -> None:
    try:
        for package in packages:
            importlib.import_module(package)
    except ImportError:
        raise UserError(f"DICOM files need more packages: {INSTALL}") from None
