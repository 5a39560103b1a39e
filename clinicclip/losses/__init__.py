"""Losses: pure functions on arrays; several forms behind one interface, equal in value and gradient."""

from collections.abc import Callable
from functools import partial

from jax.sharding import Mesh
from jaxtyping import Array, Float

from clinicclip.losses import dense, ring, sharded
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec, require_block

__all__ = ["Inputs", "LossFn", "LossSpec", "Metrics", "bind", "choose", "require_block"]

LossFn = Callable[..., tuple[Float[Array, ""], Metrics]]
# What "sharded" may take of a device's memory before "auto" turns to "ring".
SHARDED_BYTES = 2**28
# Float32 matrices of [device's studies, all studies] that "sharded" holds at its fullest (bench/loss.py).
MATRICES = 14


def bind(spec: LossSpec, mesh: Mesh) -> LossFn:
    """The function (inputs, alpha or None) -> (loss, metrics) in the form ``spec.implementation`` names."""

    def bound(inputs: Inputs, alpha: Float[Array, ""] | float | None = None) -> tuple[Float[Array, ""], Metrics]:
        forms: dict[str, Callable] = {
            "dense": dense.loss,
            "sharded": partial(sharded.loss, mesh=mesh),
            "ring": partial(ring.loss, mesh=mesh),
        }
        return forms[choose(spec, inputs.image.shape[0], mesh.size)](inputs, spec, alpha)

    return bound


def choose(spec: LossSpec, studies: int, devices: int) -> str:
    """The form that is meant: "auto" is "ring" where the matrices of "sharded" would be too large for a device."""
    if spec.implementation != "auto":
        return spec.implementation
    share = -(-studies // devices)
    large = 4 * MATRICES * share * studies > SHARDED_BYTES
    return "ring" if large and share >= spec.block else "sharded"
