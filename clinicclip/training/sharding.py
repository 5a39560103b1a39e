"""The device mesh and how a host batch becomes global arrays on it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from clinicclip.errors import UserError

AXIS = "data"
LAYOUTS = ("replicated", "fsdp")
LEAST = 2**12  # an array of fewer numbers is not worth gathering in every step
WHOLE = ("relative_position_bias_table",)  # read by index, so that any part of it is needed everywhere


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, ``data``, over the given devices or all there are (of every process)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_study(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def layout(tree: PyTree, mesh: Mesh, how: str) -> PyTree:
    """Where each array of parameters or optimiser state lives: on every device, or with "fsdp" cut into shares.

    An array is cut along its largest axis that divides by the devices; small ones, vectors and ``WHOLE`` stay whole.

    Raises:
        UserError: ``how`` is none of ``LAYOUTS``.
    """
    if how not in LAYOUTS:
        raise UserError(f"model.layout={how!r}: expected one of {', '.join(LAYOUTS)}")

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, _share(jax.tree_util.keystr(path), leaf.shape, mesh.size))

    if how == "replicated":
        return jax.tree.map(lambda _: replicated(mesh), tree)
    return jax.tree_util.tree_map_with_path(place, tree)


def _share(path: str, shape: tuple[int, ...], devices: int) -> PartitionSpec:
    """How one array is cut, by its path and shape."""
    axes = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if not axes or len(shape) < 2 or math.prod(shape) < LEAST or any(name in path for name in WHOLE):
        return PartitionSpec()
    longest = max(axes, key=lambda axis: shape[axis])
    return PartitionSpec(*(AXIS if axis == longest else None for axis in range(longest + 1)))


def microbatches(studies: int, microbatch: int, devices: int) -> int:
    """How often the towers run in a step when a device takes ``microbatch`` studies at once (0 = all).

    Raises:
        UserError: the studies do not divide by the devices, or a device's share not by ``microbatch``.
    """
    if studies == 0 or studies % devices:
        raise UserError(f"batch_size={studies} does not divide by {devices} devices: use a multiple of {devices}")
    share = studies // devices
    if microbatch < 0 or (microbatch and share % microbatch):
        raise UserError(
            f"microbatch={microbatch} does not divide a device's {share} studies: use 0 or a divisor of that"
        )
    return share // microbatch if microbatch else 1


def text_groups(studies: int, microbatch: int, devices: int) -> int:
    """How many groups of texts are packed apart, one for each device and microbatch. Raises UserError."""
    return devices * microbatches(studies, microbatch, devices)


def place(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays, first axis split over the devices, from this process's part of a batch.

    The parts of all processes follow one another in the order of the processes.

    Raises:
        UserError: an array does not divide by this process's devices, or holds something other than numbers.
    """
    devices = len(mesh.local_devices)
    for name, array in batch.items():
        if not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            raise UserError(f"batch[{name!r}] has dtype {array.dtype}: only numbers go to devices, take it out")
        if array.ndim == 0 or array.shape[0] == 0 or array.shape[0] % devices:
            raise UserError(
                f"batch[{name!r}] of shape {array.shape} does not divide by {devices} devices: "
                f"use a batch_size that is a multiple of {devices}"
            )
    sharding = by_study(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def lay_out(tree: PyTree, where: PyTree) -> PyTree:
    """Global arrays from host values, of which a device gets its share alone; every process must pass the same."""

    def put(leaf: Any, way: NamedSharding) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, way, lambda index: host[index])

    return jax.tree.map(put, tree, where)


def gather(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays, whole on every device."""
    return jax.jit(lambda x: x, out_shardings=replicated(mesh))(tree)
