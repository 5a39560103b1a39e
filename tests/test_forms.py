"""The sharded and the ring loss are the dense loss, in value and in the gradient of every input, on any devices."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import DIFFERENTIABLE, EVERYTHING, MASKS, VARIANTS, make_inputs, take

from clinicclip import losses
from clinicclip.errors import UserError
from clinicclip.losses import Inputs, LossSpec, dense, ring, sharded
from clinicclip.training.sharding import make_mesh

# Eight devices hold 7 each, the last 4 and 3 masked ones; blocks of 3 leave the third of a device uneven.
STUDIES, BLOCK = 53, 3
EXTREMES = {"everything": EVERYTHING, "tied": LossSpec(alpha=0.4, theta=2 / 3, clinical=1.0)}
SPECS = {name: dataclasses.replace(spec, block=BLOCK) for name, spec in (VARIANTS | EXTREMES).items()}
FLOATS = (*DIFFERENTIABLE, "text_feature", "labels", "graph_feature")
FORMS = {"sharded": sharded.loss, "ring": ring.loss}
both_forms = pytest.mark.parametrize("form", FORMS)


@functools.cache
def value_and_gradient(form: str, name: str, devices: int = 1):
    """Compiled (floats, rest) -> ((loss, metrics), gradients)."""
    mesh = make_mesh(jax.devices()[:devices])
    function = functools.partial(FORMS[form], mesh=mesh) if form in FORMS else dense.loss

    def total(arrays: dict, rest: Inputs):
        return function(rest._replace(**arrays), SPECS[name])

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def evaluate(inputs: Inputs, form: str, name: str, devices: int = 1):
    arrays = {key: getattr(inputs, key) for key in FLOATS}
    (value, metrics), gradients = value_and_gradient(form, name, devices)(arrays, inputs)
    return value, metrics, gradients


def assert_equal_to_dense(inputs: Inputs, form: str, name: str, devices: int) -> None:
    assert_equal(evaluate(inputs, form, name, devices), evaluate(inputs, "dense", name))


def assert_equal(found, expected) -> None:
    (value, metrics, gradients), (expected_value, expected_metrics, expected_gradients) = found, expected
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    assert metrics.keys() == expected_metrics.keys()
    for key, metric in expected_metrics.items():
        np.testing.assert_allclose(metrics[key], metric, rtol=2e-6, atol=1e-6, err_msg=key)
    for key, gradient in expected_gradients.items():
        assert np.isfinite(gradients[key]).all(), key
        scale = np.abs(gradient).max() or 1.0
        assert np.abs(gradients[key] - gradient).max() <= 1e-5 * scale, key


@both_forms
@pytest.mark.parametrize("name", SPECS)
def test_every_variant_equals_dense_on_eight_devices(form, name):
    assert_equal_to_dense(make_inputs(STUDIES), form, name, 8)


@pytest.mark.parametrize(
    ("form", "devices", "name"),
    [
        ("sharded", 1, "n_g_dtcg"),
        ("sharded", 2, "everything"),
        ("sharded", 3, "off_clip"),
        ("sharded", 5, "n_g_dtcg"),
        ("sharded", 4, "n_g_dtcg"),
        ("sharded", 5, "everything"),
        ("sharded", 6, "off_clip"),
        ("sharded", 7, "everything"),
        *(("ring", devices, name) for devices, name in enumerate(["n_g_dtcg", "everything"] * 3 + ["off_clip"], 1)),
        ("ring", 1, "everything"),
        ("ring", 3, "everything"),
    ],
)
def test_any_number_of_devices_equals_dense(form, devices, name):
    assert_equal_to_dense(make_inputs(STUDIES, seed=5), form, name, devices)


@both_forms
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_a_stream_with_no_or_one_valid_study_equals_dense(form, mask, rows):
    inputs = make_inputs(STUDIES)._replace(**{mask: jnp.arange(STUDIES) == 7 if rows else jnp.zeros(STUDIES, bool)})
    assert_equal_to_dense(inputs, form, "everything", 8)


@both_forms
def test_with_every_mask_empty_loss_and_gradient_are_zero(form):
    nothing = make_inputs(STUDIES)._replace(**dict.fromkeys(MASKS, jnp.zeros(STUDIES, bool)))
    value, metrics, gradients = evaluate(nothing, form, "everything", 8)
    assert value == 0.0
    assert all(np.isfinite(metric) for metric in metrics.values())
    assert not any(gradient.any() for gradient in gradients.values())


def rows_of(gradients: dict, rows: np.ndarray) -> dict:
    return {key: gradient[rows] if gradient.ndim else gradient for key, gradient in gradients.items()}


@both_forms
def test_which_device_holds_which_study_changes_nothing(form):
    inputs = make_inputs(STUDIES)
    order = np.random.default_rng(1).permutation(STUDIES)
    straight, shuffled = (evaluate(x, form, "everything", 8) for x in (inputs, take(inputs, order)))
    assert_equal(shuffled, (*straight[:2], rows_of(straight[2], order)))


@both_forms
def test_deleting_masked_studies_changes_nothing(form):
    inputs = make_inputs(STUDIES, seed=3)
    kept = np.flatnonzero(inputs.valid)
    whole, small = evaluate(inputs, form, "everything", 8), evaluate(take(inputs, kept), "dense", "everything")
    assert_equal((*whole[:2], rows_of(whole[2], kept)), small)


@both_forms
def test_masked_studies_may_hold_nan(form):
    clean = make_inputs(STUDIES, seed=4)
    gone = ~clean.valid[:, None]
    poison = {name: jnp.where(gone, jnp.nan, getattr(clean, name)) for name in ("image", "text", "text_feature")}
    assert_equal(evaluate(clean._replace(**poison), form, "everything", 8), evaluate(clean, form, "everything", 8))


@both_forms
@pytest.mark.parametrize("devices", [1, 8])
def test_a_report_that_other_studies_share_is_first_in_no_form(form, devices):
    inputs = make_inputs(STUDIES)
    text = inputs.text[jnp.arange(STUDIES) // 2 * 2].at[0].set(-inputs.text[1])  # all but the first two are in pairs
    twice = inputs._replace(image=text, text=text, valid=jnp.ones(STUDIES, bool))
    _, metrics, _ = evaluate(twice, form, "n_g_dtcg", devices)
    _, expected, _ = evaluate(twice, "dense", "n_g_dtcg")
    assert metrics["accuracy/i2t"] == expected["accuracy/i2t"] == np.float32(3 / STUDIES)


@both_forms
def test_a_valid_study_with_a_feature_that_is_nan_is_left_out_of_the_stream(form):
    inputs = make_inputs(STUDIES)._replace(valid=jnp.ones(STUDIES, bool))
    poisoned = inputs._replace(text_feature=inputs.text_feature.at[5, 2].set(jnp.nan))
    without = inputs._replace(text_valid=inputs.text_valid.at[5].set(False))
    assert_equal(evaluate(poisoned, form, "everything", 8), evaluate(without, "dense", "everything"))


@both_forms
@pytest.mark.parametrize("devices", [1, 8])
def test_a_study_whose_report_fits_worst_is_first_in_no_form(form, devices):
    east, north = jnp.eye(8)[:2]
    text = jnp.tile(-0.6 * east + 0.8 * north, (STUDIES, 1)).at[0].set(-east)
    image = jnp.tile(east, (STUDIES, 1))
    worst = make_inputs(STUDIES)._replace(image=image, text=text, valid=jnp.ones(STUDIES, bool))
    _, metrics, _ = evaluate(worst, form, "n_g_dtcg", devices)
    _, expected, _ = evaluate(worst, "dense", "n_g_dtcg")
    assert metrics["accuracy/i2t"] == expected["accuracy/i2t"]


@both_forms
@pytest.mark.parametrize("name", ["n_g_dtcg", "off_clip"])
def test_bfloat16_embeddings_equal_the_dense_loss_of_the_same_numbers(form, name):
    names = ("image", "text", "graph", "negated")
    inputs = make_inputs(STUDIES)
    half = inputs._replace(**{key: getattr(inputs, key).astype(jnp.bfloat16) for key in names})
    upcast = half._replace(**{key: getattr(half, key).astype(jnp.float32) for key in names})
    value, _, gradients = evaluate(half, form, name, 8)
    expected_value, _, expected = evaluate(upcast, "dense", name)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)
    for key in names:
        # Handed back in bfloat16, rounded once.
        assert gradients[key].dtype == jnp.bfloat16
        found, rounded = (np.asarray(x, np.float32) for x in (gradients[key], expected[key].astype(jnp.bfloat16)))
        assert np.linalg.norm(found - rounded) <= 1e-3 * np.linalg.norm(rounded), key


@both_forms
@pytest.mark.parametrize("name", ["n_g_dtcg", "everything"])
def test_steep_logits_equal_dense(form, name):
    assert_equal_to_dense(make_inputs(STUDIES)._replace(logit_scale=jnp.float32(math.log(100.0))), form, name, 8)


@both_forms
def test_likenesses_that_tie_with_theta_are_kept_in_every_form(form):
    half = jnp.where(jnp.arange(STUDIES)[:, None] % 2, jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.array([0.0, 1.0, 1.0, 1.0]))
    labels = jnp.pad(half, ((0, 0), (0, 10)))
    inputs = make_inputs(STUDIES)._replace(labels=labels, labels_valid=jnp.ones(STUDIES, bool))
    # Two of three labels in common: the cosine is 2/3, which float32 reaches in more than one way.
    found = evaluate(inputs, form, "tied", 8)
    assert_equal(found, evaluate(inputs, "dense", "tied"))
    assert found[1]["soft_labels/kept"] == 1.0


@both_forms
def test_fewer_studies_than_devices_equal_dense(form):
    assert_equal_to_dense(make_inputs(5), form, "everything", 8)


def test_the_spec_picks_the_implementation():
    inputs, mesh = make_inputs(16), make_mesh()
    programs = {
        name: jax.jit(losses.bind(LossSpec(implementation=name, block=1), mesh)).lower(inputs).as_text()
        for name in ("dense", "sharded", "ring")
    }
    moves = {name: ("all_gather" in text, "collective_permute" in text) for name, text in programs.items()}
    assert moves == {"dense": (False, False), "sharded": (True, False), "ring": (False, True)}


def test_auto_turns_to_the_ring_where_the_matrices_would_be_large():
    spec = LossSpec()
    assert [losses.choose(spec, studies, 8) for studies in (64, 4096, 32768)] == ["sharded", "sharded", "ring"]
    assert losses.choose(spec, 4096, 1) == "ring"
    assert losses.choose(spec, 65536, 512) == "ring"  # a device's share may be smaller than a block
    aligned = dataclasses.replace(spec, graph=1.0)
    assert [losses.choose(each, 5120, 8) for each in (spec, aligned)] == ["sharded", "ring"]
    assert losses.choose(dataclasses.replace(spec, implementation="dense"), 32768, 8) == "dense"


@pytest.mark.parametrize("block", [0, -1, True])
def test_a_block_without_columns_is_refused(block):
    with pytest.raises(UserError, match=f"loss.block={block}"):
        LossSpec(block=block)


def test_a_block_larger_than_a_device_s_share_is_refused():
    with pytest.raises(UserError, match="block=8: a device holds only 7 of 53 studies"):
        ring.loss(make_inputs(STUDIES), LossSpec(implementation="ring", block=8), mesh=make_mesh())


@both_forms
def test_a_mesh_without_the_axis_is_refused(form):
    with pytest.raises(UserError, match="'model'"):
        FORMS[form](make_inputs(8), LossSpec(block=1), mesh=make_mesh(), axis="model")


@pytest.mark.parametrize("name", ["dense", "sharded", "ring", "auto"])
def test_no_implementation_is_bound_to_a_mesh_without_the_axis(name):
    with pytest.raises(UserError, match="'model'"):
        losses.bind(LossSpec(implementation=name), make_mesh(), "model")


@both_forms
def test_a_missing_stream_is_named_before_anything_is_compiled(form):
    with pytest.raises(UserError, match="no text_feature:"):
        FORMS[form](make_inputs(8)._replace(text_feature=None), LossSpec(text=1.0, block=1), mesh=make_mesh())
