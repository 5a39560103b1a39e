"""The joined model: unit embeddings, a safe norm, named parameters, initial values, frozen text."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clinicclip.models import clip
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClinicCLIP, ClipSpec, init_params, normalize_images, unit
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec

SPEC = ClipSpec(
    SwinSpec(32, 4, 4, 8, (1, 1), (1, 2)),
    BertSpec(vocab_size=20, width=16, depth=1, heads=2, mlp_width=32, max_positions=16),
    GcnSpec(feature_width=3, hidden=8, width=6),
    dim=12,
)
TEXT = tuple(
    map(
        jnp.asarray,
        (
            np.array([[2, 5, 3, 2, 6, 7, 3, 0]], np.int32),
            np.array([[1, 1, 1, 2, 2, 2, 2, 0]], np.int32),
            np.array([[0, 1, 2, 0, 1, 2, 3, 0]], np.int32),
            np.array([0, 3], np.int32),
        ),
    )
)


@pytest.fixture(scope="module")
def params():
    return init_params(SPEC, 0)


@partial(jax.jit, static_argnames=("spec", "method", "train"))
def apply(params, *arrays, method, spec=SPEC, train=False):
    arguments = (*arrays, 1, jnp.arange(len(arrays[0])) if train else None) if method == "embed_text" else arrays
    rngs = {"dropout": jax.random.key(0)}
    return ClinicCLIP(spec).apply({"params": params}, *arguments, method=method, rngs=rngs)


def test_every_tower_gives_unit_float32_rows(params):
    grey = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 32)), jnp.uint8)
    nodes = jnp.ones((2, 4, 7), jnp.float32)
    edges = jnp.zeros((2, 5), jnp.int32)
    embeddings = [
        apply(params, normalize_images(grey), method="embed_image"),
        apply(params, *TEXT, method="embed_text"),
        apply(params, nodes, edges, edges, jnp.ones((2, 4), bool), method="embed_graph"),
    ]
    for rows in embeddings:
        assert rows.shape == (2, SPEC.dim)
        assert rows.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(rows, axis=-1), 1.0, atol=1e-6)


def test_the_image_is_the_mean_of_its_patches_before_they_are_scaled(params):
    grey = normalize_images(jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 32, 32)), jnp.uint8))
    beside, patches = apply(params, grey, method="embed_patches")
    raw = np.asarray(apply(params, grey, method=lambda model, x: model.image_projection(model.image(x)[1])))
    assert patches.shape == (2, 4, 4, SPEC.dim)
    np.testing.assert_allclose(patches, raw / np.linalg.norm(raw, axis=-1, keepdims=True), atol=1e-5)
    mean = raw.mean(axis=(1, 2))
    whole = apply(params, grey, method="embed_image")
    np.testing.assert_allclose(whole, mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(beside, whole, atol=1e-6)


def test_studies_shard_over_devices_without_communication(params):
    devices = 4
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    whole, rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))

    def towers(params, images, ids, owner, position, start, key):
        model, rngs = ClinicCLIP(SPEC), {"dropout": key}
        image = model.apply({"params": params}, images, jnp.arange(len(images)), method="embed_image", rngs=rngs)
        texts = (ids, owner, position, start, devices, jnp.arange(len(ids)))
        return image, model.apply({"params": params}, *texts, method="embed_text", rngs=rngs)

    step = jax.jit(towers, in_shardings=(whole, *[rows] * 5, whole), out_shardings=rows)
    images = jnp.zeros((2 * devices, 32, 32, 3))
    texts = [jnp.tile(array, (devices,) + (1,) * (array.ndim - 1)) for array in TEXT]
    program = step.lower(params, images, *texts, jax.random.key(0)).compile().as_text()
    assert not [name for name in ("all-gather", "all-reduce", "all-to-all", "permute(") if name in program]


def test_a_zero_row_stays_zero_and_has_a_finite_gradient():
    x = jnp.zeros((2, 3)).at[1].set(jnp.asarray([3.0, 0.0, 4.0]))
    np.testing.assert_allclose(unit(x), [[0, 0, 0], [0.6, 0, 0.8]], atol=1e-7)
    gradient = jax.grad(lambda x: (unit(x) * jnp.arange(6.0).reshape(2, 3)).sum())(x)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 10


def test_grey_levels_are_standardised_per_channel():
    pixels = jnp.asarray(np.array([[[0, 255], [128, 1]]], np.uint8))
    out = normalize_images(pixels)
    assert out.shape == (1, 2, 2, 3)
    expected = (np.asarray(pixels)[..., None] / 255 - np.array(clip.IMAGE_MEAN)) / np.array(clip.IMAGE_STD)
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_parameters_without_graph_tower_have_no_graph_names():
    names = init_params(replace(SPEC, graph=None), 0).keys()
    towers = {"image", "image_projection", "text", "text_projection", "logit_scale", "logit_bias"}
    assert set(names) == towers
    assert set(init_params(SPEC, 0)) == towers | {"graph", "graph_projection"}


def test_initial_values_follow_the_seed_and_their_names(params):
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(params, sep="/").items()}
    again = flatten_dict(init_params(SPEC, 0), sep="/")
    other = flatten_dict(init_params(SPEC, 1), sep="/")
    for path, leaf in flat.items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, again[path])
        if path.endswith(("kernel", "embedding", "table")):
            assert (leaf != other[path]).all(), path
    assert (flat["image/norm/scale"] == 1).all()
    assert (flat["text/layer_0/mlp/fc1/bias"] == 0).all()
    fan_in = SPEC.text.width
    np.testing.assert_allclose(flat["text/layer_0/mlp/fc1/kernel"].std(), fan_in**-0.5, rtol=0.1)
    np.testing.assert_allclose(flat["text/embeddings/word_embeddings/embedding"].std(), 0.02, rtol=0.1)
    assert flat["logit_scale"] == np.float32(math.log(10))
    assert flat["logit_bias"] == -10


def test_a_frozen_text_tower_draws_no_dropout_and_learns_only_its_projection(params):
    spec = replace(SPEC, text_frozen=True)

    def total(params, spec):
        rows = apply(params, *TEXT, spec=spec, method="embed_text", train=True)
        return (rows * jnp.arange(24.0).reshape(2, 12)).sum()

    gradient = jax.grad(total)(params, spec)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient["text"]))
    assert gradient["text_projection"]["kernel"].any()
    free = jax.grad(total)(params, SPEC)
    assert any(leaf.any() for leaf in jax.tree.leaves(free["text"]))
    quiet = apply(params, *TEXT, method="embed_text")
    frozen = apply(params, *TEXT, spec=spec, method="embed_text", train=True)
    np.testing.assert_array_equal(frozen, quiet)
