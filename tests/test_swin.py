"""The image tower: golden outputs of transformers, window bookkeeping, and its refusals."""

import runpy
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip.errors import UserError
from clinicclip.models import swin
from clinicclip.models.clip import ClipSpec, init_params
from clinicclip.models.swin import Swin, SwinSpec

GOLDEN = Path(__file__).parent / "golden"
recipe = runpy.run_path(str(GOLDEN / "recipe.py"))
TINY = ClipSpec(SwinSpec(32, 4, 4, 8, (2,), (2,)), recipe["TEXT"], dim=8)


def tiny_weights():
    return recipe["weights"](TINY)["image"]


def run(spec, params, images, **options):
    return jax.jit(lambda p, x: Swin(spec, **options).apply({"params": p}, x))(params, jnp.asarray(images))


@pytest.mark.parametrize(("size", "limit"), [("small", 1e-5), ("padded", 1e-5), ("full", 1e-4)])
def test_outputs_equal_the_golden_ones_of_transformers(size, limit):
    spec = recipe["SIZES"][size]
    pooled, tokens = run(spec.image, recipe["weights"](spec)["image"], recipe["images"](spec))
    golden = np.load(GOLDEN / "towers.npz")
    assert np.abs(pooled - golden[f"{size}/image"]).max() <= limit
    fourth = np.asarray(tokens).reshape(2, -1, tokens.shape[-1])[:, 3]
    assert np.abs(fourth - golden[f"{size}/image_token"]).max() <= limit


def test_an_image_is_embedded_alike_in_any_batch():
    images = recipe["images"](TINY, count=3)
    whole, _ = run(TINY.image, tiny_weights(), images)
    turned, _ = run(TINY.image, tiny_weights(), images[[2, 0, 1]])
    alone, _ = run(TINY.image, tiny_weights(), images[1:2])
    np.testing.assert_allclose(turned, np.asarray(whole)[[2, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(alone, whole[1:2], atol=1e-5)


def test_rematerialised_blocks_give_the_same_gradient():
    images = jnp.asarray(recipe["images"](TINY))

    def gradient(remat):
        model = Swin(TINY.image, remat=remat)
        return jax.jit(jax.grad(lambda p: (model.apply({"params": p}, images)[0] ** 3).sum()))(tiny_weights())

    for a, b in zip(jax.tree.leaves(gradient(True)), jax.tree.leaves(gradient(False)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))


def test_bfloat16_compute_stays_near_float32_and_returns_float32():
    images = recipe["images"](TINY)
    low, _ = run(TINY.image, tiny_weights(), images, dtype="bfloat16")
    high, _ = run(TINY.image, tiny_weights(), images)
    assert low.dtype == jnp.float32
    assert np.abs(low - high).max() < 0.1 * np.abs(high).max()


@pytest.mark.parametrize("shift", [0, 2])
def test_grouping_by_window_is_undone_by_its_inverse(shift):
    x = jnp.arange(2 * 8 * 8 * 3, dtype=jnp.float32).reshape(2, 8, 8, 3)
    np.testing.assert_array_equal(swin.from_windows(swin.to_windows(x, 4, shift), 8, shift), x)


def test_shift_mask_separates_exactly_the_tokens_that_were_not_neighbours():
    side, window, shift = 8, 4, 2
    y, x = np.divmod(np.arange(side * side), side)
    original = jnp.asarray(np.stack([y, x], -1), jnp.float32).reshape(1, side, side, 2)
    place = np.asarray(swin.to_windows(original, window, shift))[0]  # [windows, n, (y, x)]
    apart = np.abs(place[:, :, None] - place[:, None]).max(-1) >= window
    np.testing.assert_array_equal(swin.shift_mask(side, window, shift) != 0, apart)


def test_relative_position_index_counts_row_then_column_distance():
    index = swin.relative_position_index(7)
    assert index[0, 0] == 6 * 13 + 6
    assert index[0, 48] == 0  # query above and left of the key: the first row of the table
    assert index[48, 0] == 168
    assert index[1, 0] == index[0, 0] + 1
    assert index[7, 0] == index[0, 0] + 13


def test_drop_path_rates_rise_linearly_over_all_blocks():
    spec = SwinSpec()
    rates = [spec.drop_path_rate(s, b) for s, depth in enumerate(spec.depths) for b in range(depth)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.1, 12))


def test_only_training_draws_and_dropped_blocks_pass_the_residual():
    spec = SwinSpec(32, 4, 4, 8, (2,), (1,), drop_path=1.0 - 1e-7)
    params = init_params(ClipSpec(spec, recipe["TEXT"]), 0)["image"]
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, 32, 32, 3)), jnp.float32)

    @partial(jax.jit, static_argnums=1)
    def apply(params, train, key):
        drawn = jnp.arange(len(images)) if train else None
        return Swin(spec).apply({"params": params}, images, drawn, rngs={"dropout": key})[0]

    first, second = jax.random.key(0), jax.random.key(1)
    np.testing.assert_array_equal(apply(params, False, first), apply(params, False, second))
    zeroed = jax.tree.map(jnp.array, params)
    for branch in (("attn", "proj"), ("mlp", "fc2")):
        for leaf in ("kernel", "bias"):
            block = zeroed["stage_0"]["block_1"][branch[0]][branch[1]]
            block[leaf] = jnp.zeros_like(block[leaf])
    without = apply(zeroed, False, first)
    np.testing.assert_allclose(apply(params, True, first), without, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"depths": (2, 2)}, "depths"),
        ({"image_size": 222}, "image_size 222"),
        ({"image_size": 2**13 + 32}, "image_size is 8224, expected 1 to 8,192"),
        ({"heads": (5, 6, 12, 24)}, "5 heads"),
        ({"image_size": 96}, "stage 2 has 6 tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(change, named):
    with pytest.raises(UserError, match=named):
        SwinSpec(**change)


def test_images_of_another_size_are_refused():
    with pytest.raises(UserError, match="64x64"):
        run(TINY.image, tiny_weights(), np.zeros((1, 64, 64, 3), np.float32))
