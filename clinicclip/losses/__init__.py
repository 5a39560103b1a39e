"""Losses: pure functions on arrays; several forms behind one interface, equal in value and gradient."""

from collections.abc import Callable
from functools import partial

from jax.sharding import Mesh
from jaxtyping import Array, Float

from clinicclip.losses import dense, sharded
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec

__all__ = ["Inputs", "LossFn", "LossSpec", "Metrics", "bind"]

LossFn = Callable[..., tuple[Float[Array, ""], Metrics]]


def bind(spec: LossSpec, mesh: Mesh) -> LossFn:
    """The function (inputs, alpha or None) -> (loss, metrics) in the form ``spec.implementation`` names."""
    if spec.implementation == "dense":
        form: Callable = dense.loss
    else:
        form = partial(sharded.loss, mesh=mesh)

    def bound(inputs: Inputs, alpha: Float[Array, ""] | float | None = None) -> tuple[Float[Array, ""], Metrics]:
        return form(inputs, spec, alpha)

    return bound
