"""Pair-strict: an oracle scores one, whoever cannot see or cannot hear denial scores no more than a coin."""

import numpy as np
import planted
import pytest

from clinicclip.data import schema
from clinicclip.evals import embedding, matching, prompts
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.pair_strict import PairStrict
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap


def _run(evalset: EvalSet, embed: EmbedFns, draws: int = 50) -> dict[str, Result]:
    embedded = embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts))
    bootstrap = PatientBootstrap(evalset.patients, draws=draws)
    return {result.metric: result for result in PairStrict().run(evalset, embedded, bootstrap)}


def test_an_oracle_is_perfect() -> None:
    evalset = planted.evalset()
    found = _run(evalset, planted.oracle(evalset))
    assert set(found) == {f"pair_strict/{name}" for name in [*planted.WORDS, "macro"]}
    assert {result.value for result in found.values()} == {1.0}


def test_an_image_blind_rule_scores_nothing() -> None:
    evalset = planted.evalset()
    assert {result.value for result in _run(evalset, planted.blind(evalset)).values()} == {0.0}


def test_who_cannot_hear_denial_ties_like_a_coin() -> None:
    evalset = planted.evalset()
    values = [result.value for result in _run(evalset, planted.spotter(evalset)).values()]
    assert values == pytest.approx([0.25] * len(values))


def test_random_directions_are_at_the_level_of_a_coin() -> None:
    evalset = planted.evalset(300)
    found = _run(evalset, planted.chance(evalset), draws=200)["pair_strict/macro"]
    assert abs(found.value - 0.25) < 0.08


def test_the_rate_equals_a_loop_over_its_pairs() -> None:
    evalset = planted.evalset(60)
    embed = planted.chance(evalset)
    finding = schema.INDEX["edema"]
    images = embed.images(evalset.images).vectors
    sides = prompts.embed("edema", embed.texts)
    rows = np.flatnonzero(evalset.truth[:, finding] == 1)
    partners = matching.without_finding(evalset, finding, rows)
    rates = []
    for row, others in zip(rows, partners, strict=True):
        first = images[row] @ sides.positive > images[row] @ sides.negative
        rates.append(np.mean([first and images[o] @ sides.negative > images[o] @ sides.positive for o in others]))
    found = _run(evalset, embed)
    edema, macro = found["pair_strict/edema"], found.pop("pair_strict/macro")
    assert edema.value == pytest.approx(np.mean(rates))
    assert edema.n == len(rows) and edema.pairs == partners.size
    shown = np.flatnonzero((evalset.truth[:, [schema.INDEX[name] for name in planted.WORDS]] == 1).any(axis=1))
    assert macro.n == len(shown) < sum(result.n for result in found.values())
    assert macro.patients == len({evalset.patients[row] for row in shown})
    assert macro.pairs == sum(result.pairs or 0 for result in found.values())
