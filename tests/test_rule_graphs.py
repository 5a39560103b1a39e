"""Graphs built by rules: RadGraph's form, from any text, the same every time, and close to the phantom's truth."""

from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip.data import graph_words, rule_graphs, text
from clinicclip.data.graphs import span_text
from clinicclip.data.mentions import describe
from clinicclip.data.phantom import patients, world
from clinicclip.data.phantom.report import write
from clinicclip.data.schema import GRAPH_TYPES, Graph

# sentence, nodes as word:type (A anatomy, P present, U uncertain, N absent), edges
CASES = (
    ("The lungs are clear.", "lungs:A clear:P", "clear>lungs"),
    ("The heart is mildly enlarged.", "heart:A mildly:P enlarged:P", "mildly>enlarged enlarged>heart"),
    ("No pneumothorax.", "pneumothorax:N", ""),
    ("No focal consolidation.", "focal:N consolidation:N", "focal>consolidation"),
    (
        "Small left pleural effusion.",
        "Small:P left:A pleural:A effusion:P",
        "Small>effusion left>pleural effusion>pleural",
    ),
    ("Moderate right effusion.", "Moderate:P right:A effusion:P", "Moderate>effusion effusion>right"),
    ("Possible effusion at the right base.", "effusion:U right:A base:A", "right>base effusion>base"),
    ("Opacity or edema at the left base.", "Opacity:P edema:P left:A base:A", "Opacity>base edema>base left>base"),
    (
        "Patchy opacity in the left lobe may represent pneumonia.",
        "Patchy:P opacity:P left:A lobe:A pneumonia:U",
        "Patchy>opacity left>lobe opacity>lobe opacity>pneumonia pneumonia>lobe",
    ),
    ("Left and right lungs are clear.", "Left:A right:A lungs:A clear:P", "Left>lungs right>lungs clear>lungs"),
    ("Heart and mediastinum are normal.", "Heart:A mediastinum:A normal:P", "normal>Heart normal>mediastinum"),
    ("Heart and mediastinum normal.", "Heart:A mediastinum:A normal:P", "normal>Heart normal>mediastinum"),
    ("Lungs are clear bilaterally.", "Lungs:A clear:P bilaterally:A", "bilaterally>Lungs clear>Lungs"),
    (
        "Nodules are scattered throughout the lungs.",
        "Nodules:P scattered:P lungs:A",
        "scattered>Nodules Nodules>lungs",
    ),
    ("Mild to moderate edema.", "Mild:P moderate:P edema:P", "Mild>edema moderate>edema"),
    ("Effusion is seen on the lateral view.", "Effusion:P", ""),
    (
        "No definite radiographic evidence of active pulmonary disease.",
        "active:N pulmonary:A disease:N",
        "active>disease disease>pulmonary",
    ),
    ("Tortuous aorta.", "Tortuous:P aorta:A", "Tortuous>aorta"),
    (
        "No acute cardiopulmonary abnormality.",
        "acute:N cardiopulmonary:A abnormality:N",
        "acute>abnormality abnormality>cardiopulmonary",
    ),
    ("History of pneumonia.", "", ""),
    ("Comparison with the examination of yesterday.", "", ""),
)
LETTERS = dict(zip(GRAPH_TYPES, "APUN", strict=True))


def graph(sentence: str) -> Graph:
    return rule_graphs.build([describe(sentence)])


@pytest.mark.parametrize("sentence, nodes, edges", CASES, ids=[case[0] for case in CASES])
def test_a_sentence_gives_these_nodes_and_edges(sentence: str, nodes: str, edges: str) -> None:
    found = graph(sentence)
    names = span_text(found)
    assert [f"{name}:{LETTERS[GRAPH_TYPES[t]]}" for name, t in zip(names, found.types, strict=True)] == nodes.split()
    assert sorted(f"{names[a]}>{names[b]}" for a, b in found.edges) == sorted(edges.split())


def test_borderline_anatomy_is_uncertain() -> None:
    found = graph("Heart size is borderline.")
    assert [GRAPH_TYPES[t] for t in found.types] == ["ANAT-DP", "OBS-U"]
    assert set(found.edges) == {(1, 0)}


def test_sentences_share_one_list_of_tokens_and_no_edge() -> None:
    said = text.sentences("Small left effusion. The lungs are clear.", "")
    whole = rule_graphs.build(said)
    first, second = (rule_graphs.build([sentence]) for sentence in said)
    assert whole.tokens == first.tokens + second.tokens
    assert span_text(whole) == span_text(first) + span_text(second)
    moved = tuple((a + len(first.spans), b + len(first.spans)) for a, b in second.edges)
    assert whole.edges == first.edges + moved


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.lists(
                st.sampled_from([*graph_words.KINDS, *graph_words.FUNCTION, *graph_words.ENDS, "effusion", "İ", "xxxx"])
            ).map(" ".join),
        ),
        max_size=4,
    )
)
def test_any_text_gives_a_graph_whose_spans_and_edges_fit(texts: list[str]) -> None:
    sentences = [describe(said) for said in texts]
    found = rule_graphs.build(sentences)
    assert len(found.types) == len(found.spans)
    assert all(0 <= first <= last < len(found.tokens) for first, last in found.spans)
    assert all(before[1] < after[0] for before, after in pairwise(found.spans))
    assert all(0 <= end < len(found.spans) for edge in found.edges for end in edge)
    assert all(a != b for a, b in found.edges)
    assert all(token.split() == [token] for token in found.tokens)  # RadGraph's tokens are cut at white space
    rule_graphs._sentence_graph.cache_clear()
    assert rule_graphs.build(sentences) == found


def test_a_word_has_one_kind() -> None:
    lists = (graph_words.ANATOMY, graph_words.PLACES, graph_words.QUALITIES, graph_words.OBSERVATIONS)
    assert not [a & b for a, b in combinations(lists, 2) if a & b]


def phantom(level: str, index: int) -> tuple[Graph, Graph]:
    """(truth, rules) of a phantom report."""
    chosen = world.LEVELS[level]
    patient, number = world.locate(chosen, 0, index)
    visit = patients.visit(chosen, 0, patient, number)
    report = write(visit.items, visit.resolved, chosen.hedged, world.words_rng(chosen, 0, patient, number))
    return report.graph, rule_graphs.build(text.sentences(report.findings, report.impression))


def observed(found: Graph) -> set[tuple[str, int]]:
    """(last word, type) of every observation and modifier."""
    return {(span.split()[-1].lower(), t) for span, t in zip(span_text(found), found.types, strict=True) if t}


def test_the_phantoms_observations_are_found_with_their_polarity() -> None:
    counts: Counter[str] = Counter()
    for index in range(400):
        truth, rules = map(observed, phantom(sorted(world.LEVELS)[index % len(world.LEVELS)], index))
        counts += Counter(both=len(truth & rules), truth=len(truth), rules=len(rules))
    assert counts["both"] / counts["truth"] > 0.93 and counts["both"] / counts["rules"] > 0.93
