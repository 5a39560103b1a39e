"""The dense loss with each device's own studies as rows and everyone's as columns.

No device holds a matrix with two batch-sized axes: logits, likenesses and targets are [B / devices, B].
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from clinicclip.losses import dense, entailment
from clinicclip.losses.dense import Metrics
from clinicclip.losses.inputs import SCALARS, Inputs, LossSpec, check, devices_of, pad, studies


def loss(
    inputs: Inputs,
    spec: LossSpec,
    alpha: Float[Array, ""] | float | None = None,
    *,
    mesh: Mesh,
    axis: str = "data",
) -> tuple[Float[Array, ""], Metrics]:
    """Total loss in nats and its metrics, as ``dense.loss``, the studies split over ``axis`` of the mesh.

    A batch that does not divide by the devices is filled up with masked studies.

    Raises:
        UserError: the mesh has no such axis, or an input is missing.
    """
    check(inputs, spec)
    inputs = pad(inputs, devices_of(mesh, axis))
    alpha = jnp.asarray(spec.alpha if alpha is None else alpha, jnp.float32)
    local, replicated = PartitionSpec(axis), PartitionSpec()
    specs: dict[str, Any] = {name: replicated if name in SCALARS else local for name in Inputs._fields}
    body = partial(_local, spec=spec, axis=axis)
    return jax.shard_map(body, mesh=mesh, in_specs=(Inputs(**specs), replicated), out_specs=replicated)(inputs, alpha)


def _local(inputs: Inputs, alpha: Array, *, spec: LossSpec, axis: str) -> tuple[Array, Metrics]:
    """One device's part: gather the columns, take the own rows against them, add up over devices."""
    rows = studies(inputs, spec, jax.lax.axis_index(axis) * inputs.image.shape[0])
    if spec.entailment:
        everyone = jax.lax.all_gather((rows.findings, rows.valid), axis, tiled=True)
        rows = entailment.counted(rows, *everyone)
    offsets = dense.centres(jax.lax.psum(dense.moments(rows), axis))
    columns = jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, axis, tiled=True), rows)
    means = jax.lax.psum(dense.parts(rows, columns, offsets, inputs, spec, alpha), axis)
    return dense.total(means, offsets, spec)
