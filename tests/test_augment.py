"""Training views: within their bounds, and nothing else changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clinicclip.data import images
from clinicclip.data.augment import STILL, AugmentSpec, View, draw, render

SPEC = AugmentSpec(crop_area=0.8, rotation=5.0, brightness=0.1, contrast=0.1)


@pytest.fixture
def gray() -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 80))
    return (40 + 100 * across + 60 * down).astype(np.uint8)


@given(st.integers(0, 2**32), st.floats(0.3, 1.0))
def test_views_stay_within_the_image_and_the_amounts(seed: int, crop_area: float) -> None:
    spec = AugmentSpec(crop_area, 5.0, 0.1, 0.2)
    view = draw(spec, np.random.default_rng(seed))
    left, upper, right, lower = view.box
    assert 0 <= left < right <= 1 + 1e-12 and 0 <= upper < lower <= 1 + 1e-12
    assert crop_area - 1e-9 <= (right - left) * (lower - upper) <= 1 + 1e-9
    assert abs(view.rotation) <= 5 and abs(view.brightness) <= 0.1 and abs(view.contrast) <= 0.2


def test_one_amount_moves_no_other_draw() -> None:
    full = draw(SPEC, np.random.default_rng(3))
    uncropped = draw(AugmentSpec(1.0, 5.0, 0.1, 0.1), np.random.default_rng(3))
    assert uncropped[1:] == full[1:] and uncropped.box == (0, 0, 1, 1) != full.box


def test_the_still_view_is_what_evaluation_sees(gray: np.ndarray) -> None:
    view = draw(STILL, np.random.default_rng(0))
    for size in (32, 64):
        assert np.array_equal(render(gray, view, size), images.resize(gray, size))


def test_no_view_is_mirrored(gray: np.ndarray) -> None:
    for seed in range(50):
        view = draw(SPEC, np.random.default_rng(seed))._replace(rotation=0.0)
        pixels = render(gray, view, 16).astype(int)
        assert (np.diff(pixels.mean(0)) > 0).all() and (np.diff(pixels.mean(1)) > 0).all()


def test_rotation_turns_about_the_centre_and_keeps_the_size(gray: np.ndarray) -> None:
    dot = np.zeros((65, 65), np.uint8)
    dot[32, 52] = 255
    turned = render(dot, View((0, 0, 1, 1), 90.0, 0.0, 0.0), 65)
    assert np.unravel_index(turned.argmax(), turned.shape) == (12, 32)  # counter-clockwise


def test_brightness_and_contrast_act_on_levels_and_clip() -> None:
    flat = np.array([[0, 100], [200, 255]], np.uint8)
    brighter = render(flat, View((0, 0, 1, 1), 0.0, 0.1, 0.0), 2)
    assert brighter.tolist() == [[26, 126], [226, 255]]
    stronger = render(flat, View((0, 0, 1, 1), 0.0, 0.0, 0.1), 2)
    assert stronger.tolist() == [[0, 97], [207, 255]]


def test_large_images_are_thinned_before_turning_without_visible_change() -> None:
    smooth = np.fromfunction(lambda y, x: 128 + 100 * np.sin(x / 40) * np.cos(y / 50), (512, 512)).astype(np.uint8)
    view = View((0.1, 0.1, 0.9, 0.9), 4.0, 0.0, 0.0)
    fast, whole = render(smooth, view, 64), images.resize(render(smooth, view, 256), 64)
    assert np.abs(fast.astype(int) - whole).max() <= 2


def test_turning_and_cropping_at_once_is_close_to_doing_it_at_four_times_the_resolution() -> None:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (24, 24)).astype(np.uint8))
    image = rough.resize((96, 96), Image.Resampling.BICUBIC)
    for turn in range(5):
        view = draw(SPEC, rng)._replace(rotation=2.0 * turn - 4.0, brightness=0.0, contrast=0.0)
        large = render(np.asarray(image.resize((384, 384), Image.Resampling.LANCZOS)), view, 320)
        ideal = images.resize(large, 80)
        inside = np.s_[8:-8, 8:-8]
        error = render(np.asarray(image), view, 80)[inside].astype(int) - ideal[inside]
        assert np.abs(error).mean() < 0.05 * ideal.std()
