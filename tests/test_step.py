"""A training step gives the same result however the batch is ordered, packed, split over devices or cut in pieces."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from clinicclip import losses
from clinicclip.data.packing import pack
from clinicclip.errors import UserError
from clinicclip.losses import LossSpec
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClinicCLIP, ClipSpec, init_params
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec
from clinicclip.training import abstract, sharding
from clinicclip.training.embed import embed
from clinicclip.training.optim import make_optimizer, soft_share
from clinicclip.training.sharding import by_study, make_mesh, microbatches, place, text_groups
from clinicclip.training.step import init_state, inputs_of, make_train_step

STUDIES, VOCABULARY, LENGTH = 40, 20, 12
LOSS = LossSpec(
    alpha=0.4, theta=0.2, text=1.0, clinical=1.0, graph_stream=1.0, graph=1.0, negation=1.0, neg_scope="all"
)


def clip_spec(depth: int = 0, dropout: float = 0.0, text_frozen: bool = False) -> ClipSpec:
    """The real towers, as shallow as they go: embeddings, norms, pooling and projections remain at depth 0."""
    image = SwinSpec(8, patch_size=2, window_size=2, embed_dim=4, depths=(depth,), heads=(2,), drop_path=0.0)
    text = BertSpec(VOCABULARY, 8, depth, 2, 16, max_positions=LENGTH, dropout=dropout, pooling="mean")
    return ClipSpec(image, text, GcnSpec(4, 8, 8), dim=8, text_frozen=text_frozen)


def make_batch(devices: int, microbatch: int = 0, seed: int = 0, order: np.ndarray | None = None) -> dict:
    """A random host batch whose texts are packed for so many devices and pieces."""
    rng = np.random.default_rng(seed)
    order = np.arange(STUDIES) if order is None else order
    groups = text_groups(STUDIES, microbatch, devices)
    nodes = rng.normal(size=(STUDIES, 5, 8)).astype(np.float32)
    edges = rng.integers(0, 4, (2, STUDIES, 6)).astype(np.int32)
    batch = {
        "image": rng.integers(0, 256, (STUDIES, 8, 8)).astype(np.uint8),
        "text_feature": rng.normal(size=(STUDIES, 6)).astype(np.float32),
        "labels": (rng.random((STUDIES, 14)) < 0.3).astype(np.float32),
        "graph_nodes": nodes,
        "graph_senders": np.concatenate(edges[:2], axis=1),
        "graph_receivers": np.concatenate(edges[::-1], axis=1),
        "graph_mask": np.tile(np.arange(5) < 4, (STUDIES, 1)),
    }
    for mask in ("text_valid", "labels_valid", "graph_valid", "negated_valid"):
        batch[mask] = rng.random(STUDIES) < 0.8
    batch = {name: array[order] for name, array in batch.items()}
    texts = [[[2, *rng.integers(4, VOCABULARY, rng.integers(1, 6)).tolist(), 3] for _ in range(STUDIES)] for _ in "tn"]
    dealt = np.reshape(order, (groups, -1))
    packed = pack([kind[i] for group in dealt for kind in texts for i in group], length=LENGTH, groups=groups)
    batch |= {f"text_{part}": getattr(packed, part) for part in ("ids", "owner", "position")}
    starts = packed.start.reshape(groups, 2, -1)
    return batch | {"text_start": starts[:, 0].reshape(-1), "negated_start": starts[:, 1].reshape(-1)}


def optimizer(frozen: tuple[str, ...] = ()):
    return make_optimizer(total_steps=40, lr=1e-2, weight_decay=1e-4, warmup_fraction=0.1, clip_norm=1.0, frozen=frozen)


@functools.cache
def parameters(spec: ClipSpec):
    """Small maps (0.02): attention stays even, so that what Adam makes of rounding in its gradients stays small."""

    def small(path, leaf):
        if path[-1].key != "kernel" or path[0].key.endswith("_projection"):
            return leaf
        return leaf * np.float32(0.02 * math.prod(leaf.shape[:-1]) ** 0.5)

    return jax.tree_util.tree_map_with_path(small, init_params(spec, 0))


@functools.cache
def stepper(spec: ClipSpec, devices: int, microbatch: int = 0, **settings):
    mesh = make_mesh(jax.devices()[:devices])
    settings = {"loss_spec": LOSS, "seed": 0, **settings}
    tx = optimizer(settings.get("frozen", ()))
    return mesh, tx, make_train_step(ClinicCLIP(spec), tx, mesh=mesh, microbatch=microbatch, **settings)


def run(spec: ClipSpec, devices: int, microbatch: int = 0, steps: int = 3, order=None, **settings):
    """Parameters and losses after a few steps, each on another batch."""
    mesh, tx, step = stepper(spec, devices, microbatch, **settings)
    state, losses = init_state(parameters(spec), tx, mesh, settings.get("layout", "replicated")), []
    for seed in range(steps):
        state, metrics = step(state, place(make_batch(devices, microbatch, seed, order), mesh))
        losses.append(metrics["loss"])
    return jax.device_get(state), np.asarray(losses), jax.device_get(metrics)


def assert_same_run(ours, theirs) -> None:
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-6)
    for one, other in zip(*map(jax.tree.leaves, (ours[0].params, theirs[0].params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("devices", "microbatch", "form"), [(5, 0, "sharded"), (2, 5, "ring")])
def test_devices_packing_microbatches_and_the_form_of_the_loss_change_nothing(devices, microbatch, form):
    loss = dataclasses.replace(LOSS, implementation=form, block=3)
    assert_same_run(run(clip_spec(), devices, microbatch, loss_spec=loss), run(clip_spec(), 1))


def test_the_order_of_studies_changes_nothing():
    order = np.random.default_rng(9).permutation(STUDIES)
    assert_same_run(run(clip_spec(), 1, order=order), run(clip_spec(), 1))


def test_whole_towers_on_eight_devices_in_microbatches_with_their_blocks_computed_again_equal_one_device():
    settings, spec = {"steps": 2, "loss_spec": LossSpec(negation=1.0)}, clip_spec(depth=1)
    again = dataclasses.replace(spec, remat=True)
    assert_same_run(run(again, 8, 1, **settings), run(spec, 1, **settings))


def test_metrics_are_finite_scalars():
    state, _, metrics = run(clip_spec(), 1)
    assert {"loss", "loss/clip", "loss/graph", "grad_norm", "finite", "alpha", "accuracy/i2t"} <= metrics.keys()
    assert all(np.shape(value) == () and np.isfinite(value) for value in metrics.values())
    assert metrics["finite"] and state.step == 3


def test_it_learns_to_tell_the_studies_of_one_batch_apart():
    mesh, tx, step = stepper(clip_spec(), 1)
    state, batch = init_state(parameters(clip_spec()), tx, mesh), place(make_batch(1), mesh)
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss/clip"]))
    assert losses[-1] < losses[0] - 0.3


def test_parameters_given_to_a_run_are_not_given_up():
    before = jax.tree.map(np.array, parameters(clip_spec()))
    run(clip_spec(), 1)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(parameters(clip_spec())))


def test_a_step_that_is_not_finite_says_so_and_leaves_the_state():
    mesh, tx, step = stepper(clip_spec(), 1)
    state = init_state(parameters(clip_spec()), tx, mesh)
    before = jax.tree.map(np.array, state)
    batch = make_batch(1)
    batch["graph_nodes"][3] = np.nan
    batch["graph_valid"][3] = True
    state, metrics = step(state, place(batch, mesh))
    assert not metrics["finite"]
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state))


def test_frozen_parts_stay_and_temperature_learns_only_when_told():
    spec = clip_spec(text_frozen=True)
    live = LossSpec(alpha=0.4, text=1.0, live_text=True)
    start = parameters(spec)
    state, _, metrics = run(spec, 1, loss_spec=live, learn_tau=True, frozen=("text",), alpha_schedule=ramp)
    jax.tree.map(np.testing.assert_array_equal, state.params["text"], jax.device_get(start["text"]))
    assert np.abs(state.params["text_projection"]["kernel"] - start["text_projection"]["kernel"]).max() > 1e-3
    assert state.params["logit_scale"] != start["logit_scale"]
    assert run(clip_spec(), 1)[0].params["logit_scale"] == parameters(clip_spec())["logit_scale"]
    np.testing.assert_allclose(metrics["alpha"], 0.2, rtol=1e-6)


def test_states_of_a_frozen_tower_take_the_place_of_its_texts():
    spec, batch = clip_spec(text_frozen=True), jax.tree.map(jnp.asarray, make_batch(2, 10))
    params, groups = jax.tree.map(jnp.asarray, parameters(spec)), text_groups(STUDIES, 10, 2)
    kinds = ("text", "negated")

    def pooled(model, ids, owner, position, start):
        return model.text.pool(model.text(ids, owner, position), owner, start, groups)

    @jax.jit
    def embedded(batch):
        mesh = make_mesh(jax.devices()[:2])
        return embed(ClinicCLIP(spec), params, batch, jax.random.key(0), LOSS, mesh=mesh, microbatch=10)

    rows = (batch[f"text_{part}"] for part in ("ids", "owner", "position"))
    starts = jnp.stack([batch[f"{kind}_start"].reshape(groups, -1) for kind in kinds], axis=1)
    states = ClinicCLIP(spec).apply({"params": params}, *rows, starts.reshape(-1), method=pooled)
    states = states.reshape(groups, 2, -1, 8).swapaxes(0, 1).reshape(2, STUDIES, 8)
    known = {name: array for name, array in batch.items() if name.partition("_")[0] not in kinds}
    known |= {f"{kind}_state": each for kind, each in zip(kinds, states, strict=True)}
    for ours, theirs in zip(embedded(known), embedded(batch), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def ramp(step):
    return soft_share(total_steps=40, alpha=0.4, warmup_fraction=0.1)(step)


def test_embeddings_and_gradients_keep_their_dropout_in_microbatches_and_on_devices():
    # Norms over 4 channels amplify rounding; 32 do not. The first block of an image tower drops nothing.
    devices, microbatch, spec = 2, 10, clip_spec(depth=1, dropout=0.4)
    image = dataclasses.replace(spec.image, embed_dim=32, depths=(2,), drop_path=0.4)
    spec = dataclasses.replace(spec, image=image)
    params, batch = init_params(spec, 0), jax.tree.map(jnp.asarray, make_batch(devices, microbatch))
    groups = text_groups(STUDIES, microbatch, devices)

    def whole_loss(params, key, devices, microbatch):
        mesh = make_mesh(jax.devices()[:devices])
        embedded = embed(ClinicCLIP(spec), params, batch, key, LOSS, mesh=mesh, microbatch=microbatch, groups=groups)
        return losses.dense.loss(inputs_of(params, batch, embedded, LOSS), LOSS)[0], embedded

    grad = jax.jit(jax.value_and_grad(whole_loss, has_aux=True), static_argnums=(2, 3))
    (loss, embedded), gradient = jax.device_get(grad(params, jax.random.key(3), devices, microbatch))
    (expected_loss, expected), slope = jax.device_get(grad(params, jax.random.key(3), 1, 0))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for ours, theirs in zip(embedded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(slope))
    for ours, theirs in zip(*map(jax.tree.leaves, (gradient, slope)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(min(1.0, 1e-2 * largest), np.abs(theirs).max()))
    (_, other), _ = jax.device_get(grad(params, jax.random.key(4), 1, 0))
    assert all(np.abs(getattr(other, name) - getattr(expected, name)).max() > 0.01 for name in ("image", "text"))


def test_parameters_and_optimiser_state_split_over_devices_change_nothing(monkeypatch):
    monkeypatch.setattr(sharding, "LEAST", 32)
    spec = clip_spec(depth=1)
    mesh, tx, step = stepper(spec, 8, 1, layout="fsdp")
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(init_params(spec, 0)))  # on no device yet
    state = init_state(parameters(spec), tx, mesh, "fsdp")
    whole = init_state(parameters(spec), tx, mesh)

    def bytes_of(state):
        return sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(state))

    assert bytes_of(state) < 0.4 * bytes_of(whole)
    after, _ = step(state, place(make_batch(8, 1), mesh))
    assert [leaf.sharding for leaf in jax.tree.leaves(after)] == [
        leaf.sharding for leaf in jax.tree.leaves(init_state(parameters(spec), tx, mesh, "fsdp"))
    ]
    ours, theirs = run(spec, 8, 1, steps=2, layout="fsdp"), run(spec, 8, steps=2)
    assert_same_run(ours, theirs)
    for one, other in zip(*map(jax.tree.leaves, (ours[0].opt_state, theirs[0].opt_state)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_layout_goes_by_path_and_shape():
    mesh = make_mesh()
    tree = {
        "kernel": np.zeros((96, 3072)),
        "tall": np.zeros((3072, 96)),
        "odd": np.zeros((769, 771)),
        "bias": np.zeros(8192),
        "small": np.zeros((8, 8)),
        "relative_position_bias_table": np.zeros((4096, 8)),
    }
    found = {name: place.spec for name, place in sharding.layout(tree, mesh, "fsdp").items()}
    cut = {name for name, spec in found.items() if spec != jax.sharding.PartitionSpec()}
    assert cut == {"kernel", "tall"}
    assert found["kernel"] == jax.sharding.PartitionSpec(None, "data")
    assert found["tall"] == jax.sharding.PartitionSpec("data")
    assert sharding.gather({"tall": jax.device_put(tree["tall"], sharding.layout(tree, mesh, "fsdp")["tall"])}, mesh)[
        "tall"
    ].is_fully_replicated
    with pytest.raises(UserError, match="layout='zero'"):
        sharding.layout(tree, mesh, "zero")


def test_a_batch_is_placed_in_order_with_a_share_for_every_device():
    mesh = make_mesh()
    placed = place({"x": np.arange(16)}, mesh)["x"]
    np.testing.assert_array_equal(placed, np.arange(16))
    assert placed.sharding == by_study(mesh)
    assert [shard.data.shape for shard in placed.addressable_shards] == [(2,)] * 8


@pytest.mark.parametrize("array", [np.zeros((12, 2)), np.zeros((0, 2)), np.zeros(()), np.array(["id"] * 8)], ids=str)
def test_an_array_that_cannot_be_placed_is_named(array):
    with pytest.raises(UserError, match="'x'"):
        place({"x": array}, make_mesh())


@pytest.mark.parametrize(("studies", "microbatch"), [(42, 0), (0, 0), (40, 3), (40, -1)])
def test_a_batch_that_does_not_divide_is_refused(studies, microbatch):
    with pytest.raises(UserError, match="does not divide"):
        microbatches(studies, microbatch, 8)


@pytest.mark.parametrize("key", ["image", "text_start", "negated_start", "graph_nodes", "labels", "text_feature"])
def test_a_batch_without_an_array_is_told_which(key):
    mesh, tx, step = stepper(clip_spec(), 1)
    batch = make_batch(1)
    del batch[key]
    with pytest.raises(UserError, match=f"the batch has no {key}: supply it"):
        jax.eval_shape(step, abstract.state(ClinicCLIP(clip_spec()), tx, mesh, "replicated"), batch)


def test_a_model_without_the_tower_of_a_weight_is_refused():
    spec = dataclasses.replace(clip_spec(), graph=None)
    mesh, tx, step = stepper(spec, 1)
    with pytest.raises(UserError, match=r"loss\.graph is above 0 but the model has no graph tower"):
        jax.eval_shape(step, abstract.state(ClinicCLIP(spec), tx, mesh, "replicated"), make_batch(1))


def test_a_mesh_of_other_axes_is_refused_before_anything_is_traced():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    with pytest.raises(UserError, match=r"'model'.*not 'data': make it with make_mesh"):
        make_train_step(ClinicCLIP(clip_spec()), optimizer(), LOSS, mesh, seed=0)


def test_text_groups_are_one_for_each_device_and_microbatch():
    assert text_groups(40, 0, 8) == 8
    assert text_groups(40, 5, 2) == 8
