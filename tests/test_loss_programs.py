"""What the compiled loss holds and exchanges, read from the optimised program of its value and gradient."""

import dataclasses
import functools
import re

import jax
import pytest
from loss_cases import DIFFERENTIABLE, EVERYTHING, make_inputs

from clinicclip.losses import Inputs, dense, ring, sharded
from clinicclip.training.compiled import collectives
from clinicclip.training.sharding import make_mesh

SPEC = dataclasses.replace(EVERYTHING, block=3)


@functools.cache
def program(form: str, devices: int, studies: int, width: int = 8) -> str:
    """The HLO of the compiled value and gradient."""
    mesh, inputs = make_mesh(jax.devices()[:devices]), make_inputs(studies, width=width)
    whole = {"ring": functools.partial(ring.loss, mesh=mesh), "sharded": functools.partial(sharded.loss, mesh=mesh)}

    def loss(arrays: dict, rest: Inputs) -> jax.Array:
        return whole.get(form, dense.loss)(rest._replace(**arrays), SPEC)[0]

    arrays = {key: getattr(inputs, key) for key in DIFFERENTIABLE}
    return jax.jit(jax.value_and_grad(loss)).lower(arrays, inputs).compile().as_text()


def shapes(form: str, devices: int, studies: int) -> set[tuple[int, ...]]:
    """Of all arrays in the compiled value and gradient, the bodies of loops included."""
    found = re.findall(r"[a-z]\w*\[([\d,]+)\]", program(form, devices, studies))
    return {tuple(map(int, axes.split(","))) for axes in found}


def exchanged(form: str, devices: int, studies: int) -> float:
    """Floats a study of the global batch that pass through a device, at embeddings of 512; gathers count whole."""
    return sum(each.bytes for each in collectives(program(form, devices, studies, width=512))) / 4 / studies


def two_axes_of(size: int, found: set[tuple[int, ...]]) -> bool:
    return any(sum(axis >= size for axis in shape) > 1 for shape in found)


def test_no_device_holds_a_buffer_of_batch_by_batch():
    # 136 and a device's 17 are the extent of nothing else, so two such axes are rows by columns.
    assert two_axes_of(136, shapes("dense", 1, 136))
    assert not two_axes_of(136, shapes("sharded", 8, 136))
    assert two_axes_of(17, shapes("sharded", 8, 136))


def test_exchanges_a_study_do_not_grow_with_the_devices_and_stay_near_sharded():
    # Studies go half way round in either pass, and their gradients in the second; blocks of 3 hold 18 for 17.
    columns, gradients = 5 * 512, 4 * 512
    most = 1.03 * 18 / 17 * (2 * columns + gradients) / 2
    by_devices = {devices: exchanged("ring", devices, 17 * devices) for devices in (2, 8)}
    assert all(0 < each <= most for each in by_devices.values())
    assert by_devices[8] <= exchanged("sharded", 8, 17 * 8)


@pytest.mark.parametrize("devices", [1, 8])
def test_the_ring_holds_nothing_with_two_batch_sized_axes(devices):
    assert not two_axes_of(17, shapes("ring", devices, 136))
