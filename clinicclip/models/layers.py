"""The few layers both towers share: normalisation, dense maps, exact GELU and dropout."""

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
        norm = nn.LayerNorm(epsilon=self.epsilon, dtype=jnp.float32, use_fast_variance=False)
        nn.share_scope(self, norm)
        return norm(x).astype(self.dtype)


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
    return jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(dtype)
