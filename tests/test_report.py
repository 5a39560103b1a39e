"""A report's files: complete, parsable, labelled as phantom, and silent about what may not be shown."""

import csv
import dataclasses
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import planted
import pytest

from clinicclip.data import schema
from clinicclip.data.schema import Box
from clinicclip.evals import page as page_module
from clinicclip.evals import report, sections, stored, suites
from clinicclip.evals.numbers import CAUTION, Numbers
from clinicclip.evals.results import Case, Evaluation, Exhibit, Passage, SetFacts, Verdict

PROVENANCE = {"checkpoint": "run@7", "parameters_sha256": "abc"}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    boxes = ((Box("edema", 0, 0, 8, 8),),) * 60
    evalset = dataclasses.replace(planted.evalset(60), groups={"sex": ("F", "M") * 30}, boxes=boxes).sealed()
    return suites.run_suites(planted.chance(evalset), [evalset], suites.USUAL, draws=20)


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
        assert record["phantom"] is True and record["split"] == "test" and record["n"] >= record["patients"]
        assert record["patients"] > 0 or record["note"]
        assert (record["ci_low"] <= record["ci_high"]) if record["value"] is not None else record["note"]
    assert len({record["metric"] for record in records}) == len(records)


def test_the_flat_table_holds_the_same_numbers(folder: Path) -> None:
    records = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows] == [record["metric"] for record in records]
    for row, record in zip(rows, records, strict=True):
        assert row["value"] == ("" if record["value"] is None else str(record["value"]))


def test_the_report_is_labelled_and_complete(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert report.PHANTOM in text and report.RESEARCH in text and "run@7" in text
    for heading in ("Summary", "Zero-shot by finding", "CXR-Align", "Pair-strict", "Retrieval"):
        assert f"{heading}\n" in text
    for name in planted.WORDS:
        assert f"| {schema.display_name(name)} |" in text
    assert "generator `eval`" in text
    for line in filter(lambda line: line.startswith("|"), text.splitlines()):
        assert line.endswith("|")


def test_the_terminal_summary_names_every_finding_both_rules_and_the_controls(evaluation: Evaluation) -> None:
    text = "\n".join(report.summary_lines(evaluation))
    tables = ("AUROC pair", "AUROC positive", "Task A", "Task B", "wrong images", "image-driven", "normal", "macro")
    others = ("Normality: AUROC, prompts", "Normality: false alarms", "Five-way accuracy  ", "Operating points  ")
    for word in (*tables, *others, "Calibration  ", "Grounding  "):
        assert word in text
    assert all(schema.display_name(name) in text for name in planted.WORDS)
    assert report.PHANTOM in text
    assert max(map(len, text.splitlines())) <= 120


class Reader(HTMLParser):
    """What a browser would fetch, draw and show of a page; fails where elements are not closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.count: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        self.fetched += [
            v or "" for k, v in attrs if k in ("src", "href", "xlink:href") and not (v or "").startswith("#")
        ]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(folder: Path) -> Reader:
    return Reader((folder / "report.html").read_text())


def test_the_page_needs_no_network(page: Reader, folder: Path) -> None:
    assert page.fetched and all(link.startswith("data:image/") for link in page.fetched)
    assert "script" not in page.count and "link" not in page.count
    assert (
        "url(http" not in (folder / "report.html").read_text() and "@import" not in (folder / "report.html").read_text()
    )


def test_the_page_holds_tables_curves_and_cases(page: Reader, evaluation: Evaluation) -> None:
    assert page.count["svg"] == 3  # intervals, curves, heat map
    pictures = sum(len(case.pictures) for exhibit in evaluation.exhibits for case in exhibit.cases)
    assert page.count["img"] == pictures > 30
    assert page.text.count(report.PHANTOM) == 2 and report.RESEARCH in page.text and "run@7" in page.text
    for heading in (
        "Summary",
        "Worst mistakes",
        "Retrieval gallery",
        "CXR-Align examples",
        "Subgroups by sex",
        "Normality",
    ):
        assert heading in page.text
    assert all(facts.digest in page.text and facts.pixels in page.text for facts in evaluation.sets)


def test_every_result_is_told_by_a_table(folder: Path, evaluation: Evaluation) -> None:
    told = (folder / "report.md").read_text()
    for result in evaluation.results:
        digits = 1 if result.metric.endswith("median_rank") else 3
        assert (f"{result.value:.{digits}f} [" if result.value == result.value else result.note) in told
    numbers = Numbers(evaluation, evaluation.sets[0])
    assert numbers.rest()
    marked = {result.metric for result in evaluation.results if numbers.cell(result.metric).endswith(CAUTION)}
    assert marked == {result.metric for result in evaluation.results if result.caution} != set()
    sections.sections(evaluation, evaluation.sets[0])


def test_a_suite_that_nobody_knows_gets_a_table_of_its_own(evaluation: Evaluation) -> None:
    old = evaluation.results[0]
    new = [dataclasses.replace(old, metric=f"sharpness/{w}/edema") for w in ("edge", "blur")]
    new.append(dataclasses.replace(old, metric="sharpness/overall"))
    added = dataclasses.replace(evaluation, results=[*evaluation.results, *new])
    found = [s for s in sections.sections(added, added.sets[0]) if s.title == "Sharpness"]
    assert [s.table[0][:3] for s in found] == [["number", "value [95 % interval]", "n"], ["finding", "n", "with it"]]
    assert [row[0] for section in found for row in section.table[1:]] == ["overall", "edema"]


def test_what_differs_from_the_report_is_set_apart() -> None:
    first, denied = "There is edema. The heart is <big>.", "There is no edema. The heart is <big>."
    case = Case("edema", (Passage(first), Passage(denied, "denied", Verdict.WRONG)), ())
    evaluation = Evaluation(sets=(planted_facts(),), exhibits=[Exhibit("planted", "Examples", "", (case,))])
    text = page_of(evaluation)
    assert "There is <mark>no</mark> edema. The heart is &lt;big&gt;." in text and "<big>" not in text


def planted_facts() -> SetFacts:
    evalset = planted.evalset(4)
    return suites.run_suites(planted.chance(evalset), [evalset], [], draws=0).sets[0]


def page_of(evaluation: Evaluation) -> str:
    text = page_module.html(evaluation, PROVENANCE)
    Reader(text)
    return text


def test_worst_mistakes_are_the_worst(evaluation: Evaluation) -> None:
    exhibit = next(e for e in evaluation.exhibits if e.title == "Worst mistakes")
    curve = next(c for c in evaluation.curves if c.rule == "pair" and exhibit.cases[0].heading.startswith(c.finding))
    ids = planted.evalset(60).ids
    lowest = curve.rows[curve.truth][np.argmin(curve.scores[curve.truth])]
    highest = curve.rows[~curve.truth][np.argmax(curve.scores[~curve.truth])]
    shown = [case.pictures[0].caption for case in exhibit.cases]
    assert shown[0] == ids[lowest] and shown[2] == ids[highest]


def test_a_model_that_knows_has_its_heat_on_the_diagonal() -> None:
    evalset = planted.evalset(60)
    heat = suites.run_suites(planted.oracle(evalset), [evalset], ["zero_shot"], draws=2).heats[0]
    assert (heat.values.argmax(axis=1) == np.arange(len(heat.rows))).all()


def test_stored_draws_and_scores_come_back(folder: Path, evaluation: Evaluation) -> None:
    back = stored.read(folder)
    for result in evaluation.results:
        if np.isfinite(result.value):
            low, high = back.draws[result.data, result.metric].interval()
            np.testing.assert_allclose([low, high], [result.ci_low, result.ci_high], rtol=1e-5)
    ids = planted.evalset(60).ids
    for curve in evaluation.curves:
        scored = back.scores[curve.data, curve.rule, curve.finding]
        assert scored.ids == tuple(ids[row] for row in curve.rows)
        np.testing.assert_array_equal(scored.truth, curve.truth)
        np.testing.assert_allclose(scored.scores, curve.scores, rtol=1e-6)
    assert len(set(scored.patients.tolist())) == 30  # two studies a patient, by number


def test_closed_data_show_neither_image_nor_text(tmp_path: Path) -> None:
    evalset = planted.evalset(40, open=False)
    found = suites.run_suites(planted.chance(evalset), [evalset], draws=5)
    report.write(found, tmp_path, provenance=PROVENANCE)
    text = (tmp_path / "report.html").read_text()
    assert "No images or texts of planted" in text and "<img" not in text and "<svg" in text
    written = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    assert not any(one in written for one in evalset.reports)
    assert not any(f'"{patient}"' in written for patient in evalset.patients)


def test_a_number_that_does_not_exist_is_null_with_its_reason(tmp_path: Path) -> None:
    evalset = planted.evalset(30)
    evalset.truth[:, schema.INDEX["edema"]] = 0
    evalset = evalset.sealed()
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
    look = planted.marked(lambda x: planted.unit(np.stack([planted.noise(str(images[i.tobytes()])) for i in x])))
    vectors = planted.EmbedFns(look, embed)
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
