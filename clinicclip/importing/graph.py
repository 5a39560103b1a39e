"""The graph tower of a foreign file: two convolutions and a projection, told by how their shapes chain."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError, listing
from clinicclip.importing.layout import Row, linear, role_of, shaped
from clinicclip.models.gcn import ENTITY_TYPES, GcnSpec
from clinicclip.models.torch_names import Leaf

# Of a linear layer, which has its outputs first whatever the shape; its bias is its own or the convolution's.
LINEAR = (".lin.weight", ".linear.weight")
KERNELS = (*LINEAR, ".weight", ".kernel")


class Convolution(NamedTuple):
    """One layer as stored; `outward` when outputs are the first axis of its kernel."""

    kernel: str
    bias: str
    inputs: int
    outputs: int
    outward: bool


class GraphReading(NamedTuple):
    """A graph tower and its leaves; `identity` when the file has no projection, since none is needed."""

    spec: GcnSpec
    leaves: tuple[Leaf, ...]
    identity: bool
    rows: tuple[Row, ...]


def find_graph(left: Mapping[str, np.ndarray], dim: int, source: str) -> GraphReading | None:
    """The graph tower among the arrays that no other part has claimed; None where no array is left.

    Raises UserError when what is left is no chain of two convolutions, or is one in two ways.
    """
    if not left:
        return None
    layers = [layer for key in left if (layer := _convolution(key, left, source)) is not None]
    chains = [(a, b) for a, b in itertools.permutations(layers, 2) if a.outputs == b.inputs and a.inputs > ENTITY_TYPES]
    if len(layers) != 2 or not chains:
        raise listing(
            f"{source}: holds arrays that are no part of image tower, text tower or graph tower", {"such": shaped(left)}
        )
    if len(chains) > 1:
        raise UserError(
            f"{source}: which graph layer comes first? {layers[0].kernel} and {layers[1].kernel} chain either way; "
            "leave the graph tower's arrays out, and it is begun afresh"
        )
    first, second = chains[0]
    leaves = [*_leaves(0, first), *_leaves(1, second)]
    rest = [key for key in left if key not in {key for leaf in leaves for key in leaf.keys}]
    fitting = [key for key in rest if sorted(left[key].shape) == sorted((dim, second.outputs))]
    projections = [key for key in fitting if role_of(key) in ("graph", None)]
    identity = not projections and second.outputs == dim
    if len(projections) > 1 or not (projections or identity):
        raise listing(
            f"{source}: which array maps the graph tower's {second.outputs} features to {dim}?",
            {"that fit": projections, "that are left": shaped({key: left[key] for key in rest})},
        )
    leaves += [linear("graph_projection/kernel", key, left[key].shape, second.outputs, source) for key in projections]
    spec = GcnSpec(feature_width=first.inputs - ENTITY_TYPES, hidden=first.outputs, width=second.outputs)
    what = f"GCN, nodes of {spec.feature_width} + {ENTITY_TYPES}, {spec.hidden}, {spec.width}"
    where, how = (projections[0], f"{spec.width} to {dim}") if projections else ("-", "none: as wide as the embedding")
    rows = (
        Row("graph tower", f"{first.kernel}, {second.kernel}", what, "shape"),
        Row("graph projection", where, how, "shape"),
    )
    return GraphReading(spec, tuple(leaves), identity, rows)


def _convolution(key: str, left: Mapping[str, np.ndarray], source: str) -> Convolution | None:
    """The layer a kernel with a bias beside it makes, its direction told by the bias."""
    stems = [key.removesuffix(ending) for ending in KERNELS if key.endswith(ending)]
    beside = next((f"{stem}.bias" for stem in stems if f"{stem}.bias" in left), None)
    if beside is None or left[key].ndim != 2 or left[beside].ndim != 1 or left[beside].size not in left[key].shape:
        return None
    rows, columns = left[key].shape
    if rows == columns and not key.endswith(LINEAR):
        raise UserError(
            f"{source}: {key} {left[key].shape} may map either way; save it as the weight of a linear layer"
        )
    outward = rows == left[beside].size
    return Convolution(key, beside, columns if outward else rows, left[beside].size, outward)


def _leaves(index: int, layer: Convolution) -> tuple[Leaf, Leaf]:
    kind = "dense" if layer.outward else "plain"
    return (
        Leaf(f"graph/conv_{index}/kernel", (layer.kernel,), kind, (layer.inputs, layer.outputs)),
        Leaf(f"graph/conv_{index}/bias", (layer.bias,), "plain", (layer.outputs,)),
    )
