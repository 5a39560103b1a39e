"""The text tower: golden outputs of transformers, packing, pooling, and its refusals."""

import runpy
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip.data import packing
from clinicclip.errors import UserError
from clinicclip.models.bert import Bert, BertSpec

GOLDEN = Path(__file__).parent / "golden"
recipe = runpy.run_path(str(GOLDEN / "recipe.py"))
SMALL = recipe["SIZES"]["small"]
SPEC = SMALL.text


@pytest.fixture(scope="module")
def small():
    return recipe["weights"](SMALL)["text"]


def embed(spec, params, packed, groups=1, dtype="float32", remat=False):
    """Pooled vectors of packed texts."""

    def both(model, ids, owner, position, start):
        return model.pool(model(ids, owner, position), owner, start, groups)

    arrays = map(jnp.asarray, (packed.ids, packed.owner, packed.position, packed.start))
    model = Bert(spec, dtype, remat)
    return jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=both))(params, *arrays)


def some_texts(count, seed=5):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, SPEC.vocab_size, rng.integers(3, 18)).tolist() for _ in range(count)]


@pytest.mark.parametrize(("size", "limit"), [("small", 1e-5), ("full", 1e-4)])
def test_outputs_equal_the_golden_ones_of_transformers(size, limit):
    spec = recipe["SIZES"][size]
    params, texts = recipe["weights"](spec)["text"], recipe["texts"](spec)
    golden = np.load(GOLDEN / "towers.npz")
    packed = packing.pack(texts, length=17)
    pooled = embed(spec.text, params, packed)
    assert np.abs(pooled - golden[f"{size}/text"]).max() <= limit
    third = packed._replace(start=packed.start + 2)
    token = embed(replace(spec.text, pooling="cls"), params, third)
    assert np.abs(token - golden[f"{size}/text_token"]).max() <= limit


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_packed_texts_are_pooled_as_plain_ones_with_equal_gradients(small, pooling):
    spec, texts = replace(SPEC, pooling=pooling, depth=2), some_texts(8)
    plain, dense = packing.plain(texts, 17), packing.pack(texts, length=24)
    assert len(dense.ids) < len(plain.ids)
    weight = jnp.asarray(np.random.default_rng(0).standard_normal((8, spec.width)), jnp.float32)

    def total(params, packed):
        pooled = embed(spec, params, packing.PackedText(*packed))
        return (pooled * weight).sum(), pooled

    slope = jax.jit(jax.value_and_grad(total, has_aux=True))

    (_, slow), slow_gradient = slope(small, tuple(plain))
    (_, fast), fast_gradient = slope(small, tuple(dense))
    np.testing.assert_allclose(fast, slow, atol=1e-5)
    for a, b in zip(jax.tree.leaves(fast_gradient), jax.tree.leaves(slow_gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_groups_hold_their_own_texts(small, pooling):
    spec, texts = replace(SPEC, pooling=pooling), some_texts(8)
    one = embed(spec, small, packing.pack(texts, length=24))
    four = embed(spec, small, packing.pack(texts, length=24, groups=4), groups=4)
    np.testing.assert_allclose(four, one, atol=1e-5)


def test_padding_ids_never_reach_a_text(small):
    packed = packing.plain(some_texts(3), 20)
    other = packed._replace(ids=np.where(packed.owner == 0, 7, packed.ids).astype(np.int32))
    np.testing.assert_allclose(embed(SPEC, small, other), embed(SPEC, small, packed), atol=1e-6)


def test_order_and_company_do_not_change_a_text(small):
    texts = some_texts(4)
    whole = embed(SPEC, small, packing.pack(texts, length=24))
    turned = embed(SPEC, small, packing.pack(texts[::-1], length=24))
    np.testing.assert_allclose(turned[::-1], whole, atol=1e-5)


def test_bfloat16_and_rematerialisation_stay_near(small):
    packed = packing.pack(some_texts(4), length=24)
    exact = embed(SPEC, small, packed)
    np.testing.assert_allclose(embed(SPEC, small, packed, remat=True), exact, atol=1e-6)
    low = embed(SPEC, small, packed, dtype="bfloat16")
    assert low.dtype == jnp.float32
    assert np.abs(low - exact).max() < 0.1


def test_dropout_acts_in_training_only(small):
    packed = packing.plain(some_texts(2), 17)

    @partial(jax.jit, static_argnums=0)
    def hidden(train, key):
        arrays = map(jnp.asarray, (packed.ids, packed.owner, packed.position))
        drawn = jnp.arange(len(packed.ids)) if train else None
        return Bert(SPEC).apply({"params": small}, *arrays, drawn, rngs={"dropout": key})

    one, other = jax.random.key(0), jax.random.key(1)
    np.testing.assert_array_equal(hidden(False, one), hidden(False, other))
    assert np.abs(hidden(True, one) - hidden(True, other)).max() > 0.1


@pytest.mark.parametrize(("change", "named"), [({"pooling": "max"}, "pooling 'max'"), ({"heads": 7}, "7 heads")])
def test_sizes_that_do_not_fit_are_refused_by_name(change, named):
    with pytest.raises(UserError, match=named):
        BertSpec(**change)


def test_rows_beyond_the_position_table_are_refused(small):
    with pytest.raises(UserError, match="24 positions"):
        embed(SPEC, small, packing.plain([[1] * 30], 30))
