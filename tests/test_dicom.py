"""DICOM files -> gray levels: every file is made here, and compared with the standard and with pydicom's own path."""

from typing import Any

import dicoms
import judging
import numpy as np
import pytest
from dicoms import SHAPE, fault, ramp, table
from pydicom import Dataset, uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder
from pydicom.sequence import Sequence

from clinicclip.data import images


def gray(made: Dataset) -> np.ndarray:
    return images.read(dicoms.content(made)).gray


def pydicom_path(made: Dataset, pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """What pydicom shows, whose output runs from ``low`` to ``high``, as gray levels."""
    shown = apply_voi_lut(apply_modality_lut(pixels, made), made, index=0).astype(float)
    return np.rint((shown - low) / (high - low) * 255).astype(np.uint8)


# Bit depth, sign, photometric interpretation


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_without_a_window_the_values_shown_fill_the_gray_range(bits: int, signed: bool) -> None:
    pixels = ramp(bits, signed)
    low, high = float(pixels.min()), float(pixels.max())
    expected = np.rint((pixels - low) / (high - low) * 255)
    np.testing.assert_array_equal(gray(dicoms.dataset(pixels, bits)), expected)


def test_a_narrow_range_of_values_is_stretched() -> None:
    shown = gray(dicoms.dataset(ramp(8).astype(np.uint16) + 1000, 12))
    assert (shown.min(), shown.max()) == (0, 255)


@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 1800, "WindowWidth": 900}])
@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_the_inverse_of_monochrome2_after_the_window(elements: dict[str, Any], signed: bool) -> None:
    pixels = ramp(12, signed)
    one = gray(dicoms.dataset(pixels, 12, PhotometricInterpretation="MONOCHROME1", **elements))
    two = gray(dicoms.dataset(pixels, 12, **elements))
    np.testing.assert_allclose(one.astype(int), 255 - two.astype(int), atol=1)  # of rounding
    assert one[0, 0] == 255 and two[0, 0] == 0


def test_unused_high_bits_are_not_part_of_a_value() -> None:
    pixels = ramp(12)
    np.testing.assert_array_equal(gray(dicoms.dataset(pixels | 0x7000, 12)), gray(dicoms.dataset(pixels, 12)))


# Modality, window and tables, against pydicom


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_windows_of_every_form_are_those_of_pydicom(bits: int, signed: bool, function: str | None) -> None:
    pixels = ramp(bits, signed)
    low, high = float(pixels.min()), float(pixels.max())
    centre, width = low + 0.4 * (high - low), 0.3 * (high - low)
    elements = {"WindowCenter": round(centre, 2), "WindowWidth": round(width, 2), "VOILUTFunction": function}
    made = dicoms.dataset(pixels, bits, **elements)
    apart = gray(made).astype(int) - pydicom_path(made, pixels, low, high)
    assert np.abs(apart).max() <= 1 and np.count_nonzero(apart) <= 0.02 * apart.size  # halves may be rounded either way


def test_the_first_of_several_windows_is_shown() -> None:
    pixels = ramp(12)
    several = dicoms.dataset(pixels, 12, WindowCenter=[900, 3000], WindowWidth=[400, 100])
    one = dicoms.dataset(pixels, 12, WindowCenter=900, WindowWidth=400)
    np.testing.assert_array_equal(gray(several), gray(one))
    np.testing.assert_array_equal(gray(several), pydicom_path(several, pixels, 0, 4095))


def test_a_linear_window_is_the_standards_formula() -> None:
    """PS3.3 C.11.2.1.2.1 by hand: centre 2048, width 4096 maps 0 to black and 4095 to white."""
    pixels = ramp(12)
    full = gray(dicoms.dataset(pixels, 12, WindowCenter=2048, WindowWidth=4096))
    np.testing.assert_array_equal(full, np.rint(((pixels - 2047.5) / 4095 + 0.5) * 255))
    threshold = gray(dicoms.dataset(pixels, 12, WindowCenter=2048, WindowWidth=1))
    np.testing.assert_array_equal(threshold, np.where(pixels > 2047.5, 255, 0))


@pytest.mark.parametrize(("slope", "intercept"), [(2, -1000), (0.5, 0), (0.0244, -50.5)])
def test_rescale_comes_before_the_window(slope: float, intercept: float) -> None:
    pixels, low, high = ramp(12), intercept, slope * 4095 + intercept
    window = {"WindowCenter": round(0.4 * (low + high), 3), "WindowWidth": round(0.4 * (high - low), 3)}
    made = dicoms.dataset(pixels, 12, RescaleSlope=slope, RescaleIntercept=intercept, **window)
    np.testing.assert_allclose(gray(made).astype(int), pydicom_path(made, pixels, low, high), atol=1)  # of halves


def test_a_negative_slope_shows_great_stored_values_dark() -> None:
    made = dicoms.dataset(ramp(12), 12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096)
    shown = gray(made)
    assert (shown[0, 0], shown[-1, -1]) == (255, 0)
    assert (np.diff(shown.ravel().astype(int)) <= 0).all()


@pytest.mark.parametrize("signed", [False, True])
def test_a_modality_table_comes_before_the_window(signed: bool) -> None:
    pixels = ramp(10, signed)
    first = int(pixels.min())
    entries = (np.arange(1024) ** 2 / 1024).astype(np.uint16)
    made = dicoms.dataset(pixels, 10, ModalityLUTSequence=table(entries, first, 16, signed))
    made.WindowCenter, made.WindowWidth = 500, 700
    np.testing.assert_array_equal(gray(made), pydicom_path(made, pixels, 0, 65535))


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float")  # pydicom's, of values that are whole here
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 1, "RescaleIntercept": -500}])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_voi_table_beats_a_window_and_holds_at_its_ends(
    bits: int, signed: bool, rescale: dict[str, int], photometric: str
) -> None:
    pixels, first = ramp(12, signed), -900 if signed else 700
    entries, most = np.linspace(0, 1, 2000) ** 0.5 * (2**bits - 1), 2**bits - 1
    lut = table(entries, first, bits, signed)
    elements = {"WindowCenter": 1, "WindowWidth": 1, "VOILUTSequence": lut, "PhotometricInterpretation": photometric}
    made = dicoms.dataset(pixels, 12, **elements, **rescale)
    inverted, values = photometric == "MONOCHROME1", pixels.astype(int) + rescale.get("RescaleIntercept", 0)
    shown = gray(made).astype(int)
    black, white = (most, 0) if inverted else (0, most)
    np.testing.assert_array_equal(shown, pydicom_path(made, pixels, black, white))
    ends = [255, 0] if inverted else [0, 255]
    assert [set(shown[values < first]), set(shown[values > first + 2000])] == [{ends[0]}, {ends[1]}]


def test_the_first_of_several_tables_is_shown() -> None:
    pixels = ramp(12)
    rising, falling = np.arange(4096), np.arange(4096)[::-1]
    both = Sequence([*table(rising, 0, 12), *table(falling, 0, 12)])
    np.testing.assert_array_equal(gray(dicoms.dataset(pixels, 12, VOILUTSequence=both)), np.rint(pixels / 4095 * 255))


def test_an_eight_bit_table_holds_at_its_ends_for_wide_values() -> None:
    entries = np.arange(256)[::-1]
    shown = gray(dicoms.dataset(ramp(12), 12, VOILUTSequence=table(entries, 100, 8)))
    assert set(shown[ramp(12) <= 100]) == {255} and set(shown[ramp(12) >= 355]) == {0}


def test_tables_are_read_as_words_or_as_numbers() -> None:
    pixels, entries = ramp(12), np.arange(4096)[::-1]
    words = table(entries, 0, 12)
    numbers = Dataset()
    numbers.add_new("LUTDescriptor", "US", [4096, 0, 12])
    numbers.add_new("LUTData", "US", entries.tolist())
    np.testing.assert_array_equal(
        gray(dicoms.dataset(pixels, 12, VOILUTSequence=words)),
        gray(dicoms.dataset(pixels, 12, VOILUTSequence=Sequence([numbers]))),
    )


# Padding


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_black_and_does_not_stretch_the_picture(photometric: str, signed: bool) -> None:
    pixels = ramp(10, signed).astype(np.int16 if signed else np.uint16)
    pixels[:5] = padding = -2048 if signed else 4095
    made = dicoms.dataset(pixels, 12, PhotometricInterpretation=photometric)
    made.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    shown = gray(made)
    assert (shown[:5] == 0).all() and (shown[5:].min(), shown[5:].max()) == (0, 255)


def test_a_range_of_padding_values_is_all_padding() -> None:
    pixels = ramp(12)
    made = dicoms.dataset(pixels, 12)
    made.add_new("PixelPaddingValue", "US", 0)
    made.add_new("PixelPaddingRangeLimit", "US", 1000)
    shown = gray(made)
    assert (shown[pixels <= 1000] == 0).all() and shown[pixels > 1000].max() == 255


def test_a_signed_padding_value_may_be_written_unsigned() -> None:
    pixels = ramp(10, signed=True)
    pixels[:5] = -2000
    made = dicoms.dataset(pixels, 16)
    made.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    assert (gray(made)[5:].min(), gray(made)[5:].max()) == (0, 255)


def test_nothing_but_padding_is_no_picture() -> None:
    made = dicoms.dataset(np.full(SHAPE, 7, np.uint16), 12)
    made.add_new("PixelPaddingValue", "US", 7)
    assert fault(dicoms.content(made)) == "image_constant"


# Compression

CASES = [(name, bits) for name, (_, _, tested, _) in dicoms.SYNTAXES.items() for bits in tested]


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_compressed_files_show_what_the_plain_file_does(name: str, bits: int) -> None:
    syntax, lossless, _, encode = dicoms.SYNTAXES[name]
    pixels = ramp(bits)
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    plain = gray(dicoms.dataset(pixels, bits, **window))
    made = dicoms.compress(dicoms.dataset(pixels, bits, **window), syntax, encode(pixels, bits))
    shown = gray(made)
    decoded = get_decoder(syntax).as_array(made)[0]
    apart = shown.astype(int) - pydicom_path(made, decoded, 0, 2**bits - 1)
    assert np.abs(apart).max() <= (0 if lossless else 1)  # decoders of a lossy stream may round differently
    assert np.abs(shown.astype(int) - plain).max() <= (0 if lossless else 3)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", ["jpeg_lossless", "jpeg_lossless_sv1", "jpeg_ls", "jpeg_2000_lossless"])
def test_signed_values_survive_a_stream_that_calls_itself_unsigned(name: str, bits: int) -> None:
    syntax, _, _, encode = dicoms.SYNTAXES[name]
    pixels = ramp(bits, signed=True)
    raw = (pixels.astype(np.int64) & (2**bits - 1)).astype(f"u{pixels.itemsize}")
    made = dicoms.compress(dicoms.dataset(pixels, bits), syntax, encode(raw, bits))
    np.testing.assert_array_equal(gray(made), gray(dicoms.dataset(pixels, bits)))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
def test_pydicoms_own_compression_changes_nothing(syntax: str, bits: int, signed: bool) -> None:
    pixels = ramp(bits, signed)
    plain = gray(dicoms.dataset(pixels, bits))
    made = dicoms.dataset(pixels, bits)
    made.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(gray(made), plain)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_other_plain_syntaxes_are_read(syntax: str) -> None:
    pixels = ramp(12)
    made = dicoms.dataset(pixels.astype(">u2") if syntax == uid.ExplicitVRBigEndian else pixels, 12)
    made.file_meta.TransferSyntaxUID = syntax
    made["PixelData"].VR = "OW"
    np.testing.assert_array_equal(gray(made), gray(dicoms.dataset(pixels, 12)))


@pytest.mark.parametrize("kind", judging.INSIDE)
@pytest.mark.parametrize(
    ("name", "bits"),
    [("jpeg_baseline", 8), *((name, bits) for name, bits in CASES if name.startswith("jpeg_lossless"))],
)
def test_a_jpeg_damaged_inside_is_refused(name: str, bits: int, kind: str) -> None:
    syntax, _, _, encode = dicoms.SYNTAXES[name]
    noise = np.random.default_rng(0).normal(0, 2**bits / 50, SHAPE)
    pixels = (ramp(bits) / 2 + 2 ** (bits - 2) + noise).astype(ramp(bits).dtype)
    stream = encode(pixels, bits)
    assert gray(dicoms.compress(dicoms.dataset(pixels, bits), syntax, stream)).shape == SHAPE
    damaged = dicoms.compress(dicoms.dataset(pixels, bits), syntax, judging.spoilt(stream, judging.INSIDE[kind]))
    assert fault(dicoms.content(damaged)) == "image_unreadable"
