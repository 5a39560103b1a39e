"""Full fine-tuning: an image tower and a new linear head learn labels, each finding by a logistic loss of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from clinicclip.models.clip import normalize_images
from clinicclip.models.swin import Swin, SwinSpec
from clinicclip.training.sharding import by_study, replicated
from clinicclip.training.step import TrainState

Batch = Mapping[str, Array]


class Classifier(NamedTuple):
    """A tower with a head: parameters are {"image": the tower's, "head": {"kernel", "bias"}}."""

    spec: SwinSpec
    dtype: str

    def start(self, image: PyTree, findings: int) -> PyTree:
        """The tower as it is, and a head that says one half to everything."""
        kernel = jnp.zeros((self.spec.out_width, findings), jnp.float32)
        return {"image": image, "head": {"kernel": kernel, "bias": jnp.zeros(findings, jnp.float32)}}

    def logits(
        self, params: PyTree, images: Array, drawn: Array | None = None, key: Array | None = None
    ) -> Float[Array, "b f"]:
        """Log-odds of grey images 0..255; in training ``drawn`` numbers them for stochastic depth from ``key``."""
        rngs = None if key is None else {"dropout": key}
        tower = Swin(self.spec, self.dtype)
        pooled, _ = tower.apply({"params": params["image"]}, normalize_images(images), drawn, rngs=rngs)
        return pooled @ params["head"]["kernel"] + params["head"]["bias"][None]


def masked_loss(
    logits: Float[Array, "b f"], labels: Float[Array, "b f"], known: Float[Array, "b f"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy in nats over the labels that are known (1; 0 = not); 0 where none is."""
    entropy = optax.sigmoid_binary_cross_entropy(logits, labels)
    return (entropy * known).sum() / jnp.maximum(known.sum(), 1.0)


Step = Callable[[TrainState, Batch, int], tuple[TrainState, Array]]
Scorer = Callable[[PyTree, Array], Array]


def make_step(classifier: Classifier, tx: optax.GradientTransformation, mesh: Mesh) -> Step:
    """The compiled (state, {"image", "labels", "known"}, seed) -> (state, loss); the state passed in is given up."""

    def step(state: TrainState, batch: Batch, seed: Array) -> tuple[TrainState, Array]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def objective(params: PyTree) -> Array:
            drawn = jnp.arange(batch["image"].shape[0])
            return masked_loss(classifier.logits(params, batch["image"], drawn, key), batch["labels"], batch["known"])

        loss, gradient = jax.value_and_grad(objective)(state.params)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), loss

    whole: Any = replicated(mesh)
    return jax.jit(step, in_shardings=(whole, by_study(mesh), whole), out_shardings=whole, donate_argnums=0)


def make_scorer(classifier: Classifier, mesh: Mesh) -> Scorer:
    """The compiled (params, images) -> log-odds [b, f]."""
    whole, split = replicated(mesh), by_study(mesh)
    return jax.jit(classifier.logits, in_shardings=(whole, split), out_shardings=split)
