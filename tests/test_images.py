"""Image files -> gray levels -> stored bytes -> squares."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import judging
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
        images.read(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    return caught.value.reason


def test_eight_bit_png_is_read_as_it_is(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    np.testing.assert_array_equal(images.read(save(tmp_path / "a.png", gray)).gray, gray)


def test_colour_and_transparency_become_the_gray_they_show(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    colour = save(tmp_path / "rgb.png", np.stack([gray] * 3, -1))
    clear = save(tmp_path / "rgba.png", np.stack([gray] * 3 + [np.full_like(gray, 255)], -1))
    np.testing.assert_array_equal(images.read(colour).gray, gray)
    np.testing.assert_array_equal(images.read(clear).gray, gray)


def test_what_is_transparent_is_shown_on_black(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    hidden = np.full_like(gray, 255)
    hidden[:, :28] = 0
    rgba = images.read(save(tmp_path / "rgba.png", np.stack([gray, gray, gray, hidden], -1))).gray
    la = Image.fromarray(np.stack([gray, hidden], -1), "LA")
    la.save(tmp_path / "la.png")
    for shown in (rgba, images.read(tmp_path / "la.png").gray):
        assert (shown[:, :28] == 0).all()
        np.testing.assert_array_equal(shown[:, 28:], gray[:, 28:])


def test_palettes_bits_and_inks_become_the_gray_they_show(tmp_path: Path) -> None:
    gray = gradient(40, 56)
    palette = Image.fromarray(gray)
    palette.putpalette([255 - level for level in range(256) for _ in "RGB"])
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(images.read(tmp_path / "palette.png").gray, 255 - gray)
    Image.fromarray(gray > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(images.read(tmp_path / "bits.png").gray, np.where(gray > 100, 255, 0))
    Image.fromarray(np.stack([gray] * 3, -1)).convert("CMYK").save(tmp_path / "inks.jpg", quality=100)
    assert np.abs(images.read(tmp_path / "inks.jpg").gray.astype(int) - gray).max() <= 4


def test_bytes_are_read_as_the_file_they_came_from(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", gradient(40, 56))
    from_file, from_bytes = images.read(path), images.read(path.read_bytes())
    np.testing.assert_array_equal(from_file.gray, from_bytes.gray)
    assert from_file[1:] == from_bytes[1:] == (40, 56, images.Facts())


def radiograph(height: int, width: int) -> np.ndarray:
    """Smooth shading with fine noise, as on film."""
    rows, columns = np.mgrid[:height, :width]
    shade = 120 + 70 * np.sin(rows / height * 5) * np.cos(columns / width * 7)
    return np.clip(shade + np.random.default_rng(0).normal(0, 6, (height, width)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "side", "decoded"),
    [
        ((1000, 1200), 62, (125, 150)),
        ((1000, 1200), 63, (250, 300)),
        ((1001, 1200), 125, (251, 300)),
        ((1000, 1200), 126, (500, 600)),
        ((1000, 1200), 251, (1000, 1200)),
        ((1000, 1200), 0, (1000, 1200)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_scale_of_twice_the_wanted_side(
    tmp_path: Path, shape: tuple[int, int], side: int, decoded: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.jpg", radiograph(*shape))
    picture = images.read(path, side)
    assert picture.gray.shape == decoded
    with Image.open(path) as file:
        file.draft("L", (decoded[1] - 1, decoded[0] - 1))
        np.testing.assert_array_equal(picture.gray, np.asarray(file))  # Pillow's pixels, to the last bit
    assert (picture.height, picture.width) == shape
    assert side == 0 or min(decoded) >= 2 * side


@pytest.mark.parametrize("shape", [(1000, 1200), (1003, 1210), (1214, 1009)])
def test_reduced_decoding_changes_a_resized_image_by_a_gray_level_or_two(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.jpg", radiograph(*shape), quality=95)
    whole, reduced = images.read(path), images.read(path, 64)
    assert reduced.gray.shape < whole.gray.shape
    apart = images.resize(whole.gray, 64).astype(int) - images.resize(reduced.gray, 64, shape)
    assert np.abs(apart).max() <= 2
    stored = [images.decode(images.encode(images.shrink(one.gray, 64, shape))).astype(int) for one in (whole, reduced)]
    assert stored[0].shape == stored[1].shape and np.abs(stored[0] - stored[1]).max() <= 4


def test_colour_jpegs_are_read_alike_at_every_scale(tmp_path: Path) -> None:
    gray = radiograph(300, 400)
    path = save(tmp_path / "a.jpg", np.stack([gray] * 3, -1), quality=95)
    assert np.abs(images.read(path).gray.astype(int) - gray).max() <= 12
    assert images.read(path, 75).gray.shape == (150, 200)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(gradient(40, 40) + i) for i in range(2)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    assert reason(tmp_path / "moving.png") == "image_multi_frame"


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_beyond_all_radiographs_is_refused_before_it_is_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb.{suffix}"
    Image.new("L", (20_000, 4_000)).save(path)
    tracemalloc.start()
    assert reason(path) == "image_too_large"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_file_beyond_all_radiographs_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(2**30)
    assert reason(path) == "image_too_large"


@pytest.mark.parametrize("kind", judging.INSIDE)
@pytest.mark.parametrize("options", [{"format": "JPEG"}, {"format": "JPEG", "progressive": True}, {"format": "PNG"}])
def test_pixels_damaged_inside_are_refused(kind: str, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.fromarray(radiograph(200, 200)).save(file, **options)
    whole = file.getvalue()
    assert images.read(whole).gray.shape == (200, 200)
    with pytest.raises(ImageFault) as caught:
        images.read(judging.spoilt(whole, judging.INSIDE[kind]))
    assert caught.value.reason == "image_unreadable"


def test_padding_before_and_after_the_end_of_a_jpeg_is_no_damage() -> None:
    whole = images.encode(radiograph(200, 200))
    for padded in (whole + b"\0" * 600, whole[:-2] + b"\0\0" + whole[-2:], whole[:-2] + b"\xff\xff" + whole[-2:]):
        np.testing.assert_array_equal(images.read(padded).gray, images.decode(whole))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    assert reason(tmp_path / "a.png") == "image_unreadable"


def chest(side: int = 160) -> np.ndarray:
    """Dark surroundings, a body with two dark lungs, a bright spine and a bright abdomen."""
    rows, columns = np.mgrid[:side, :side] / side
    body = 170.0 * (np.abs(columns - 0.5) < 0.45) * (rows > 0.08)
    for centre in (0.3, 0.7):
        body[((columns - centre) / 0.14) ** 2 + ((rows - 0.45) / 0.3) ** 2 < 1] = 60
    body[(rows > 0.75) & (body > 0)] = 220
    return body.astype(np.uint8)


def seen(gray: np.ndarray) -> list[str]:
    return images.flags(np.ascontiguousarray(gray), images.Facts())


def test_what_is_odd_about_a_radiograph_is_said() -> None:
    upright = chest()
    assert seen(upright) == []
    assert seen(255 - upright) == ["looks_inverted"]
    assert seen(upright[::-1]) == ["looks_upside_down"]
    assert "looks_sideways" in seen(np.rot90(upright)) and "looks_sideways" in seen(np.rot90(upright, 3))
    assert seen(upright // 6) == ["low_contrast"]
    assert images.flags(upright, images.Facts(burned_in=True)) == ["burned_in_annotation"]
    assert set(images.FLAGS) >= {"burned_in_annotation", "low_contrast", "looks_inverted", "looks_sideways"}


def test_twelve_bits_in_a_sixteen_bit_png_fill_the_gray_range_in_order(tmp_path: Path) -> None:
    levels = (np.arange(40 * 56).reshape(40, 56) + 1000).astype(np.uint16)
    gray = images.read(save(tmp_path / "wide.png", levels)).gray
    assert (gray.min(), gray.max()) == (0, 255)
    assert (np.diff(gray.ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize(("name", "filling"), [("cut.jpg", 0), ("filled.jpg", 1000), ("cut.png", 0)])
def test_a_file_cut_short_is_refused(name: str, filling: int, tmp_path: Path) -> None:
    path = save(tmp_path / name, radiograph(200, 200))
    path.write_bytes(path.read_bytes()[:-1000] + bytes(filling))
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
    assert images.shrink(gradient(*shape), 64).shape == stored


def test_a_very_long_image_keeps_a_line_of_pixels() -> None:
    assert images.shrink(gradient(3, 4000), 2).shape == (2, 2667)


def test_stored_jpeg_is_gray_and_close_to_the_image() -> None:
    rows, columns = np.mgrid[:64, :64]
    gray = (rows + 2 * columns).astype(np.uint8)
    decoded = images.decode(images.encode(gray))
    assert np.abs(decoded.astype(int) - gray).max() <= 3


def test_encoding_is_a_function_of_the_pixels() -> None:
    assert images.encode(gradient(80, 80)) == images.encode(gradient(80, 80))


def test_resize_squashes_with_antialiasing() -> None:
    stripes = np.zeros((64, 128), np.uint8)
    stripes[:, ::2] = 255
    small = images.resize(stripes, 16)
    assert small.shape == (16, 16)
    assert np.abs(small.astype(int) - 127).max() <= 12  # without antialiasing: all 0 or all 255


def test_resize_to_the_same_size_changes_nothing() -> None:
    gray = gradient(32, 32)
    np.testing.assert_array_equal(images.resize(gray, 32), gray)
