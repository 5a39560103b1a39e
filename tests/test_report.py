"""A report's files: complete, parsable, labelled as phantom, and silent about what may not be shown."""

import csv
import json
from pathlib import Path

import numpy as np
import planted
import pytest
from PIL import Image

from clinicclip.data import schema
from clinicclip.evals import report, suites
from clinicclip.evals.base import Evaluation

PROVENANCE = {"checkpoint": "run@7", "parameters_sha256": "abc"}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    evalset = planted.evalset(60)
    return suites.run_suites(planted.chance(evalset), [evalset], draws=20)


@pytest.fixture(scope="module")
def folder(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    report.write(evaluation, path, provenance=PROVENANCE)
    return path


def test_every_record_says_what_it_is_and_where_it_comes_from(folder: Path, evaluation: Evaluation) -> None:
    records = json.loads((folder / "results.json").read_text())
    assert len(records) == len(evaluation.results) > 80
    expected = {"metric", "value", "ci_low", "ci_high", "n", "patients", "split", "data", "truth", "generator"}
    expected |= {"prompts", "prompt_overlap", "preprocessing", "data_hash", "data_title", "phantom", *PROVENANCE}
    for record in records:
        assert expected <= record.keys()
        assert record["phantom"] is True and record["split"] == "test" and record["n"] >= record["patients"] > 0
        assert record["ci_low"] <= record["ci_high"]
    assert len({record["metric"] for record in records}) == len(records)


def test_the_flat_table_holds_the_same_numbers(folder: Path) -> None:
    records = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows] == [record["metric"] for record in records]
    np.testing.assert_allclose([float(row["value"]) for row in rows], [record["value"] for record in records])


def test_the_report_is_labelled_and_complete(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert report.PHANTOM in text and report.RESEARCH in text and "run@7" in text
    for heading in ("Summary", "Zero-shot by finding", "CXR-Align", "Pair-strict", "Retrieval", "Pictures"):
        assert f"{heading}\n" in text
    for name in planted.WORDS:
        assert f"| {schema.display_name(name)} |" in text
    assert "generator `eval`" in text
    for line in filter(lambda line: line.startswith("|"), text.splitlines()):
        assert line.endswith("|")


def test_the_terminal_summary_names_every_finding_both_rules_and_the_controls(evaluation: Evaluation) -> None:
    text = "\n".join(report.summary_lines(evaluation))
    for word in ("AUROC pair", "AUROC positive", "Task A", "Task B", "wrong images", "image-driven", "normal", "macro"):
        assert word in text
    assert all(schema.display_name(name) in text for name in planted.WORDS)
    assert report.PHANTOM in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_pictures_are_pictures(folder: Path) -> None:
    for name in ("roc.png", "gallery.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 500
            assert np.asarray(picture.convert("L")).std() > 10


def test_closed_data_show_neither_image_nor_text(tmp_path: Path) -> None:
    evalset = planted.evalset(40, open=False)
    (tmp_path / "gallery.png").write_bytes(b"left over")
    found = suites.run_suites(planted.chance(evalset), [evalset], draws=5)
    report.write(found, tmp_path, provenance=PROVENANCE)
    assert not (tmp_path / "gallery.png").exists()
    text = (tmp_path / "report.md").read_text()
    assert "No gallery for planted" in text
    written = text + (tmp_path / "results.json").read_text()
    assert not any(one in written for one in evalset.reports)


def test_a_number_that_does_not_exist_is_null_with_its_reason(tmp_path: Path) -> None:
    evalset = planted.evalset(30)
    evalset.truth[:, schema.INDEX["edema"]] = 0
    found = suites.run_suites(planted.chance(evalset), [evalset], ["zero_shot"], draws=5)
    report.write(found, tmp_path, provenance=PROVENANCE)
    records = {record["metric"]: record for record in json.loads((tmp_path / "results.json").read_text())}
    edema = records["zero_shot/planted/auroc/pair/edema"]
    assert edema["value"] is None and edema["ci_low"] is None and edema["note"] == "one outcome only"
    assert "one outcome only" in (tmp_path / "report.md").read_text()


def test_two_sets_stand_side_by_side(tmp_path: Path) -> None:
    first, second = planted.evalset(30), planted.evalset(30, seed=5)
    object.__setattr__(second, "name", "other")
    embed = planted.by_text(planted.noise)
    images = {image.tobytes(): i for s in (first, second) for i, image in enumerate(s.images)}
    vectors = planted.EmbedFns(
        lambda x: planted.unit(np.stack([planted.noise(str(images[i.tobytes()])) for i in x])), embed
    )
    found = suites.run_suites(vectors, [first, second], draws=5)
    report.write(found, tmp_path, provenance=PROVENANCE)
    text = (tmp_path / "report.md").read_text()
    assert "## planted, split test" in text and "## other, split test" in text


def test_provenance_cannot_overwrite_a_column(evaluation: Evaluation) -> None:
    with pytest.raises(ValueError, match="metric"):
        report.records(evaluation, {"metric": "mine"})


def test_the_data_hash_follows_the_data() -> None:
    assert planted.evalset(20).digest() == planted.evalset(20).digest()
    assert planted.evalset(20).digest() != planted.evalset(20, seed=1).digest()
