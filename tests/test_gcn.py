"""The graph tower: the dense formula, padding, and sharding over studies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from clinicclip.models.gcn import Gcn, GcnSpec

SPEC = GcnSpec(feature_width=6, hidden=8, width=5)
FEATURES = SPEC.feature_width + 4


def random_graph(rng, nodes):
    """Node features and an undirected edge list without doubles or loops."""
    pairs = np.argwhere(np.triu(rng.random((nodes, nodes)) < 0.4, 1))
    edges = np.concatenate([pairs, pairs[:, ::-1]])
    return rng.standard_normal((nodes, FEATURES)).astype(np.float32), edges


def padded(graphs, nodes, edges, noise=0.0):
    """The arrays the model reads; padding edges join the last node, which is padding."""
    rng = np.random.default_rng(9)
    count = len(graphs)
    features = noise * rng.standard_normal((count, nodes, FEATURES)).astype(np.float32)
    ends = np.full((2, count, edges), nodes - 1, np.int32)
    mask = np.zeros((count, nodes), bool)
    for i, (own, pairs) in enumerate(graphs):
        features[i, : len(own)], mask[i, : len(own)] = own, True
        ends[:, i, : len(pairs)] = pairs.T
    return tuple(map(jnp.asarray, (features.astype(np.float32), *ends, mask)))


def dense_reference(params, features, edges):
    """mean(A relu(A X W + b) W + b) with A = D^-1/2 (adjacency + I) D^-1/2."""
    adjacency = np.eye(len(features))
    adjacency[edges[:, 0], edges[:, 1]] = 1.0
    scale = adjacency.sum(1) ** -0.5
    adjacency = adjacency * scale[:, None] * scale[None, :]
    x = np.maximum(adjacency @ features @ params["conv_0"]["kernel"] + params["conv_0"]["bias"], 0)
    x = adjacency @ x @ params["conv_1"]["kernel"] + params["conv_1"]["bias"]
    return x.mean(0)


@pytest.fixture(scope="module")
def graphs():
    rng = np.random.default_rng(1)
    return [random_graph(rng, nodes) for nodes in (5, 1, 8, 3)]


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(2)
    widths = {"conv_0": (FEATURES, SPEC.hidden), "conv_1": (SPEC.hidden, SPEC.width)}
    return {
        name: {
            "kernel": rng.standard_normal(shape).astype(np.float32),
            "bias": rng.standard_normal(shape[1]).astype(np.float32),
        }
        for name, shape in widths.items()
    }


def embed(params, arrays):
    return jax.jit(lambda p, a: Gcn(SPEC).apply({"params": p}, *a))(params, arrays)


def test_the_tower_is_the_dense_formula(params, graphs):
    expected = [dense_reference(params, *graph) for graph in graphs]
    np.testing.assert_allclose(embed(params, padded(graphs, 10, 40)), expected, atol=1e-5)


def test_budget_and_padding_values_change_nothing(params, graphs):
    tight, wide = padded(graphs, 9, 30), padded(graphs, 20, 80, noise=3.0)
    np.testing.assert_allclose(embed(params, wide), embed(params, tight), atol=1e-5)

    def total(params, arrays):
        return (embed(params, arrays) ** 2).sum()

    a, b = jax.grad(total)(params, tight), jax.grad(total)(params, wide)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), a, b)


def test_a_study_without_graph_gives_zeros_and_a_finite_gradient(params, graphs):
    empty = (np.zeros((0, FEATURES), np.float32), np.zeros((0, 2), np.int64))
    arrays = padded([graphs[0], empty], 10, 40, noise=1.0)
    assert not np.asarray(embed(params, arrays))[1].any()
    gradient = jax.grad(lambda p: embed(p, arrays).sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_studies_shard_over_devices_without_communication(params, graphs):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    rows, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    arrays = padded(graphs, 10, 40)
    apply = jax.jit(lambda p, a: Gcn(SPEC).apply({"params": p}, *a), in_shardings=(whole, rows), out_shardings=rows)
    program = apply.lower(params, arrays).compile().as_text()
    assert not [name for name in ("all-gather", "all-reduce", "all-to-all", "permute(") if name in program]
    np.testing.assert_allclose(apply(params, arrays), embed(params, arrays), atol=1e-6)
