"""Losses: pure functions on arrays; several forms behind one interface, equal in value and gradient."""

from collections.abc import Callable
from functools import partial

from jax.sharding import Mesh
from jaxtyping import Array, Float

from clinicclip.losses import dense, ring, sharded
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import Inputs, LossSpec, devices_of, require_block

__all__ = ["Inputs", "LossFn", "LossSpec", "Metrics", "bind", "choose", "require_block"]

LossFn = Callable[..., tuple[Float[Array, ""], Metrics]]
# What "sharded" may take of a device's memory before "auto" turns to "ring".
SHARDED_BYTES = 2**28
# Float32 matrices of [device's studies, all studies] that "sharded" holds at its fullest: bench/loss.py finds 13.5
# with all streams and negated reports of all, and 26.6 with graph alignment.
MATRICES, GRAPH_MATRICES = 14, 13


def bind(spec: LossSpec, mesh: Mesh, axis: str = "data") -> LossFn:
    """The function (inputs, alpha or None) -> (loss, metrics) in the form ``spec.implementation`` names.

    The studies are split over ``axis`` of the mesh. An embedding of a valid study that is NaN makes the loss NaN; a
    frozen feature that is not finite leaves its study out of that stream.

    Raises:
        UserError: the mesh has no such axis.
    """
    devices = devices_of(mesh, axis)

    def bound(inputs: Inputs, alpha: Float[Array, ""] | float | None = None) -> tuple[Float[Array, ""], Metrics]:
        forms: dict[str, Callable] = {
            "dense": dense.loss,
            "sharded": partial(sharded.loss, mesh=mesh, axis=axis),
            "ring": partial(ring.loss, mesh=mesh, axis=axis),
        }
        return forms[choose(spec, inputs.image.shape[0], devices)](inputs, spec, alpha)

    return bound


def choose(spec: LossSpec, studies: int, devices: int) -> str:
    """The form that is meant: "auto" is "ring" where the matrices of "sharded" would be too large for a device."""
    if spec.implementation != "auto":
        return spec.implementation
    share = -(-studies // devices)
    matrices = MATRICES + (GRAPH_MATRICES if spec.graph else 0)
    return "ring" if 4 * matrices * share * studies > SHARDED_BYTES else "sharded"
