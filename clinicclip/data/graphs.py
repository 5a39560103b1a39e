"""Report graphs in RadGraph's form, and their padded arrays of a fixed budget."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from clinicclip.data.schema import GRAPH_TYPES, Graph
from clinicclip.errors import UserError

# RadGraph 1.0 writes the short form; RadGraph-XL and the radgraph package "Observation::definitely absent".
_LONG_TYPES = {
    "anatomy": "ANAT-DP",
    "observation::definitely present": "OBS-DP",
    "observation::uncertain": "OBS-U",
    "observation::definitely absent": "OBS-DA",
}
NODES, EDGES = 64, 256  # the usual budgets of a study


class PaddedGraph(NamedTuple):
    """One report graph at a fixed budget; `valid` False: no graph, `cut` True: the budget was too small."""

    nodes: Float32[np.ndarray, "v w"]  # frozen span feature, then one-hot GRAPH_TYPES
    senders: Int32[np.ndarray, " e"]
    receivers: Int32[np.ndarray, " e"]
    node_mask: Bool[np.ndarray, " v"]
    valid: bool
    cut: bool


def _type_index(label: str, name: str) -> int:
    long = label.lower().replace("measurement::", "")
    short = _LONG_TYPES.get("anatomy" if long.startswith("anatomy") else long, label)
    if short not in GRAPH_TYPES:
        raise UserError(
            f"{name}: unknown entity label {label!r}; expected one of {', '.join(GRAPH_TYPES)} or "
            f"RadGraph-XL's long form"
        )
    return GRAPH_TYPES.index(short)


def parse(entry: Mapping[str, Any], name: str = "entry") -> Graph:
    """One RadGraph entry ({"text", "entities"}) as a `Graph` over RadGraph's own whitespace tokens.

    Nodes are in order of their first token. Raises: UserError opening with `name` for what is missing, and for a
    label, span or relation that does not fit. Source: Jain et al., RadGraph (NeurIPS 2021 datasets).
    """
    try:
        return _parse(entry, name)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        told = f"lacks {fault}" if isinstance(fault, KeyError) else "has a field of another type"
        raise UserError(f"{name} {told}; expected RadGraph's text and entities") from None


def _parse(entry: Mapping[str, Any], name: str) -> Graph:
    tokens = tuple(str(entry["text"]).split())
    entities = entry["entities"]
    order = sorted(entities, key=lambda k: (int(entities[k]["start_ix"]), int(entities[k]["end_ix"]), k))
    position = {k: i for i, k in enumerate(order)}
    spans, types, edges = [], [], []
    for key in order:
        entity = entities[key]
        start, end = int(entity["start_ix"]), int(entity["end_ix"])
        if not 0 <= start <= end < len(tokens):
            raise UserError(
                f"{name}: entity {key} spans tokens {start}-{end} of {len(tokens)}; the file does not fit its text"
            )
        spans.append((start, end))
        types.append(_type_index(str(entity["label"]), name))
        for _, target in entity["relations"]:
            if target not in position:
                raise UserError(f"{name}: entity {key} points at entity {target}, which does not exist")
            edges.append((position[key], position[target]))
    return Graph(tokens, tuple(spans), tuple(types), tuple(edges))


def span_text(graph: Graph) -> list[str]:
    """The words of every node, in node order."""
    return [" ".join(graph.tokens[start : end + 1]) for start, end in graph.spans]


def _undirected(edges: tuple[tuple[int, int], ...], kept: int) -> list[tuple[int, int]]:
    """Distinct neighbour pairs (low, high) among the first `kept` nodes; a node is not its own neighbour."""
    return sorted({(min(a, b), max(a, b)) for a, b in edges if a != b and max(a, b) < kept})


def cut(graph: Graph, *, nodes: int, edges: int) -> bool:
    """Whether `pad` would leave out nodes, or edges among those it keeps."""
    return _fit(graph, nodes, edges).cut


class _Fitted(NamedTuple):
    """What of a graph a budget holds."""

    order: list[int]  # the nodes kept
    pairs: list[tuple[int, int]]  # neighbours, as places in `order`
    cut: bool


def _fit(graph: Graph, nodes: int, edges: int) -> _Fitted:
    order = sorted(range(len(graph.spans)), key=lambda node: graph.spans[node][0])
    rank = {node: i for i, node in enumerate(order)}
    kept = min(len(order), nodes - 1)
    pairs = _undirected(tuple((rank[a], rank[b]) for a, b in graph.edges), kept)
    used = pairs[: edges // 2]
    return _Fitted(order[:kept], used, kept < len(order) or len(used) < len(pairs))


def pad(graph: Graph, features: Float32[np.ndarray, "n f"], *, nodes: int, edges: int) -> PaddedGraph:
    """The graph at `nodes` x `edges`: symmetrised, de-duplicated, without self loops (the GCN adds them).

    The last node is padding and is where padding edges start and end. Over budget, the first nodes - 1 in order
    of their first token are kept, then of the edges among them the first edges // 2 pairs, both ways each.
    Raises: ValueError when `features` has not one row a node.
    """
    if len(features) != len(graph.spans):
        raise ValueError(f"{len(features)} feature rows for {len(graph.spans)} graph nodes")
    fitted = _fit(graph, nodes, edges)
    table = np.zeros((nodes, features.shape[1] + len(GRAPH_TYPES)), np.float32)
    for row, node in enumerate(fitted.order):
        table[row, : features.shape[1]] = features[node]
        table[row, features.shape[1] + graph.types[node]] = 1.0
    ends = np.full((2, edges), nodes - 1, np.int32)
    if fitted.pairs:
        both = np.array(fitted.pairs + [(b, a) for a, b in fitted.pairs], np.int32).T
        ends[:, : both.shape[1]] = both
    kept = len(fitted.order)
    return PaddedGraph(table, ends[0], ends[1], np.arange(nodes) < kept, kept > 0, fitted.cut)
