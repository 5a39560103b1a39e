"""A training step of shapes without numbers: what it will hold in memory, measured before anything is allocated."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

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
from clinicclip.training.step import Step, TrainState, inputs_of

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype]]
Sizes = Mapping[str, jax.ShapeDtypeStruct]  # of a batch


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


class Growth(NamedTuple):
    """Bytes a device holds as the global batch grows: at no study, for each study, for each pair of studies.

    All pairs take no more than ``bound``, where the loss then turns to a form without them.
    """

    fixed: float
    each: float
    pair: float
    bound: float = math.inf

    def at(self, studies: int) -> float:
        """Of a batch."""
        return self.fixed + studies * self.each + min(studies**2 * self.pair, self.bound)

    def most(self, capacity: float, unit: int) -> int:
        """The largest batch, a multiple of ``unit``, that so many bytes a device hold; 0 when none."""
        low, high = 0, 1
        while self.at(high * unit) <= capacity and high < 2**30:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.at(middle * unit) <= capacity else (low, middle)
        return low * unit


def state(model: ClinicCLIP, tx: optax.GradientTransformation, mesh: Mesh, layout: str) -> TrainState:
    """The shapes of a fresh training state, laid out over the mesh as ``init_state`` lays it out."""
    params = jax.eval_shape(model.init, jax.random.key(0))["params"]
    made = TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(tx.init, params))
    where = sharding.layout(made, mesh, layout)
    return jax.tree.map(lambda leaf, way: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=way), made, where)


def batch(shapes: Shapes) -> Sizes:
    """The same shapes as JAX takes them."""
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}


def compile_step(step: Step, state: TrainState, batch: Sizes | Batch) -> jax.stages.Compiled:
    """The step, compiled for its mesh as a run compiles it; where a run has, nothing is compiled again."""
    lowerable: Any = step  # what `make_train_step` returns is jitted
    compiled: jax.stages.Compiled = lowerable.lower(state, batch).compile()
    return compiled


def memory(compiled: jax.stages.Compiled, state: TrainState, batch: Sizes) -> Memory:
    """What a compiled step holds, arguments by the way they are laid out over the devices."""
    laid, _ = compiled.input_shardings
    analysis: Any = compiled.memory_analysis()
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


def saved(model: ClinicCLIP, params: PyTree, batch: Sizes, spec: LossSpec) -> int:
    """Bytes that the towers' forward pass over a batch on one device saves for the backward pass, parameters too."""
    mesh = sharding.make_mesh(jax.devices()[:1])

    def backward(params: PyTree, batch: Batch, key: Array) -> PyTree:
        return jax.vjp(lambda params: embed(model, params, batch, key, spec, mesh=mesh), params)[1]

    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)  # wherever they live
    residuals = jax.eval_shape(backward, params, batch, jax.random.key(0))
    return sum(_bytes(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(residuals))


def growth(memory: Memory, batches: tuple[int, int], saved: tuple[int, int], loss: tuple[int, int]) -> Growth:
    """How memory grows, from a step measured at the first batch and from what both batches save and take in the loss.

    Temporaries are gradients, the towers' and the loss's. The gradients are half the optimiser's state, as AdamW
    keeps two numbers a parameter; the towers' grow as what their backward pass needs; the loss's
    have a linear and a quadratic part.
    """
    small, large = batches
    gradients = memory.optimiser / 2
    scale = max(0.0, memory.temporaries - gradients - loss[0]) / saved[0]
    towers = scale * (saved[1] - saved[0]) / (large - small)
    pair = max(0.0, (loss[1] / large - loss[0] / small) / (large - small))
    each = towers + loss[0] / small - pair * small + memory.batch / small
    return Growth(memory.total - small * (each + small * pair), each, pair)


def loss_temporaries(spec: LossSpec, mesh: Mesh, dim: int, batch: Sizes) -> int:
    """Bytes a device holds while the loss of a batch and its gradient are computed, without the towers."""
    studies = batch["image"].shape[0]
    row: Any = jax.ShapeDtypeStruct((studies, dim), jnp.float32)
    streams = row, row, row if spec.negation else None, row if spec.graph or spec.graph_stream else None
    beside = {name: array for name, array in batch.items() if name not in TOWER_KEYS}
    scalars = {"logit_scale": jnp.float32(0.0), "logit_bias": jnp.float32(0.0)}
    form = losses.bind(spec, mesh)

    def objective(embedded: Embedded, beside: Batch) -> Array:
        return form(inputs_of(scalars, beside, embedded, spec))[0]

    gradient = jax.jit(jax.grad(objective), in_shardings=sharding.by_study(mesh))
    analysis: Any = gradient.lower(Embedded(*streams), beside).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * int(dtype.itemsize)  # dropout's keys have a size too, but no NumPy type
