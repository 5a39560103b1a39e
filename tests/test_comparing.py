"""Two results side by side: paired where their draws are, told where not, tests joined by image id."""

from pathlib import Path

import numpy as np
import planted
import pytest

from clinicclip.errors import UserError
from clinicclip.evals import comparing, report, significance, stored, suites
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.stats import Draws, PatientBootstrap, Ranking
from clinicclip.evals.stored import Stored

SUITES = ("zero_shot", "cxr_align")
KEY = ("planted", "zero_shot/planted/auroc/pair/edema")
DRAWS = 60


def shaken(evalset: EvalSet) -> EmbedFns:
    """The oracle with noise over what it sees."""
    clear = planted.oracle(evalset)
    rows = {image.tobytes(): row for row, image in enumerate(evalset.images)}

    def look(pictures: np.ndarray) -> np.ndarray:
        noise = np.stack([np.append(planted.noise(f"{rows[picture.tobytes()]}"), 0.0) for picture in pictures])
        return planted.unit(clear.images(pictures).vectors + 0.3 * noise)

    return EmbedFns(planted.marked(look), clear.texts)


def evaluated(evalset: EvalSet, embed: EmbedFns, folder: Path, *, seed: int = 0) -> Stored:
    evaluation = suites.run_suites(embed, [evalset], SUITES, draws=DRAWS, seed=seed)
    report.write_numbers(evaluation, folder, provenance={"checkpoint": folder.name})
    return stored.read(folder)


@pytest.fixture(scope="module")
def evalset() -> EvalSet:
    return planted.evalset(80)


@pytest.fixture(scope="module")
def sides(evalset: EvalSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Stored, Stored]:
    folder = tmp_path_factory.mktemp("sides")
    return (
        evaluated(evalset, shaken(evalset), folder / "shaken"),
        evaluated(evalset, planted.oracle(evalset), folder / "oracle"),
    )


def test_a_difference_is_that_of_one_bootstrap(evalset: EvalSet, sides: tuple[Stored, Stored]) -> None:
    found = {(one.data, one.metric): one for one in comparing.compare(*sides)}[KEY]
    bootstrap, rows = PatientBootstrap(evalset.patients, draws=DRAWS), np.arange(len(evalset))
    draws = []
    for side in sides:
        scored = side.scores["planted", "pair", "edema"]
        draws.append(bootstrap.draws(Ranking(scored.truth, scored.scores).auroc, rows))
    low, high = np.quantile(draws[1].values - draws[0].values, (0.025, 0.975))
    assert found.paired and not found.note
    assert found.value == pytest.approx(draws[1].value - draws[0].value)
    assert (found.ci_low, found.ci_high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_a_result_does_not_differ_from_itself(sides: tuple[Stored, Stored]) -> None:
    for one in comparing.compare(sides[0], sides[0]):
        assert one.value == one.ci_low == one.ci_high == 0 and one.p == one.p_holm == 1
        assert np.isnan(one.p_delong) or one.p_delong == 1


def test_unlike_counts_replaced_draws_and_narrow_intervals_are_told(sides: tuple[Stored, Stored]) -> None:
    replaced = {key: draws._replace(redrawn=draws.redrawn + 3) for key, draws in sides[0].draws.items()}
    fewer = {key: row | {"n": 7, "prevalence": 0.5, "caution": "few"} for key, row in sides[0].records.items()}
    every = comparing.compare(sides[0], sides[0]._replace(draws=replaced, records=fewer))
    assert all(one.note.startswith("not wholly paired: ") and one.n == 7 and one.n_first != 7 for one in every)
    rows = [row for row in comparing.table(every)[1:] if row[0].startswith("zero-shot")]
    assert rows and all("\N{DAGGER}" in row[3] and row[-2].endswith(" %), 7 (50.0 %)") for row in rows)
    assert any(line.startswith("\N{DAGGER}: ") for line in comparing.heading(*sides, every))


def test_delong_is_of_the_images_that_both_scored(sides: tuple[Stored, Stored]) -> None:
    whole = sides[1].scores["planted", "pair", "edema"]
    kept = np.flatnonzero(np.arange(len(whole.ids)) % 3 > 0)[::-1]  # some images, in another order
    part = stored.Scored(tuple(whole.ids[i] for i in kept), whole.patients[kept], whole.truth[kept], whole.scores[kept])
    fewer = sides[1]._replace(scores={**sides[1].scores, ("planted", "pair", "edema"): part})
    found = {one.metric: one for one in comparing.compare(sides[0], fewer)}[KEY[1]]
    ours = sides[0].scores["planted", "pair", "edema"]
    patients = [str(p) for p in ours.patients[kept]]
    expected = significance.delong(whole.truth[kept], *(s.scores[kept].astype(float) for s in (ours, whole)), patients)
    assert found.p_delong == pytest.approx(expected.p)


def test_other_draws_are_not_paired_and_it_says_so(
    evalset: EvalSet, sides: tuple[Stored, Stored], tmp_path: Path
) -> None:
    found = comparing.compare(sides[0], evaluated(evalset, shaken(evalset), tmp_path / "again", seed=1))
    assert not any(one.paired for one in found) and all("another seed" in one.note for one in found)
    others = planted.evalset(80, seed=3)
    elsewhere = comparing.compare(sides[0], evaluated(others, planted.oracle(others), tmp_path / "else"))
    assert all("another data" in one.note for one in elsewhere)
    same = {one.metric: one for one in found}[KEY[1]]  # paired, a result would not differ from itself
    assert same.value == 0 and same.ci_low < 0 < same.ci_high


def test_the_table_holds_what_a_reader_looks_at_first(sides: tuple[Stored, Stored]) -> None:
    table = comparing.table(comparing.compare(*sides))
    assert [row[0] for row in table[1:3]] == [
        "zero-shot AUROC, normal, pair rule (planted)",
        "zero-shot AUROC, macro, pair rule (planted)",
    ]
    assert {len(row) for row in table} == {10} and len(table) > 8
    assert "PHANTOM" in comparing.heading(*sides, [])[-1]


def test_a_clear_difference_stays_significant_within_its_family(sides: tuple[Stored, Stored]) -> None:
    draws = 1000
    rng = np.random.default_rng(0)
    clear = {key: Draws(1.0, rng.normal(1.0, 0.1, draws), 0) for key in sides[0].draws}
    none = {key: Draws(0.0, rng.normal(0.0, 0.1, draws), 0) for key in sides[0].draws}
    every = comparing.compare(sides[0]._replace(draws=none), sides[1]._replace(draws=clear))
    by_family = {family: [one for one in every if one.family == family] for family in {one.family for one in every}}
    assert len(by_family["planted: headline numbers"]) == 9 and len(by_family) > 9
    for family in by_family.values():
        least = 2 / (draws + 1)
        assert [one.p for one in family] == pytest.approx([least] * len(family))
        assert [one.p_holm for one in family] == pytest.approx([least * len(family)] * len(family))
        delong = [one.p_delong for one in family]
        assert [one.p_delong_holm for one in family] == pytest.approx(significance.holm(delong), nan_ok=True)
    assert len(every) * least > 0.05 > max(one.p_holm for one in every)
    assert any(one.p_delong_holm > one.p_delong for one in every)
    told = " ".join(comparing.heading(*sides, every))
    assert "within a family" in told and "none can be significant" not in told
    fewer = [one for one in comparing.compare(*sides) if np.isfinite(one.p)]
    assert f"With {DRAWS} draws no p-value is below 0.033" in " ".join(comparing.heading(*sides, fewer))


def test_numbers_of_other_findings_or_splits_beside_are_told(sides: tuple[Stored, Stored]) -> None:
    other = {"macro_findings": "edema", "validation_split": "validation (another)"}
    changed = sides[1]._replace(records={key: row | other for key, row in sides[1].records.items()})
    noted = {one.metric: one.note for one in comparing.compare(sides[0], changed) if one.note}
    assert set(noted.values()) == {"not the same number: macro findings differ"}
    assert set(noted) == {f"zero_shot/planted/{m}/{r}/macro" for m in ("auroc", "auprc") for r in ("pair", "positive")}
    assert comparing.unlike([{"validation_split": "a"}, {"validation_split": "b"}], "calibration/ece/edema")
    differing = [row[0] for row in comparing.differences(sides[0], changed)]
    assert differing == ["differs", "validation split", "macro findings", "checkpoint"]
    assert "Not the same in both: validation split, macro findings" in comparing.heading(sides[0], changed, [])[2]


def test_a_folder_of_damaged_results_is_told(sides: tuple[Stored, Stored], tmp_path: Path) -> None:
    for name in (stored.RESULTS, stored.DRAWS, stored.SCORES):
        (tmp_path / name).write_bytes((sides[0].folder / name).read_bytes())
    assert stored.read(tmp_path).records == sides[0].records
    (tmp_path / stored.SCORES).write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        stored.read(tmp_path)
    (tmp_path / stored.SCORES).unlink()
    with pytest.raises(UserError, match="has no scores"):
        stored.read(tmp_path)


def test_two_folders_on_one_set_are_not_joined(sides: tuple[Stored, Stored]) -> None:
    with pytest.raises(UserError, match="both hold results on planted"):
        stored.joined(*sides)
