"""The optimiser: who decays, who is frozen, how the rate and the soft share move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clinicclip.errors import UserError
from clinicclip.training.optim import learning_rate, make_optimizer, soft_share

PARAMS = {
    "image": {
        "stage_0": {"attn": {"relative_position_bias_table": jnp.ones((9, 2))}, "mlp": {"kernel": jnp.ones((2, 2))}},
        "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
    },
    "text": {"embeddings": {"word_embeddings": {"embedding": jnp.ones((3, 2))}}, "fc1": {"bias": jnp.ones(2)}},
    "text_projection": {"kernel": jnp.ones((2, 2))},
    "graph": {"bias_0": jnp.ones(2)},
    "logit_scale": jnp.ones(()),
    "logit_bias": jnp.ones(()),
}
SETTINGS = {"total_steps": 10, "lr": 0.1, "weight_decay": 0.5, "warmup_fraction": 0.0, "clip_norm": 1.0}


def named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def updates(gradient, **settings):
    tx = make_optimizer(**{**SETTINGS, **settings})
    return named(jax.jit(tx.update)(gradient, tx.init(PARAMS), PARAMS)[0])


def test_only_kernels_and_embeddings_decay():
    moved = {name for name, step in updates(jax.tree.map(jnp.zeros_like, PARAMS)).items() if step.any()}
    assert moved == {
        "image/stage_0/mlp/kernel",
        "text/embeddings/word_embeddings/embedding",
        "text_projection/kernel",
    }


def test_frozen_paths_stay_and_have_no_optimiser_state():
    frozen = ("text", "image/stage_0", "logit_scale")
    still = {name for name, step in updates(PARAMS, frozen=frozen).items() if not step.any()}
    assert still == {name for name in named(PARAMS) if f"{name}/".startswith(tuple(f"{path}/" for path in frozen))}
    assert "text_projection/kernel" not in still
    tx = make_optimizer(**SETTINGS, frozen=frozen)
    moments = [name for name in named(tx.init(PARAMS)) if "/mu/" in name]
    assert len(moments) == len(named(PARAMS)) - len(still)


def test_a_frozen_path_that_holds_nothing_is_refused():
    with pytest.raises(UserError, match="'txt' holds no parameter"):
        make_optimizer(**SETTINGS, frozen=("txt",)).init(PARAMS)


def test_it_is_adamw_on_gradients_clipped_by_global_norm():
    gradient = jax.tree.map(lambda leaf: 7.0 * leaf, PARAMS)
    clipped, _ = optax.clip_by_global_norm(1.0).update(gradient, optax.EmptyState())
    expected = updates(clipped, clip_norm=0.0)
    for name, step in updates(gradient).items():
        np.testing.assert_allclose(step, expected[name], rtol=1e-5, err_msg=name)


def test_the_rate_rises_to_its_peak_and_falls_to_zero_as_a_cosine():
    schedule = learning_rate(total_steps=100, peak=2.0, warmup_fraction=0.1)
    np.testing.assert_allclose([schedule(s) for s in (0, 4, 9, 10)], [0.2, 1.0, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose([schedule(s) for s in (55, 100)], [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(learning_rate(100, 2.0, 0.0)(0), 2.0)


def test_the_soft_share_warms_up_from_zero():
    schedule = soft_share(total_steps=100, alpha=0.4, warmup_fraction=0.2)
    np.testing.assert_allclose([schedule(s) for s in (0, 10, 20, 99)], [0.0, 0.2, 0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(soft_share(100, 0.4, 0.0)(0), 0.4, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"total_steps": 0}, {"warmup_fraction": 1.5}, {"lr": -1.0}, {"weight_decay": float("nan")}, {"clip_norm": -1.0}],
)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        make_optimizer(**{**SETTINGS, **wrong})
