"""OFF-CLIP's two terms: normal studies are alike, abnormal ones are told apart among themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import make_inputs

from clinicclip.losses import LossSpec, dense

STUDIES = 12
OFF = LossSpec(clip=0.0, off=1.0)
ABNORMAL = LossSpec(clip=0.0, abnormal=1.0)
loss = jax.jit(lambda inputs, spec: dense.loss(inputs, spec)[0], static_argnames="spec")


@pytest.fixture
def inputs():
    return make_inputs(STUDIES)._replace(valid=None, normal_valid=None)


def logits(inputs):
    return np.exp(inputs.logit_scale) * np.asarray(inputs.image @ inputs.text.T)


def test_a_pair_is_a_match_on_the_diagonal_or_where_both_are_normal(inputs):
    z = logits(inputs) + np.asarray(inputs.logit_bias)
    normal = np.asarray(inputs.normal)
    match = np.eye(STUDIES, dtype=bool) | (normal[:, None] & normal[None, :])
    expected = np.where(match, np.logaddexp(0, -z), np.logaddexp(0, z)).sum() / STUDIES
    np.testing.assert_allclose(loss(inputs, OFF), expected, rtol=1e-6)


def test_without_normal_studies_it_is_the_pairwise_sigmoid_loss(inputs):
    z = logits(inputs) + np.asarray(inputs.logit_bias)
    expected = np.logaddexp(0, -z * (2 * np.eye(STUDIES) - 1)).sum() / STUDIES
    lonely = inputs._replace(normal=jnp.zeros(STUDIES, bool))
    np.testing.assert_allclose(loss(lonely, OFF), expected, rtol=1e-6)


def test_the_mean_over_pairs_is_the_sum_over_columns_divided_by_their_number(inputs):
    by_pairs = LossSpec(clip=0.0, off=1.0, off_reduction="pairs")
    np.testing.assert_allclose(loss(inputs, by_pairs) * STUDIES, loss(inputs, OFF), rtol=1e-6)


def test_a_study_not_known_to_be_normal_is_neither_normal_nor_abnormal(inputs):
    unknown = inputs._replace(normal_valid=jnp.arange(STUDIES) != 3)
    for said in (False, True):
        same = loss(unknown._replace(normal=inputs.normal.at[3].set(said)), OFF)
        np.testing.assert_allclose(same, loss(inputs._replace(normal=inputs.normal.at[3].set(False)), OFF), rtol=1e-6)
        left_out = unknown._replace(normal=inputs.normal.at[3].set(said))
        np.testing.assert_allclose(
            loss(left_out, ABNORMAL), loss(inputs._replace(normal=inputs.normal.at[3].set(True)), ABNORMAL), rtol=1e-6
        )


def test_abnormal_studies_are_contrasted_among_themselves_only(inputs):
    odd = ~np.asarray(inputs.normal)
    z = jnp.asarray(logits(inputs)[np.ix_(odd, odd)])
    expected = -0.5 * sum(jnp.mean(jnp.diag(jax.nn.log_softmax(z, axis=axis))) for axis in (0, 1))
    np.testing.assert_allclose(loss(inputs, ABNORMAL), expected, rtol=1e-6)


@pytest.mark.parametrize("abnormal", [0, 1])
def test_fewer_than_two_abnormal_studies_add_nothing(inputs, abnormal):
    few = inputs._replace(normal=jnp.arange(STUDIES) >= abnormal)
    value, slope = jax.value_and_grad(lambda image: loss(few._replace(image=image), ABNORMAL))(inputs.image)
    assert value == 0.0
    assert np.abs(slope).max() < 1e-6


def test_scale_and_bias_are_learnt(inputs):
    slope = functools.partial(jax.grad(lambda names, x: loss(x._replace(**names), OFF)))
    pull = slope({"logit_scale": inputs.logit_scale, "logit_bias": inputs.logit_bias}, inputs)
    assert all(np.isfinite(value) and value != 0.0 for value in pull.values())


def test_far_logits_stay_finite(inputs):
    steep = inputs._replace(logit_scale=jnp.float32(np.log(1e4)), logit_bias=jnp.float32(-1e4))
    assert np.isfinite(loss(steep, OFF))
    assert np.isfinite(jax.grad(lambda image: loss(steep._replace(image=image), OFF))(inputs.image)).all()
