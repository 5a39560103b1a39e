"""Report graphs: RadGraph's form read, and padded to a fixed budget."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data.graphs import pad, parse, span_text
from clinicclip.data.schema import Graph
from clinicclip.errors import UserError


def entry(label: str = "OBS-DP") -> dict[str, Any]:
    return {
        "text": "small left pleural effusion . no pneumothorax",
        "entities": {
            "3": {"tokens": "pneumothorax", "label": "OBS-DA", "start_ix": 6, "end_ix": 6, "relations": []},
            "1": {
                "tokens": "effusion",
                "label": label,
                "start_ix": 3,
                "end_ix": 3,
                "relations": [["located_at", "2"]],
            },
            "2": {"tokens": "left pleural", "label": "ANAT-DP", "start_ix": 1, "end_ix": 2, "relations": []},
        },
    }


def test_an_entry_is_read_in_order_of_its_tokens() -> None:
    graph = parse(entry())
    assert span_text(graph) == ["left pleural", "effusion", "pneumothorax"]
    assert graph.types == (0, 1, 3)
    assert graph.edges == ((1, 0),)


@pytest.mark.parametrize(
    "label, index",
    [
        ("OBS-U", 2),
        ("Observation::uncertain", 2),
        ("Observation::definitely absent", 3),
        ("Observation::definitely present", 1),
        ("Observation::measurement::definitely present", 1),
        ("Anatomy::definitely present", 0),
    ],
)
def test_short_and_long_labels_are_one(label: str, index: int) -> None:
    assert parse(entry(label)).types[1] == index


def broken(field: str, value: Any) -> dict[str, Any]:
    bad = entry()
    bad["entities"]["1"][field] = value
    return bad


@pytest.mark.parametrize(
    "bad, words",
    [
        (broken("label", "OBS-XX"), "OBS-XX"),
        (broken("end_ix", 99), "spans tokens 3-99 of 7"),
        (broken("relations", [["modify", "9"]]), "entity 9"),
    ],
)
def test_an_entry_that_does_not_fit_is_one_clear_line_without_report_text(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse(bad, "s1.txt")
    assert "s1.txt" in str(caught.value) and "\n" not in str(caught.value)
    assert "effusion" not in str(caught.value)


GRAPH = Graph(tuple("abcdef"), ((2, 2), (0, 1), (4, 5)), (1, 0, 3), ((0, 1), (1, 0), (0, 1), (2, 2), (2, 0)))
FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)


def pairs(padded: Any, spare: int) -> set[tuple[int, int]]:
    both = zip(padded.senders.tolist(), padded.receivers.tolist(), strict=True)
    return {p for p in both if p != (spare, spare)}


def test_padding_symmetrises_dedups_and_points_at_the_spare_node() -> None:
    got = pad(GRAPH, FEATURES, nodes=5, edges=8)
    assert got.nodes.shape == (5, 6) and got.node_mask.tolist() == [True, True, True, False, False]
    np.testing.assert_array_equal(got.nodes[:3, :2], FEATURES[[1, 0, 2]])  # in order of first token
    np.testing.assert_array_equal(got.nodes[:3, 2:], np.eye(4, dtype=np.float32)[[0, 1, 3]])
    assert not got.nodes[3:].any()
    assert pairs(got, 4) == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert got.senders.tolist()[4:] == [4] * 4 and got.receivers.tolist()[4:] == [4] * 4
    assert got.valid and not got.cut


def test_a_graph_over_its_node_budget_keeps_the_first_tokens_and_says_so() -> None:
    got = pad(GRAPH, FEATURES, nodes=3, edges=8)
    assert got.node_mask.tolist() == [True, True, False] and got.cut
    assert pairs(got, 2) == {(0, 1), (1, 0)}


def test_a_graph_over_its_edge_budget_stays_symmetric() -> None:
    got = pad(GRAPH, FEATURES, nodes=5, edges=3)
    assert pairs(got, 4) == {(0, 1), (1, 0)} and got.cut


def test_no_graph_is_all_padding_and_not_valid() -> None:
    got = pad(Graph((), (), (), ()), np.zeros((0, 2), np.float32), nodes=3, edges=4)
    assert not got.valid and not got.cut and not got.node_mask.any() and not got.nodes.any()
    assert set(got.senders.tolist()) == {2}


def test_features_of_another_graph_are_refused() -> None:
    with pytest.raises(ValueError, match="2 feature rows for 3 graph nodes"):
        pad(GRAPH, FEATURES[:2], nodes=5, edges=8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
    st.integers(2, 8),
    st.integers(1, 12),
)
def test_every_budget_is_kept(count: int, edges: list[tuple[int, int]], nodes: int, budget: int) -> None:
    edges = [(a, b) for a, b in edges if a < count and b < count]
    graph = Graph(("t",) * 9, tuple((i, i) for i in range(count)), (1,) * count, tuple(edges))
    got = pad(graph, np.ones((count, 2), np.float32), nodes=nodes, edges=budget)
    assert got.nodes.shape == (nodes, 6) and len(got.senders) == len(got.receivers) == budget
    assert not got.node_mask[-1] and got.node_mask.sum() == min(count, nodes - 1)
    ends = pairs(got, nodes - 1)
    assert ends == {(b, a) for a, b in ends} and all(got.node_mask[a] and got.node_mask[b] for a, b in ends)
    neighbours = {frozenset(p) for p in edges if p[0] != p[1]}
    assert got.cut == (count > nodes - 1 or 2 * len(neighbours) > budget - budget % 2)
