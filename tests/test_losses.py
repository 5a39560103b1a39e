"""The dense loss is what its formulas say, and what is masked out of it is gone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_cases import DIFFERENTIABLE, EVERYTHING, MASKS, VARIANTS, make_inputs, reference, take

from clinicclip.errors import UserError
from clinicclip.losses import LossSpec, dense, soft_labels
from clinicclip.losses.soft_labels import Stream

SPECS = {**VARIANTS, "everything": EVERYTHING}
STUDIES = 16
loss = jax.jit(dense.loss, static_argnames="spec")
gradient = jax.jit(
    jax.grad(lambda arrays, rest, spec: dense.loss(rest._replace(**arrays), spec)[0]), static_argnames="spec"
)


def differentiate(inputs, spec, names=DIFFERENTIABLE):
    return gradient({name: getattr(inputs, name) for name in names}, inputs, spec)


@pytest.mark.parametrize("name", SPECS)
def test_value_and_metrics_equal_the_formulas_in_float64(name):
    inputs = make_inputs(STUDIES, seed=1)
    expected = reference(inputs, SPECS[name])
    _, metrics = loss(inputs, SPECS[name])
    assert expected.items() <= {**metrics, **expected}.items()
    for key, value in expected.items():
        np.testing.assert_allclose(metrics[key], value, rtol=2e-6, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["n_g_dtcg", "off_clip"])
def test_gradients_equal_finite_differences(name):
    inputs = make_inputs(6, seed=2)
    arrays = {key: getattr(inputs, key) for key in DIFFERENTIABLE}
    fixed = jax.jit(lambda arrays: dense.loss(inputs._replace(**arrays), SPECS[name])[0])
    check_grads(fixed, (arrays,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=3e-3)


def test_one_hot_targets_give_clip_loss():
    inputs = make_inputs(STUDIES)._replace(valid=None)
    logits = jnp.exp(inputs.logit_scale) * inputs.image @ inputs.text.T
    rows = jax.nn.log_softmax(logits, axis=1), jax.nn.log_softmax(logits, axis=0)
    expected = -0.5 * sum(jnp.mean(jnp.diag(row)) for row in rows)
    for spec in (LossSpec(), LossSpec(alpha=0.7), dataclasses.replace(VARIANTS["dt_c"], alpha=0.0)):
        np.testing.assert_allclose(loss(inputs, spec)[0], expected, rtol=1e-6)


def test_alpha_may_be_traced_and_stands_in_for_the_spec():
    inputs = make_inputs(STUDIES)
    np.testing.assert_array_equal(loss(inputs, VARIANTS["dt"], jnp.float32(0.4))[0], loss(inputs, VARIANTS["dt"])[0])
    np.testing.assert_allclose(
        loss(inputs, VARIANTS["dt"], jnp.float32(0.0))[0], loss(inputs, LossSpec())[0], rtol=1e-6
    )


@pytest.mark.parametrize("name", SPECS)
def test_deleting_invalid_rows_by_hand_changes_nothing(name):
    inputs = make_inputs(STUDIES, seed=3)
    kept = np.flatnonzero(inputs.valid)
    assert 0 < len(kept) < STUDIES
    deleted = take(inputs, kept)
    np.testing.assert_allclose(loss(inputs, SPECS[name])[0], loss(deleted, SPECS[name])[0], rtol=1e-6)


def test_deleting_invalid_rows_by_hand_changes_no_gradient():
    inputs = make_inputs(STUDIES, seed=3)
    kept = np.flatnonzero(inputs.valid)
    whole, small = differentiate(inputs, EVERYTHING), differentiate(take(inputs, kept), EVERYTHING)
    for name in DIFFERENTIABLE:
        part = whole[name][kept] if whole[name].ndim else whole[name]
        np.testing.assert_allclose(part, small[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_order_of_studies_changes_nothing():
    inputs = make_inputs(STUDIES)
    order = np.random.default_rng(0).permutation(STUDIES)
    straight, shuffled = loss(inputs, EVERYTHING), loss(take(inputs, order), EVERYTHING)
    for key, value in straight[1].items():
        np.testing.assert_allclose(shuffled[1][key], value, rtol=2e-6, atol=1e-6, err_msg=key)


def test_masked_rows_may_hold_nan():
    clean = make_inputs(STUDIES, seed=4)
    gone = ~clean.valid[:, None]
    poison = {name: jnp.where(gone, jnp.nan, getattr(clean, name)) for name in ("image", "text", "text_feature")}
    poison["graph"] = jnp.where(clean.graph_valid[:, None], clean.graph, jnp.nan)
    poison["negated"] = jnp.where(clean.negated_valid[:, None], clean.negated, jnp.nan)
    dirty = clean._replace(**poison, graph_feature=poison["graph"])
    np.testing.assert_array_equal(loss(dirty, EVERYTHING)[0], loss(clean, EVERYTHING)[0])
    for ours, theirs in zip(*(differentiate(x, EVERYTHING).values() for x in (dirty, clean)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rows", [0, 1])
def test_a_stream_with_no_or_one_valid_study_is_finite(mask, rows):
    inputs = make_inputs(STUDIES)._replace(**{mask: jnp.arange(STUDIES) < rows})
    value, metrics = loss(inputs, EVERYTHING)
    assert all(np.isfinite(part) for part in metrics.values())
    assert all(np.isfinite(part).all() for part in differentiate(inputs, EVERYTHING).values())
    if mask == "valid" and rows == 0:
        assert value == 0.0


def test_a_feature_that_is_not_finite_takes_its_study_out_of_the_stream():
    inputs = make_inputs(STUDIES)
    broken = inputs._replace(text_feature=inputs.text_feature.at[2].set(jnp.nan))
    masked = inputs._replace(text_valid=inputs.text_valid.at[2].set(False))
    np.testing.assert_array_equal(loss(broken, VARIANTS["dt_c"])[0], loss(masked, VARIANTS["dt_c"])[0])


def test_soft_label_sources_get_no_gradient():
    sources = ("text_feature", "labels", "graph_feature")
    for value in differentiate(make_inputs(STUDIES), EVERYTHING, sources).values():
        assert not value.any()


def test_negation_of_weight_one_is_negclip():
    inputs = make_inputs(STUDIES)._replace(valid=None, negated_valid=None)
    scale = jnp.exp(inputs.logit_scale)
    texts = jnp.concatenate([inputs.text, inputs.negated])
    there = jax.nn.log_softmax(scale * inputs.image @ texts.T, axis=1)[:, :STUDIES]
    back = jax.nn.log_softmax(scale * inputs.text @ inputs.image.T, axis=1)
    expected = -0.5 * (jnp.mean(jnp.diag(there)) + jnp.mean(jnp.diag(back)))
    np.testing.assert_allclose(loss(inputs, LossSpec(negation=1.0, neg_scope="all"))[0], expected, rtol=1e-6)


def test_negation_of_weight_zero_is_removed():
    inputs = make_inputs(STUDIES)
    np.testing.assert_array_equal(
        loss(inputs, LossSpec(negation=0.0))[0], loss(inputs._replace(negated=None), LossSpec())[0]
    )
    np.testing.assert_allclose(loss(inputs, LossSpec(negation=1e-9))[0], loss(inputs, LossSpec())[0], rtol=1e-6)


@pytest.mark.parametrize(("scope", "sees_others"), [("own", False), ("all", True)])
def test_an_image_sees_only_its_own_negated_report_unless_told_otherwise(scope, sees_others):
    inputs = make_inputs(STUDIES)._replace(valid=None, negated_valid=None)
    spec = LossSpec(negation=1.0, neg_scope=scope)
    others = inputs._replace(negated=inputs.negated.at[1:].multiply(-1.0))
    pulls = [differentiate(x, spec, ("image",))["image"][0] for x in (inputs, others)]
    assert bool(jnp.abs(pulls[0] - pulls[1]).max() > 1e-6) == sees_others


def test_a_study_without_a_finding_has_nobody_alike():
    labels = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    stream = soft_labels.stream(labels, jnp.ones(3, bool))
    similarity = soft_labels.similarity(stream, stream, 0.0)
    np.testing.assert_array_equal(similarity, jnp.diag(jnp.array([0.0, 0.0, 1.0])))


def test_features_that_all_look_alike_say_nothing():
    inputs = make_inputs(STUDIES)._replace(text_feature=jnp.ones((STUDIES, 5)))
    _, metrics = loss(inputs, VARIANTS["dt"])
    assert metrics["soft_labels/kept"] == 0.0
    np.testing.assert_allclose(metrics["soft_labels/diagonal_mass"], 1.0, rtol=1e-6)


def test_a_likeness_that_ties_with_theta_is_kept():
    labels = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    stream = {"clinical": soft_labels.stream(labels, jnp.ones(3, bool))}
    affinity = soft_labels.affinity(stream, stream, {}, {"clinical": 1.0}, "mean", 0.5, jnp.eye(3, dtype=bool))
    np.testing.assert_allclose(affinity, np.full((3, 3), 0.5) + 0.5 * np.eye(3), rtol=1e-6)


def test_targets_are_distributions_over_valid_columns_with_their_own_row_sums():
    inputs = make_inputs(STUDIES)
    block = dense.studies(inputs, EVERYTHING)
    same = jnp.eye(STUDIES, dtype=bool)
    offsets = dense.centres(dense.moments(block))
    affinity = soft_labels.affinity(block.streams, block.streams, offsets, EVERYTHING.streams, "mean", 0.2, same)
    np.testing.assert_allclose(affinity, affinity.T, atol=1e-6)
    target = np.asarray(soft_labels.targets(affinity, same, inputs.valid, 0.5))
    np.testing.assert_allclose(target.sum(axis=1)[inputs.valid], 1.0, rtol=1e-6)
    assert not target[:, ~inputs.valid].any()
    assert np.abs(target - target.T).max() > 0.01


def test_mean_cosine_counts_valid_pairs_only():
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32) + 0.5
    valid = np.arange(9) % 3 > 0
    stream = soft_labels.stream(jnp.asarray(features), jnp.asarray(valid))
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True))[valid]
    expected = (unit @ unit.T)[~np.eye(len(unit), dtype=bool)].mean()
    np.testing.assert_allclose(soft_labels.mean_cosine(soft_labels.moments(stream)), expected, rtol=1e-5)
    nobody = Stream(stream.feature * 0.0, stream.valid & False)
    assert soft_labels.mean_cosine(soft_labels.moments(nobody)) == 0.0


def test_bfloat16_embeddings_are_taken_in_float32():
    inputs = make_inputs(STUDIES)
    half = inputs._replace(image=inputs.image.astype(jnp.bfloat16), text=inputs.text.astype(jnp.bfloat16))
    value = loss(half, VARIANTS["dt_c"])[0]
    upcast = half._replace(image=half.image.astype(jnp.float32), text=half.text.astype(jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, loss(upcast, VARIANTS["dt_c"])[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 1.5},
        {"theta": -0.1},
        {"text": float("nan")},
        {"combine": "sum"},
        {"neg_scope": "others"},
        {"off_reduction": "mean"},
        {"implementation": "fast"},
        {"clip": 0.0},
    ],
)
def test_a_loss_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(UserError, match="loss"):
        LossSpec(**wrong)


@pytest.mark.parametrize(
    ("spec", "missing"),
    [
        (LossSpec(text=1.0), "text_feature"),
        (LossSpec(clinical=1.0), "labels"),
        (LossSpec(graph_stream=1.0), "graph_feature"),
        (LossSpec(graph=1.0), "graph"),
        (LossSpec(negation=1.0), "negated"),
        (LossSpec(off=1.0), "normal"),
        (LossSpec(entailment=1.0), "findings"),
        (LossSpec(entailment=1.0), "text_claims"),
        (LossSpec(entailment=1.0, negation=1.0), "negated_claims"),
    ],
)
def test_a_missing_stream_is_named_before_anything_is_compiled(spec, missing):
    with pytest.raises(UserError, match=f"no {missing}:"):
        dense.loss(make_inputs(4)._replace(**{missing: None}), spec)
