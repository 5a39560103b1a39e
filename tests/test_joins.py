"""Sets are joined by id and counted: unreadable images, blanks, released texts and prompt files do what is said."""

import dataclasses
import json
from pathlib import Path

import known
import numpy as np
import planted
import pytest

from clinicclip.data import builder, releases, schema
from clinicclip.data.schema import Box
from clinicclip.errors import UserError
from clinicclip.evals import benchmarks, cxr_align, embedding, prompts, report, sets, suites
from clinicclip.evals.base import EvalSet, Rows, Seen
from clinicclip.evals.prompts import PromptSet
from clinicclip.evals.truth import View

EDEMA = schema.INDEX["edema"]
SPLITS = ("train", "validation", "test")


def _set(made: list[schema.Record], release: str = "") -> EvalSet:
    return EvalSet.from_records("planted", "test", made, planted.SIDE, True, release=release)


def test_an_image_that_cannot_be_read_is_named_and_its_row_is_in_no_score_and_no_label() -> None:
    made = planted.records(60)
    broken = [row | {"image": row["image"][:40]} if i in (0, 7, 59) else row for i, row in enumerate(made)]
    evalset, without = _set(broken), _set([row for i, row in enumerate(made) if i not in (0, 7, 59)])
    assert evalset.unread == ("image0", "image7", "image59") and without.unread == ()
    assert evalset.ids == without.ids and len(evalset.truth) == len(evalset.images) == len(evalset.boxes) == 57
    values = [
        {r.metric: (r.value, r.n) for r in suites.run_suites(planted.chance(s), [s], suites.USUAL, draws=2).results}
        for s in (evalset, without)
    ]
    np.testing.assert_equal(*values)
    assert values[0]["zero_shot/planted/auroc/pair/edema"][1] == 57


def test_a_model_is_given_the_squares_that_it_makes_itself() -> None:
    view = View(lambda gray, side: np.full((side, side), 7, np.uint8), "seven everywhere")
    made = EvalSet.from_records("planted", "test", planted.records(2), planted.SIDE, True, view=view)
    assert np.all(made.images == 7)


def test_a_set_without_a_readable_image_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="none of the 2 images"):
        _set([row | {"image": b"no image"} for row in planted.records(2)])


def test_vectors_are_joined_by_id_whatever_their_order() -> None:
    evalset = planted.evalset(30)
    embedded = embedding.embed_set(planted.chance(evalset), evalset, embedding.TextBank(planted.by_text(planted.noise)))
    turned = dataclasses.replace(embedded, rows=dict(reversed(embedded.rows.items())))
    np.testing.assert_array_equal(turned.images(evalset), planted.chance(evalset).images(evalset.images).vectors)
    for rows in (dict(list(embedded.rows.items())[1:]), embedded.rows | {"stranger": embedded.rows["image3"]}):
        with pytest.raises(ValueError, match="misaligned"):
            dataclasses.replace(embedded, rows=rows).images(evalset)


@pytest.mark.parametrize("swapped", [(11, 12), (0, 29), (3, 4)])
def test_two_vectors_that_change_places_while_they_are_embedded_fail_loudly(swapped: tuple[int, int]) -> None:
    evalset, order = planted.evalset(30), np.arange(30)
    order[list(swapped)] = swapped[::-1]
    embed = planted.chance(evalset)

    def crossed(pictures: np.ndarray) -> Rows:
        found = embed.images(pictures)
        return Rows(*(column[order] for column in found[:2])) if len(pictures) == 30 else found

    with pytest.raises(ValueError, match="lost their order"):
        suites.run_suites(embed._replace(images=crossed), [evalset], ["zero_shot"], draws=0)


def test_images_that_are_no_longer_beside_their_ids_fail_loudly() -> None:
    evalset, order = planted.evalset(30), np.random.default_rng(0).permutation(30)
    shuffled = dataclasses.replace(evalset, images=evalset.images[order])
    with pytest.raises(ValueError, match="lost their order"):
        suites.run_suites(planted.chance(evalset), [shuffled], ["zero_shot"], draws=0)


COLUMNS = ("ids", "patients", "marks", "reports", "sentences", "truth", "mentioned", "normal", "boxes", "shapes")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_shuffle_between_embedding_and_labels_fails_loudly_in_every_suite(column: str) -> None:
    boxes, shapes = tuple((Box("edema", 0, 0, 8 + row, 8),) for row in range(30)), np.arange(60).reshape(30, 2) + 50
    evalset = dataclasses.replace(planted.evalset(30), boxes=boxes, shapes=shapes).sealed()
    embed = known.patches(planted.oracle(evalset), evalset, 2, lambda row, finding: np.eye(2))
    embedded = embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts), maps=True)
    held = getattr(evalset, column)
    shuffled = dataclasses.replace(evalset, **{column: held[::-1]})
    for name in suites.SUITES:
        suite = suites.SUITES[name](suites.Setting(train=Seen(evalset, embedded), validation=Seen(evalset, embedded)))
        with pytest.raises(ValueError, match="misaligned"):
            list(suite.run(shuffled, embedded, suites.PatientBootstrap(evalset.patients, draws=2)))


def test_unread_images_are_in_every_file_of_a_result(tmp_path: Path) -> None:
    broken = [row | {"image": b""} if i in (3, 8) else row for i, row in enumerate(planted.records(40))]
    evalset = _set(broken)
    found = suites.run_suites(planted.chance(evalset), [evalset], ["zero_shot", "cxr_align"], draws=2)
    report.write(found, tmp_path, provenance={"checkpoint": "x"})
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {(row["unread"], row["unread_ids"]) for row in rows} == {(2, "image3 image8")}
    assert max(row["n"] for row in rows) == 38 == len(found.sets[0].ids) and "image3" not in found.sets[0].ids
    for name in ("results.csv", "report.html", "report.md"):
        assert "image3" in (tmp_path / name).read_text() and "image8" in (tmp_path / name).read_text()
    assert "2 studies are left out of scores and labels" in (tmp_path / "report.html").read_text()
    assert any("image3, image8" in line for line in report.summary_lines(found))


def test_every_release_says_what_a_blank_means() -> None:
    assert set(releases.READERS) <= set(benchmarks.BENCHMARKS)


def test_a_blank_is_absent_where_the_release_says_so_and_unknown_elsewhere() -> None:
    row = planted.record(1, ("edema",)) | {
        "gold_names": ["edema", "cardiomegaly"],
        "gold_values": np.array([1, -1], np.int8),
    }
    uncoded = planted.record(3, ()) | {"gold_names": [], "gold_values": np.array([], np.int8)}
    radiologist = _set([row, uncoded], "mimic_cxr")
    fracture, heart, normal = (schema.INDEX[name] for name in ("fracture", "cardiomegaly", "no_finding"))
    assert radiologist.truth[0, EDEMA] == 1 and radiologist.truth[0, fracture] == 0
    assert np.isnan(radiologist.truth[0, heart]) and radiologist.truth[0, normal] == 0  # uncertain stays masked
    assert np.isnan(radiologist.truth[1]).all()
    assert np.isnan(_set([row], "folder").truth[0, fracture])


def test_images_without_gold_and_reports_are_measured_by_the_labels_that_training_reads() -> None:
    columns = ("sentences", "sentence_finding", "sentence_polarity", "sentence_laterality", "gold_names", "gold_values")
    made = [row | {column: row[column][:0] for column in columns} for row in planted.records(8)]
    evalset = _set(made, "chexpert")
    assert evalset.source.startswith("training labels")
    np.testing.assert_array_equal(evalset.truth[:, EDEMA], [row["labels"][EDEMA] for row in made])
    assert np.isnan(evalset.truth[:, schema.INDEX["fracture"]]).all()


def test_the_macro_of_a_release_is_that_of_the_literature_unless_others_are_asked_for() -> None:
    evalset = _set(planted.records(60), "chexpert")
    names = [r.note for r in suites.run_suites(planted.chance(evalset), [evalset], ["zero_shot"], draws=2).results]
    assert "mean over cardiomegaly, edema, atelectasis, pleural_effusion" in names  # pneumothorax is none of the five


def test_texts_of_a_release_are_its_items_and_their_maker_is_named() -> None:
    made = [
        row
        | {
            "negated_by": "cxr_align" if i % 2 else "train",
            "altered": EDEMA,
            "negated": "There is no edema.",
            "omitted": "Clear.",
        }
        for i, row in enumerate(planted.records(10))
    ]
    evalset = _set(made)
    items = cxr_align.build_items(evalset, seed=0)
    assert [item.row for item in items] == [1, 3, 5, 7, 9]
    assert items[0].report == made[1]["findings"] and items[0].negated == "There is no edema."
    found = suites.run_suites(planted.chance(evalset), [evalset], ["cxr_align"], draws=2).results
    assert {result.generator for result in found} == {"cxr_align"}


def test_a_prompt_set_of_ones_own_is_read_and_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    content = json.loads((prompts.FOLDER / "plain.json").read_text())
    path.write_text(json.dumps(content | {"phrases": {"edema": ["wet lungs"]}}))
    mine = PromptSet.load(str(path))
    assert mine.ensemble("edema") == (("Wet lungs.",), ("No wet lungs.",)) and mine.describe().startswith(
        "mine version"
    )
    assert mine.digest() != PromptSet.load("plain").digest()
    faults = {
        "keys": {"unknown": 1},
        "'edemma' is no finding; did you mean edema": {"phrases": {"edemma": ["x"]}},
        "one place": {"positive": ["{} and {}."]},
        "list of sentences": {"normal_positive": []},
        "'no_finding' is no finding": {"phrases": {"no_finding": ["x"]}},
    }
    for words, change in faults.items():
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=words):
            PromptSet.load(str(path))
    with pytest.raises(UserError, match="did you mean reports"):
        PromptSet.load("report")


@pytest.mark.parametrize("name", prompts.NAMES)
def test_every_prompt_set_says_normality_in_sentences_of_its_own(name: str) -> None:
    wording = PromptSet.load(name)
    own, others = wording.ensemble("no_finding"), [name for name in schema.FINDINGS if name != "no_finding"]
    texts = {text for finding in others for side in wording.ensemble(finding) for text in side}
    assert not texts & {*own.positive, *own.negative}
    assert not any("no finding" in text.lower() for text in {*texts, *own.positive, *own.negative})


def test_the_wording_asked_for_is_the_one_that_scores() -> None:
    evalset = planted.evalset(40)
    embed = planted.chance(evalset)
    plain = PromptSet.load("plain")
    found = suites.run_suites(embed, [evalset], ["zero_shot"], draws=2, wording=plain)
    scores = embed.images(evalset.images).vectors @ embed.texts(["Edema."])[0]
    curve = next(c for c in found.curves if (c.finding, c.rule) == ("edema", "positive"))
    np.testing.assert_allclose(curve.scores, scores, atol=1e-6)
    assert found.facts["prompts"] == plain.describe()


def test_the_splits_beside_the_measured_one_are_the_runs_or_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "read_manifest", lambda folder: {"name": "phantom", "splits": dict.fromkeys(SPLITS)})
    run = {"data": {"name": "phantom", "train": "train[:5]", "validation": "validation"}}
    assert sets.other_split(tmp_path, "train", "test", {}) == "train"
    assert sets.other_split(tmp_path, "train", "test", run) == "train[:5]"
    assert sets.other_split(tmp_path, "validation", "validation+test", run) == ""
    assert sets.other_split(tmp_path, "validation", "test", {"data": {"name": "openi"}}) == "validation"
    assert sets.has_splits(tmp_path, ("test+validation[:5]", "train"))
    assert not sets.has_splits(tmp_path, ("test", "train+test[5:]")) and not sets.has_splits(tmp_path, ("fold0",))
    monkeypatch.setattr(builder, "read_manifest", lambda folder: {"name": "phantom", "splits": {"test": {}}})
    assert sets.other_split(tmp_path, "train", "test", {}) == ""
