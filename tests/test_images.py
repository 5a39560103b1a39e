"""Image files -> gray levels -> stored bytes -> squares."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinicclip.data import images
from clinicclip.data.images import ImageFault


def gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 3 + columns * 2) % 200 + 20).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def reason(path: Path) -> str:
    with pytest.raises(ImageFault) as caught:
        images.read_gray(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return caught.value.reason


def test_eight_bit_png_is_read_as_it_is(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    np.testing.assert_array_equal(images.read_gray(save(tmp_path / "a.png", gray)), gray)


def test_colour_and_transparency_become_the_gray_they_show(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    colour = save(tmp_path / "rgb.png", np.stack([gray] * 3, -1))
    clear = save(tmp_path / "rgba.png", np.stack([gray] * 3 + [np.full_like(gray, 255)], -1))
    np.testing.assert_array_equal(images.read_gray(colour), gray)
    np.testing.assert_array_equal(images.read_gray(clear), gray)


def test_twelve_bits_in_a_sixteen_bit_png_fill_the_gray_range_in_order(tmp_path: Path) -> None:
    levels = (np.arange(40 * 56).reshape(40, 56) + 1000).astype(np.uint16)
    gray = images.read_gray(save(tmp_path / "wide.png", levels))
    assert (gray.min(), gray.max()) == (0, 255)
    assert (np.diff(gray.ravel().astype(int)) >= 0).all()


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.jpg", gradient(80, 80))
    path.write_bytes(path.read_bytes()[:-400])
    assert reason(path) == "image_unreadable"


def test_a_truncated_png_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (80, 80)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    assert reason(path) == "image_unreadable"


@pytest.mark.parametrize("content", [b"", b"not an image", b"GIF89a" + bytes(40)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert reason(path) == "image_unreadable"


def test_an_absent_file_is_named_missing(tmp_path: Path) -> None:
    assert reason(tmp_path / "nowhere.png") == "image_missing"


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    assert reason(save(tmp_path / "blank.png", np.full((40, 40), 7, np.uint8))) == "image_constant"


def test_pixels_that_are_not_finite_are_refused() -> None:
    pixels = gradient(8, 8).astype(np.float32)
    pixels[3, 4] = np.nan
    with pytest.raises(ImageFault) as caught:
        images.to_gray(pixels, "scan")
    assert caught.value.reason == "image_not_finite"


@pytest.mark.parametrize(
    ("shape", "stored"), [((120, 90), (85, 64)), ((90, 120), (64, 85)), ((50, 70), (50, 70)), ((64, 64), (64, 64))]
)
def test_the_shorter_side_shrinks_and_never_grows(shape: tuple[int, int], stored: tuple[int, int]) -> None:
    assert images.decode(images.encode(gradient(*shape), 64)).shape == stored


def test_a_very_long_image_keeps_a_line_of_pixels() -> None:
    assert images.decode(images.encode(gradient(3, 4000), 2)).shape == (2, 2667)


def test_stored_jpeg_is_gray_and_close_to_the_image() -> None:
    rows, columns = np.mgrid[:64, :64]
    gray = (rows + 2 * columns).astype(np.uint8)
    decoded = images.decode(images.encode(gray))
    assert np.abs(decoded.astype(int) - gray).max() <= 3


def test_encoding_is_a_function_of_the_pixels() -> None:
    assert images.encode(gradient(80, 80), 64) == images.encode(gradient(80, 80), 64)


def test_resize_squashes_with_antialiasing() -> None:
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, ::2] = 255
    small = images.resize(stripes, 16)
    assert small.shape == (16, 16)
    assert np.abs(small.astype(int) - 127).max() <= 12  # without antialiasing: all 0 or all 255


def test_resize_to_the_same_size_changes_nothing() -> None:
    gray = gradient(32, 32)
    np.testing.assert_array_equal(images.resize(gray, 32), gray)
