"""The sharded loss is the dense loss, in value and in the gradient of every input, on any number of devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import DIFFERENTIABLE, EVERYTHING, MASKS, VARIANTS, make_inputs, take

from clinicclip import losses
from clinicclip.errors import UserError
from clinicclip.losses import Inputs, LossSpec, dense, sharded
from clinicclip.training.sharding import make_mesh

pytestmark = pytest.mark.usefixtures("quick_compile")
STUDIES = 40
SPECS = {**VARIANTS, "everything": EVERYTHING}
FLOATS = (*DIFFERENTIABLE, "text_feature", "labels", "graph_feature")


@functools.cache
def value_and_gradient(name: str, devices: int):
    """Compiled (floats, rest) -> ((loss, metrics), gradients); 0 devices is the dense form."""
    spec, mesh = SPECS[name], make_mesh(jax.devices()[: devices or 1])
    form = functools.partial(sharded.loss, mesh=mesh) if devices else dense.loss

    def total(arrays: dict, rest: Inputs):
        return form(rest._replace(**arrays), spec)

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def evaluate(inputs: Inputs, name: str, devices: int):
    arrays = {key: getattr(inputs, key) for key in FLOATS}
    (value, metrics), gradients = value_and_gradient(name, devices)(arrays, inputs)
    return value, metrics, gradients


def assert_equal_to_dense(inputs: Inputs, name: str, devices: int) -> None:
    value, metrics, gradients = evaluate(inputs, name, devices)
    expected_value, expected_metrics, expected_gradients = evaluate(inputs, name, 0)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    assert metrics.keys() == expected_metrics.keys()
    for key, expected in expected_metrics.items():
        np.testing.assert_allclose(metrics[key], expected, rtol=2e-6, atol=1e-6, err_msg=key)
    for key, expected in expected_gradients.items():
        assert np.isfinite(gradients[key]).all(), key
        scale = np.abs(expected).max() or 1.0
        assert np.abs(gradients[key] - expected).max() <= 1e-5 * scale, key


@pytest.mark.parametrize("name", SPECS)
def test_every_variant_equals_dense_on_eight_devices(name):
    assert_equal_to_dense(make_inputs(STUDIES), name, 8)


@pytest.mark.parametrize(("devices", "name"), [(1, "n_g_dtcg"), (2, "everything"), (5, "n_g_dtcg"), (5, "everything")])
def test_any_number_of_devices_equals_dense(devices, name):
    assert_equal_to_dense(make_inputs(STUDIES, seed=5), name, devices)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_a_stream_with_no_or_one_valid_study_equals_dense(mask, rows):
    inputs = make_inputs(STUDIES)._replace(**{mask: jnp.arange(STUDIES) == 7 if rows else jnp.zeros(STUDIES, bool)})
    assert_equal_to_dense(inputs, "everything", 8)


def test_with_every_mask_empty_loss_and_gradient_are_zero():
    nothing = make_inputs(STUDIES)._replace(**dict.fromkeys(MASKS, jnp.zeros(STUDIES, bool)))
    value, metrics, gradients = evaluate(nothing, "everything", 8)
    assert value == 0.0
    assert all(np.isfinite(metric) for metric in metrics.values())
    assert not any(gradient.any() for gradient in gradients.values())


def test_which_device_holds_which_study_changes_nothing():
    inputs = make_inputs(STUDIES)
    order = np.random.default_rng(1).permutation(STUDIES)
    straight, shuffled = (evaluate(x, "everything", 8) for x in (inputs, take(inputs, order)))
    np.testing.assert_allclose(straight[0], shuffled[0], rtol=1e-6)
    np.testing.assert_allclose(straight[2]["image"][order], shuffled[2]["image"], rtol=1e-4, atol=1e-8)


def test_no_device_holds_a_buffer_of_batch_by_batch():
    # 136 is the extent of nothing else, so any array with two such axes is batch by batch.
    studies = 136
    inputs = make_inputs(studies)
    arrays = {key: getattr(inputs, key) for key in FLOATS}
    for devices, expected in ((0, True), (8, False)):
        program = value_and_gradient("everything", devices).lower(arrays, inputs).compile().as_text()
        shapes = [tuple(map(int, found.split(","))) for found in re.findall(r"\w\d+\[([\d,]+)\]", program)]
        assert any(sum(axis >= studies for axis in shape) > 1 for shape in shapes) is expected


def test_the_spec_picks_the_implementation():
    inputs, mesh = make_inputs(8), make_mesh()
    specs = [LossSpec(implementation=name) for name in ("dense", "sharded")]
    programs = [jax.jit(losses.bind(spec, mesh)).lower(inputs) for spec in specs]
    assert ["all_gather" in program.as_text() for program in programs] == [False, True]


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="42 studies does not divide by 8 devices"):
        sharded.loss(make_inputs(42), LossSpec(), mesh=make_mesh())


def test_a_mesh_without_the_axis_is_refused():
    with pytest.raises(UserError, match="'model'"):
        sharded.loss(make_inputs(8), LossSpec(), mesh=make_mesh(), axis="model")
