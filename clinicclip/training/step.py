"""One training step: embed, loss, gradients, update, as one compiled function over a mesh."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from clinicclip import losses
from clinicclip.losses import Inputs, LossSpec, Metrics
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import sharding
from clinicclip.training.embed import Batch, Embedded, embed
from clinicclip.training.optim import freeze
from clinicclip.training.sharding import by_study, replicated


@flax.struct.dataclass
class TrainState:
    """All that a run changes: steps done, parameters, optimiser state."""

    step: PyTree
    params: PyTree
    opt_state: PyTree


Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def init_state(params: PyTree, tx: optax.GradientTransformation, mesh: Mesh, layout: str = "replicated") -> TrainState:
    """The state before the first step, laid out over the mesh (see ``sharding.layout``), no device holding more."""

    def fresh(params: PyTree) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))

    where = sharding.layout(jax.eval_shape(fresh, params), mesh, layout)
    return jax.jit(fresh, out_shardings=where)(sharding.lay_out(params, where.params))


def make_train_step(
    model: ClinicCLIP,
    tx: optax.GradientTransformation,
    loss_spec: LossSpec,
    mesh: Mesh,
    *,
    seed: int,
    microbatch: int = 0,
    groups: int = 0,
    alpha_schedule: optax.Schedule | None = None,
    learn_tau: bool = False,
    layout: str = "replicated",
    frozen: Sequence[str] = (),
) -> Step:
    """The compiled (state, batch) -> (state, metrics); the state passed in is given up.

    The batch is split over the devices. Parameters and optimiser state live where ``layout`` says; with "fsdp" each
    device keeps and updates its share, and the whole parameters exist only while a step needs them. Dropout is a
    function of the seed, the step and the place in the batch, for an image that of its study, for a text that of its
    packed row: with the texts packed in the same ``groups``, neither devices nor ``microbatch`` change what is drawn.
    Metrics are scalars; where ``finite`` is False, the loss or the gradient held something else than finite
    numbers and the returned state is the one passed in.

    Raises:
        UserError: the mesh has no axis "data"; (when traced) the batch or the model lacks what the loss needs, or the
            batch does not divide.
    """
    loss_fn = losses.bind(loss_spec, mesh, sharding.AXIS)
    fixed = (*frozen, *(() if learn_tau else ("logit_scale",)))

    def laid_out(tree: PyTree) -> PyTree:
        return jax.lax.with_sharding_constraint(tree, sharding.layout(tree, mesh, layout))

    def objective(params: PyTree, batch: Batch, key: Array, alpha: Array | float) -> tuple[Array, Metrics]:
        params = jax.lax.with_sharding_constraint(freeze(params, fixed), replicated(mesh))
        embedded = embed(model, params, batch, key, loss_spec, mesh=mesh, microbatch=microbatch, groups=groups)
        return loss_fn(inputs_of(params, batch, embedded, loss_spec), alpha)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        alpha = alpha_schedule(state.step) if alpha_schedule else loss_spec.alpha
        grad = jax.value_and_grad(objective, has_aux=True)
        (loss, metrics), gradient = grad(state.params, batch, key, alpha)
        gradient = laid_out(gradient)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        new = TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state)
        new = laid_out(jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state))
        metrics |= {
            "alpha": jnp.asarray(alpha, jnp.float32),
            "grad_norm": norm,
            "logit_scale": state.params["logit_scale"],
            "finite": finite,
        }
        return new, metrics

    return jax.jit(train_step, in_shardings=(None, by_study(mesh)), donate_argnums=0)


def inputs_of(params: PyTree, batch: Batch, embedded: Embedded, spec: LossSpec) -> Inputs:
    """The loss's arrays from a batch and its embeddings."""
    streams = ("valid", "text_feature", "text_valid", "labels", "labels_valid", "graph_valid", "negated_valid")
    claims = ("findings", "text_claims", "negated_claims")
    given: dict[str, Any] = {name: batch.get(name) for name in (*streams, *claims, "normal", "normal_valid")}
    if spec.live_text:
        given |= {"text_feature": embedded.text, "text_valid": None}
    return Inputs(
        **embedded._asdict(),
        **given,
        graph_feature=embedded.graph,
        logit_scale=params["logit_scale"],
        logit_bias=params["logit_bias"],
    )
