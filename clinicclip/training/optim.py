"""AdamW with warm-up and cosine decay, and what it leaves alone."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from clinicclip.errors import UserError

DECAYED = ("kernel", "embedding")  # what is multiplied with inputs; not norms, biases, bias tables, scales


def learning_rate(total_steps: int, peak: float, warmup_fraction: float) -> optax.Schedule:
    """Step -> rate: linear up over the first ``warmup_fraction`` of the run (never 0), then cosine to 0."""
    warmup = _warmup_steps(total_steps, warmup_fraction)

    def schedule(step: jax.Array | int) -> jax.Array:
        rising = (step + 1.0) / max(warmup, 1)
        done = (step - warmup) / max(total_steps - warmup, 1)
        falling = 0.5 * (1.0 + jnp.cos(math.pi * jnp.clip(done, 0.0, 1.0)))
        return peak * jnp.where(step < warmup, rising, falling)

    return schedule


def soft_share(total_steps: int, alpha: float, warmup_fraction: float) -> optax.Schedule:
    """Step -> alpha of the soft labels: up from 0 over ``warmup_fraction`` of the run, then level."""
    warmup = _warmup_steps(total_steps, warmup_fraction)

    def schedule(step: jax.Array | int) -> jax.Array:
        return alpha * jnp.clip(jnp.asarray(step, jnp.float32) / warmup if warmup else 1.0, 0.0, 1.0)

    return schedule


def make_optimizer(
    *,
    total_steps: int,
    lr: float,
    weight_decay: float,
    warmup_fraction: float,
    clip_norm: float,
    frozen: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Clipping by global norm (0 = none), then AdamW; parameters below a frozen path have no optimiser state.

    Raises:
        UserError: a number out of range here, or, when the state is made, a frozen path that holds nothing.
    """
    for name, value in {"lr": lr, "weight_decay": weight_decay, "clip_norm": clip_norm}.items():
        if not 0.0 <= value < math.inf:
            raise UserError(f"optim.{name}={value}: expected a finite number >= 0")
    adamw = optax.adamw(learning_rate(total_steps, lr, warmup_fraction), weight_decay=weight_decay, mask=decay_mask)
    chain = optax.chain(optax.clip_by_global_norm(clip_norm), adamw) if clip_norm else adamw
    if not frozen:
        return chain
    return optax.multi_transform(
        {"trained": chain, "frozen": optax.set_to_zero()}, lambda params: _labels(params, frozen)
    )


def decay_mask(params: PyTree) -> PyTree:
    """True for the parameters that weight decay pulls on."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path).split("/")[-1] in DECAYED, params)


def freeze(params: PyTree, frozen: Sequence[str]) -> PyTree:
    """The same parameters; those below a frozen path get no gradient."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.lax.stop_gradient(leaf) if _below(_name(path), frozen) else leaf, params
    )


def _labels(params: PyTree, frozen: Sequence[str]) -> PyTree:
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for prefix in frozen:
        if not any(_below(name, [prefix]) for name in names):
            raise UserError(f"frozen={prefix!r} holds no parameter: name a path such as 'text' or 'image/stage_0'")
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "frozen" if _below(_name(path), frozen) else "trained", params
    )


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(f"{name}/".startswith(f"{prefix}/") for prefix in prefixes)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _warmup_steps(total_steps: int, fraction: float) -> int:
    if total_steps < 1 or not 0.0 <= fraction <= 1.0:
        raise UserError(f"{total_steps} steps with warm-up {fraction}: expected at least 1 step and a fraction 0 to 1")
    return round(fraction * total_steps)
