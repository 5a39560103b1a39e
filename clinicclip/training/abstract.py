"""A training step of shapes without numbers: what it will hold in memory, measured before anything is allocated."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from clinicclip import losses
from clinicclip.losses import LossSpec
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import sharding
from clinicclip.training.embed import TOWER_KEYS, Batch, Embedded, embed
from clinicclip.training.step import Step, TrainState, loss_inputs

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype]]


class Memory(NamedTuple):
    """Bytes that one device holds while a step runs."""

    parameters: int
    optimiser: int
    batch: int
    temporaries: int  # everything else: gradients, saved activations, results that replace nothing

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def state(model: ClinicCLIP, tx: optax.GradientTransformation) -> TrainState:
    """The shapes of a fresh training state."""
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(tx.init, params))


def batch(shapes: Shapes) -> dict[str, jax.ShapeDtypeStruct]:
    """The same shapes as JAX takes them."""
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}


def compile_step(step: Step, state: TrainState, batch: Batch) -> jax.stages.Compiled:
    """The step, compiled for its mesh as a run compiles it."""
    lowerable: jax.stages.Wrapped = step  # what `make_train_step` returns is jitted
    return lowerable.lower(state, batch).compile()


def memory(compiled: jax.stages.Compiled, state: TrainState, batch: Batch) -> Memory:
    """What a compiled step holds, arguments by the way they are laid out over the devices."""
    laid, _ = compiled.input_shardings
    analysis = compiled.memory_analysis()
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(
        parameters=held(state.params, laid[0].params),
        optimiser=held(state.opt_state, laid[0].opt_state),
        batch=held(batch, laid[1]),
        temporaries=analysis.temp_size_in_bytes + fresh,
    )


def held(arrays: PyTree, shardings: PyTree) -> int:
    """Bytes of arrays on one device; an argument the step does not use has no sharding and is not held."""
    laid = jax.tree.map(
        lambda array, way: _bytes(way.shard_shape(array.shape), array.dtype) if way is not None else 0,
        arrays,
        shardings,
    )
    return sum(jax.tree.leaves(laid))


def saved(model: ClinicCLIP, params: PyTree, batch: Batch, spec: LossSpec) -> int:
    """Bytes that the towers' forward pass over a batch on one device saves for the backward pass, parameters too."""
    mesh = sharding.make_mesh(jax.devices()[:1])

    def backward(params: PyTree, batch: Batch, key: Array) -> PyTree:
        return jax.vjp(lambda params: embed(model, params, batch, key, spec, mesh=mesh), params)[1]

    residuals = jax.eval_shape(backward, params, batch, jax.random.key(0))
    return sum(_bytes(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(residuals))


def loss_temporaries(spec: LossSpec, mesh: Mesh, dim: int, batch: Batch) -> int:
    """Bytes a device holds while the loss of a batch and its gradient are computed, without the towers."""
    studies = batch["image"].shape[0]
    row = jax.ShapeDtypeStruct((studies, dim), jnp.float32)
    streams = row, row, row if spec.negation else None, row if spec.graph or spec.graph_stream else None
    beside = {name: array for name, array in batch.items() if name not in TOWER_KEYS}
    scalars = {"logit_scale": jnp.float32(0.0), "logit_bias": jnp.float32(0.0)}
    form = losses.bind(spec, mesh)

    def objective(embedded: Embedded, beside: Batch) -> Array:
        return form(loss_inputs(scalars, beside, embedded, spec))[0]

    gradient = jax.jit(jax.grad(objective), in_shardings=sharding.by_study(mesh))
    return gradient.lower(Embedded(*streams), beside).compile().memory_analysis().temp_size_in_bytes


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * jnp.dtype(dtype).itemsize
