"""The layers that know their own derivative, against the plain form that JAX derives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clinicclip.models import layers, swin

RNG = np.random.default_rng(0)


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape).astype(np.float32))


def normalise(x, scale, bias):
    return layers.LayerNorm(0.1).apply({"params": {"scale": scale, "bias": bias}}, x)


def normalise_twin(x, scale, bias):
    return nn.LayerNorm(0.1, use_fast_variance=False).apply({"params": {"scale": scale, "bias": bias}}, x)


def convolve(images, kernel):
    return jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
    ("ours", "twin", "inputs"),
    [
        (normalise, normalise_twin, (3.0 + draw(2, 3, 8), draw(8), draw(8))),
        (lambda x: layers.softmax(x, "float32"), jax.nn.softmax, (draw(2, 3, 8),)),
        (swin.patch_products, convolve, (draw(2, 8, 12, 3), draw(4, 4, 3, 5))),
    ],
    ids=["norm", "softmax", "patches"],
)
def test_value_and_gradient_equal_those_of_the_plain_form(ours, twin, inputs):
    value, back = jax.vjp(jax.jit(ours), *inputs)
    expected, expected_back = jax.vjp(jax.jit(twin), *inputs)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    slope = draw(*expected.shape)
    for found, wanted in zip(back(slope), expected_back(slope), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)
