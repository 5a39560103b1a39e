"""Stored values -> gray levels, by the grayscale pipeline of DICOM PS3.3 C.11 and PS3.4 N.2.

What a viewer shows is a function of the stored value alone, so the pipeline runs once over all stored values there can
be, and the image is looked up in the result.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8

from clinicclip.data.images.faults import ImageFault, unreadable
from clinicclip.data.images.levels import constant

ELEMENTS = (
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)


def render(dataset: Any, pixels: Integer[np.ndarray, "h w"], name: str) -> UInt8[np.ndarray, "h w"]:
    """The gray levels of stored values ``pixels``; padding is 0.

    Raises ImageFault when nothing is to be seen or a table, window or stored value is none that DICOM allows.
    """
    bits, signed = dataset.BitsStored, dataset.PixelRepresentation == 1
    low = -(1 << bits - 1) if signed else 0
    stored = np.arange(low, low + (1 << bits))
    index = pixels.astype(np.int32) - low
    if index.min() < 0 or index.max() >= len(stored):
        raise unreadable(name, f"some pixels need more than {bits} bits")
    padding = _padding(dataset, stored)
    shown = (np.bincount(index.ravel(), minlength=len(stored)) > 0) & ~padding
    if np.count_nonzero(shown) < 2:
        raise constant(name)
    try:
        levels = _levels(dataset, stored, shown)
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError):
        raise ImageFault("dicom_invalid_window", f"{name}: its table or window of gray values is invalid") from None
    if not np.isfinite(levels[shown]).all():
        raise ImageFault("image_not_finite", f"{name}: some pixels are not finite numbers")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 1 - levels
    table = np.rint(255 * np.where(padding, 0, levels)).astype(np.uint8)
    if np.ptp(table[shown]) == 0:
        raise constant(name)
    return table[index]


def _levels(dataset: Any, stored: Int[np.ndarray, "n"], shown: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Gray as a fraction of white for every stored value; ``shown`` are those that occur in the picture."""
    values = _modality(dataset, stored)
    if dataset.get("VOILUTSequence"):
        item = dataset.VOILUTSequence[0]
        return _look_up(dataset, item, values) / (2 ** _depth(item) - 1)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        centre, width = float(_first(dataset.WindowCenter)), float(_first(dataset.WindowWidth))
        return _window(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())
    low, high = values[shown].min(), values[shown].max()
    return np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros(len(values))


def _modality(dataset: Any, stored: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(dataset, dataset.ModalityLUTSequence[0], stored.astype(np.float64))
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return stored.astype(np.float64)
    return stored * float(slope) + float(intercept)


def _window(values: Float[np.ndarray, "n"], centre: float, width: float, form: str) -> Float[np.ndarray, "n"]:
    """PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT)."""
    if width < 1 if form == "LINEAR" else width <= 0:
        raise ValueError(f"a {form} window cannot have the width {width}")
    if form == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if form == "LINEAR":
        centre, width = centre - 0.5, width - 1
    elif form != "LINEAR_EXACT":
        raise ValueError(f"there is no window of the form {form}")
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _look_up(dataset: Any, item: Any, values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Entries of a LUT (PS3.3 C.11.1.1, C.11.2.1.1); values outside it meet its first or last entry."""
    count, first = int(item.LUTDescriptor[0]) or 2**16, _as_stored(dataset, int(item.LUTDescriptor[1]))
    entries = _entries(dataset, item, count)
    if len(entries) != count:
        raise ValueError(f"a table of {len(entries)} entries, {count} described")
    return entries[np.clip(np.floor(values) - first, 0, count - 1).astype(np.int64)]


def _entries(dataset: Any, item: Any, count: int) -> Float[np.ndarray, "n"]:
    data = item.LUTData
    if isinstance(data, bytes):  # bytes where there is one an entry, else words
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")[:count]
    entries = np.asarray(data, np.float64)
    if entries.max() >= 2 ** _depth(item):
        raise ValueError("a table's entries exceed its bits")
    return entries


def _depth(item: Any) -> int:
    bits = int(item.LUTDescriptor[2])
    if not 8 <= bits <= 16:
        raise ValueError(f"a table of {bits} bits")
    return bits


def _padding(dataset: Any, stored: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Which stored values fill up the image outside the picture (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(len(stored), bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    one, other = sorted(_as_stored(dataset, end) for end in (value, value if limit is None else limit))
    return (stored >= one) & (stored <= other)


def _as_stored(dataset: Any, value: int) -> int:
    """A number as signed as the pixels are: some files write them unsigned."""
    return value - 2**16 if dataset.PixelRepresentation == 1 and value >= 2**15 else value


def _first(value: Any) -> Any:
    return value if isinstance(value, str | float | int) else value[0]
