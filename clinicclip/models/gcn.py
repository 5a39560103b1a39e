"""Graph tower: a two-layer GCN (Kipf & Welling, arXiv:1609.02907) over padded report graphs, by jraph."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Array, Bool, Float, Int

ENTITY_TYPES = 4


@dataclass(frozen=True)
class GcnSpec:
    """Shape of the graph tower; nodes carry a frozen feature of `feature_width` and a one-hot entity type."""

    feature_width: int = 768
    hidden: int = 256
    width: int = 512


class Convolution(nn.Module):
    """One graph convolution with bias, before its activation."""

    width: int

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "b v f"], senders: Int[Array, "b e"], receivers: Int[Array, "b e"]
    ) -> Float[Array, "b v w"]:
        """Return D^-1/2 (A + I) D^-1/2 X W + bias for each study; edges must be stored in both directions."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (nodes.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        layer = jraph.GraphConvolution(lambda x: x, add_self_edges=True, symmetric_normalization=True)

        def one(nodes: Array, senders: Array, receivers: Array) -> Array:
            return layer(jraph.GraphsTuple(nodes, None, receivers, senders, None, None, None)).nodes

        return jax.vmap(one)(nodes @ kernel, senders, receivers) + bias[None, None]


class Gcn(nn.Module):
    """The graph tower: convolve, ReLU, convolve, mean over real nodes."""

    spec: GcnSpec

    @nn.compact
    def __call__(
        self,
        nodes: Float[Array, "b v f"],
        senders: Int[Array, "b e"],
        receivers: Int[Array, "b e"],
        mask: Bool[Array, "b v"],
    ) -> Float[Array, "b w"]:
        """Return one vector a study, float32; zeros for a study without real nodes.

        Padding edges must join padding nodes only: then no padding value reaches the result.
        """
        x = nodes
        for index, width in enumerate((self.spec.hidden, self.spec.width)):
            x = jax.nn.relu(x) if index else x
            x = Convolution(width, name=f"conv_{index}")(x, senders, receivers)
        real = mask[:, :, None]
        return jnp.where(real, x, 0.0).sum(axis=1) / jnp.maximum(real.sum(axis=1), 1)
