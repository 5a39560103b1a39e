"""The few layers both towers share: normalisation, dense maps, exact GELU and dropout."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis with float32 statistics; the result has the compute dtype."""

    epsilon: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*rest c"]) -> Float[Array, "*rest c"]:
        """Return x normalised, scaled and shifted."""
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (width,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (width,), jnp.float32)
        y = _normalise(x.reshape(-1, width), scale, bias, self.epsilon)
        return y.reshape(x.shape).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise(
    x: Float[Array, "n c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float
) -> Float[Array, "n c"]:
    """Rows normalised in float32, the gradient in closed form: what is derived step by step takes twice the passes.

    Kept for it are the rows as they came, in their own type, and a mean and a rate each.
    """
    return _normalise_forward(x, scale, bias, epsilon)[0]


def _normalise_forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    mean = jnp.mean(x, axis=1, keepdims=True, dtype=jnp.float32)
    centred = x.astype(jnp.float32) - mean
    rate = jax.lax.rsqrt(jnp.mean(centred * centred, axis=1, keepdims=True) + epsilon)
    return centred * rate * scale[None] + bias[None], (x, mean, rate, scale)


def _normalise_backward(epsilon: float, kept: tuple[Array, ...], slope: Array) -> tuple[Array, ...]:
    x, mean, rate, scale = kept
    normal = (x.astype(jnp.float32) - mean) * rate
    scaled = slope * scale[None]
    along = jnp.mean(scaled * normal, axis=1, keepdims=True)
    into_x = rate * (scaled - scaled.mean(axis=1, keepdims=True) - normal * along)
    return into_x.astype(x.dtype), jnp.sum(slope * normal, axis=0), jnp.sum(slope, axis=0)


_normalise.defvjp(_normalise_forward, _normalise_backward)


class Dense(nn.Module):
    """Linear map of the last axis, with a two-dimensional product.

    Flattening the rows first keeps the weight gradient a plain product of two matrices; over several row axes
    XLA's CPU compiler transposes both in memory, which costs half as much again as the products themselves.
    """

    features: int
    dtype: str = "float32"
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*rest c"]) -> Float[Array, "*rest features"]:
        """Return x @ kernel + bias in the compute dtype."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        y = x.astype(self.dtype).reshape(-1, x.shape[-1]) @ kernel.astype(self.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


class Mlp(nn.Module):
    """Two dense layers with a GELU between them."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "*rest c"]) -> Float[Array, "*rest c"]:
        """Return the transformed tokens."""
        h = gelu(Dense(self.hidden, self.dtype, name="fc1")(x))
        return Dense(x.shape[-1], self.dtype, name="fc2")(h)


def gelu(x: Float[Array, "*rest"]) -> Float[Array, "*rest"]:
    """Return the exact (erf) GELU, the one Swin and BERT weights expect."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 0.7071067811865476))


def dropout(
    module: nn.Module, x: Float[Array, "b *rest"], rate: float, rows: Int[Array, " b"] | None
) -> Float[Array, "b *rest"]:
    """Return x with a fraction `rate` of its entries zeroed and the rest rescaled; as it is where `rows` is None."""
    return x if rows is None else _drop(module, x, rate, rows, x.shape[1:])


def drop_path(
    module: nn.Module, x: Float[Array, "b *rest"], rate: float, rows: Int[Array, " b"] | None
) -> Float[Array, "b *rest"]:
    """Return x with whole rows zeroed at `rate` and the rest rescaled; as it is where `rows` is None."""
    return x if rows is None else _drop(module, x, rate, rows, (1,) * (x.ndim - 1))


def _drop(
    module: nn.Module, x: Float[Array, "b *rest"], rate: float, rows: Int[Array, " b"], shape: tuple[int, ...]
) -> Float[Array, "b *rest"]:
    """Each row draws from its own number, so that it draws the same with whichever others it is computed."""
    if rate == 0.0:
        return x
    key = module.make_rng("dropout")
    kept = jax.vmap(lambda row: jax.random.bernoulli(jax.random.fold_in(key, row), 1.0 - rate, shape))(rows)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)


def softmax(scores: Shaped[Array, "*rest k"], dtype: str) -> Shaped[Array, "*rest k"]:
    """Return the softmax over the last axis, computed in float32 and cast to the compute dtype."""
    return _softmax(scores.astype(jnp.float32)).astype(dtype)


@jax.custom_jvp
def _softmax(scores: Float[Array, "*rest k"]) -> Float[Array, "*rest k"]:
    """Softmax whose derivative is made of the result alone."""
    return jax.nn.softmax(scores, axis=-1)


@_softmax.defjvp
def _softmax_jvp(at: tuple[Any, ...], along: tuple[Any, ...]) -> tuple[Array, Array]:
    weights, (change,) = _softmax(*at), along
    return weights, weights * (change - jnp.sum(weights * change, axis=-1, keepdims=True))
