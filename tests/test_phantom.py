"""The phantom world: what it draws, says and labels is one truth, made alone, anywhere, in any order."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinicclip.data import text
from clinicclip.data.phantom import hardware, patients, world
from clinicclip.data.phantom.findings import PAINTERS, Item
from clinicclip.data.phantom.report import Report, write
from clinicclip.data.releases import phantom
from clinicclip.data.schema import (
    ABSENT,
    BOTH,
    CHEXPERT,
    FINDINGS,
    INDEX,
    LEFT,
    PARENTS,
    PRESENT,
    RIGHT,
    UNCERTAIN,
)  # fmt: skip
from clinicclip.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "phantom.npz"
COUNT = 600


def _report(level: str, index: int) -> tuple[patients.Visit, Report]:
    """A study's visit and words without its picture."""
    chosen = world.LEVELS[level]
    patient, number = world.locate(chosen, 0, index)
    visit = patients.visit(chosen, 0, patient, number)
    return visit, write(visit.items, visit.resolved, chosen.hedged, world.words_rng(chosen, 0, patient, number))


@pytest.fixture(scope="module", params=sorted(world.LEVELS))
def reports(request: pytest.FixtureRequest) -> tuple[str, list[tuple[patients.Visit, Report]]]:
    return request.param, [_report(request.param, i) for i in range(COUNT)]


def _bare_visit(*items: Item) -> patients.Visit:
    """A chest with nothing but the given findings."""
    visit, _ = _report("easy", 0)
    return replace(visit, items=items, resolved=(), pose=replace(visit.pose, noise=0.0))


def _draw(*items: Item, size: int = 128) -> tuple[np.ndarray, tuple[world.Box, ...]]:
    image, boxes = world.draw(_bare_visit(*items), world.LEVELS["easy"].look, size)
    return image.astype(np.float64), boxes


ITEMS = [
    Item("lung_lesion", "nodule", LEFT, 1, 1, 3),
    Item("lung_lesion", "mass", RIGHT, 1, 0, 4),
    Item("fracture", "rib", RIGHT, 1, 2, 5),
    Item("fracture", "clavicle", LEFT, 1, 2, 6),
    Item("consolidation", "", RIGHT, 1, 0, 7),
    Item("pneumonia", "", LEFT, 1, 1, 8),
    Item("pneumothorax", "", RIGHT, 2, 1, 9),
    Item("pleural_effusion", "", LEFT, 1, 1, 10),
    Item("pleural_other", "plaque", RIGHT, 1, 1, 11),
    Item("lung_opacity", "", LEFT, 1, 1, 12),
    Item("atelectasis", "", RIGHT, 1, 1, 13),
    *(Item("support_devices", kind, LEFT, 1, 1, 14) for kind in hardware.DEVICES),
]


def test_a_study_is_the_same_made_alone_in_another_process() -> None:
    code = (
        "from clinicclip.data.phantom import world; import hashlib\n"
        "s = world.make('easy', 29, seed=3, size=64)\n"
        "words = repr((s.findings, s.impression, s.boxes, s.graph)).encode()\n"
        "print(hashlib.sha256(s.image.tobytes() + words).hexdigest())"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    for index in (31, 5):
        world.make("easy", index, seed=3, size=64)
    s = world.make("easy", 29, seed=3, size=64)
    here = hashlib.sha256(s.image.tobytes() + repr((s.findings, s.impression, s.boxes, s.graph)).encode())
    assert here.hexdigest() == alone


def test_level_seed_and_index_each_change_the_study() -> None:
    images = [
        world.make(level, index, seed=seed, size=64).image.tobytes()
        for level, index, seed in (("easy", 0, 0), ("easy", 1, 0), ("easy", 0, 1), ("hard", 0, 0))
    ]
    assert len(set(images)) == 4


def test_version_1_stays_as_it_was_frozen() -> None:
    stored = np.load(GOLDEN)
    assert str(stored["version"]) == world.VERSION
    for level in world.LEVELS:
        made = [world.make(level, i, size=64) for i in range(len(stored[level]))]
        small = np.stack([np.asarray(Image.fromarray(s.image).resize((16, 16), Image.Resampling.BOX)) for s in made])
        assert np.abs(small.astype(int) - stored[level].astype(int)).max() <= 2
        words = json.dumps([[s.findings, s.impression, s.gold] for s in made])
        assert hashlib.sha256(words.encode()).hexdigest() == str(stored[f"{level}_words"])


@pytest.mark.parametrize("size", [97, 256])
def test_the_same_chest_is_drawn_at_any_size(size: int) -> None:
    small, large = (world.make("easy", 2, size=s) for s in (64, size))
    assert large.image.shape == (size, size) and large.image.dtype == np.uint8
    shrunk = np.asarray(Image.fromarray(large.image).resize((64, 64), Image.Resampling.BOX), float)
    assert np.corrcoef(shrunk.ravel(), small.image.astype(float).ravel())[0, 1] > 0.98
    assert large.findings == small.findings and large.gold == small.gold
    for a, b in zip(small.boxes, large.boxes, strict=True):
        assert np.allclose(np.array(a[1:]) * size / 64, b[1:], atol=3.5 * size / 64)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.finding}-{item.kind}")
def test_a_finding_changes_the_image_inside_its_box_and_on_its_side(item: Item) -> None:
    (plain, _), (image, boxes) = _draw(), _draw(item)
    change = np.abs(image - plain)
    assert len(boxes) == 1 and boxes[0].finding == item.finding
    _, x, y, width, height = boxes[0]
    assert 0 <= x < x + width <= 128 and 0 <= y < y + height <= 128
    inside = np.zeros_like(change, bool)
    inside[max(0, int(y) - 3) : int(y + height) + 4, max(0, int(x) - 3) : int(x + width) + 4] = True
    if item.finding not in ("atelectasis", "pneumothorax", "lung_opacity"):  # these change the lung around them too
        assert change[inside].sum() > 0.9 * change.sum()
    assert change[inside].max() > 20
    if item.finding != "support_devices":  # lines may cross the midline, to the heart
        assert (x + width / 2 > 64) == (item.side == LEFT)


@pytest.mark.parametrize("finding", ["pleural_effusion", "atelectasis", "pneumonia", "edema"])
def test_bilateral_findings_have_a_box_on_each_side(finding: str) -> None:
    _, boxes = _draw(Item(finding, "", BOTH, 2, 1, 5))
    assert sorted(box.x + box.width / 2 > 64 for box in boxes) == [False, True]


def test_a_large_heart_is_wider_than_a_normal_one() -> None:
    widths = [_draw(Item("cardiomegaly", size=size, seed=1))[1][0].width for size in (0, 2)]
    assert 128 * 0.35 < widths[0] < widths[1] < 128 * 0.75


def test_every_finding_has_a_painter() -> None:
    drawn = set(PAINTERS) | {"fracture", "support_devices"}
    assert drawn == set(CHEXPERT) - {"no_finding"} == set(patients.PREVALENCE)


def test_gold_follows_the_hierarchy_and_no_finding_ignores_devices() -> None:
    gold = world.gold_labels((Item("cardiomegaly"), Item("edema")))
    assert {k for k, v in gold.items() if v == PRESENT} == {
        "cardiomegaly", "enlarged_cardiomediastinum", "edema", "lung_opacity",
    }  # fmt: skip
    assert world.gold_labels((Item("support_devices", "picc"),))["no_finding"] == PRESENT
    assert world.gold_labels((Item("fracture", "rib"),))["no_finding"] == ABSENT


def test_a_third_is_normal_and_findings_are_long_tailed(reports) -> None:
    _, made = reports
    counts = Counter(name for visit, _ in made for name, v in world.gold_labels(visit.items).items() if v == PRESENT)
    assert 0.26 < counts["no_finding"] / COUNT < 0.42
    shares = [counts[name] / COUNT for name in CHEXPERT]
    assert min(shares) > 0.03 and max(shares) > 4 * min(shares)


def test_the_labeller_reads_what_was_drawn(reports) -> None:
    _, made = reports
    right = total = 0
    for visit, report in made:
        gold = world.gold_labels(visit.items)
        read = text.report_labels(text.sentences(report.findings, report.impression))
        doubted = {name for s in report.statements for name, polarity, _ in s.about if polarity == UNCERTAIN}
        doubted |= {parent for name in doubted for parent in PARENTS.get(name, ())}
        for name, value in zip(CHEXPERT, read, strict=True):
            if name not in doubted and not (doubted and name == "no_finding"):
                right, total = right + (value == gold[name]), total + 1
    assert right / total >= 0.97 and total > COUNT * 13


def test_the_labeller_reads_each_sentence_with_its_polarity(reports) -> None:
    _, made = reports
    right = total = 0
    for _, report in made[: COUNT // 3]:
        for statement in report.statements:
            read = {(s.finding, s.polarity) for s in text.sentences(statement.text, "")}
            read |= {(INDEX[p], polarity) for k, polarity in read if k >= 0 for p in PARENTS.get(FINDINGS[k], ())}
            for name, polarity, _ in statement.about:
                right, total = right + ((INDEX[name], polarity) in read), total + 1
    assert right / total >= 0.97


def test_what_is_drawn_is_told_and_what_is_denied_is_not_drawn(reports) -> None:
    _, made = reports
    for visit, report in made:
        told = {(name, side) for s in report.statements for name, polarity, side in s.about if polarity != ABSENT}
        denied = {name for s in report.statements for name, polarity, _ in s.about if polarity == ABSENT}
        drawn = {name for name, value in world.gold_labels(visit.items).items() if value == PRESENT}
        assert {(item.finding, item.side) for item in visit.items} == told - {("no_finding", 0)}
        assert not denied & drawn


def test_some_findings_are_only_suspected_on_hard_and_none_on_easy() -> None:
    for level in world.LEVELS:
        polarities = {p for i in range(200) for s in _report(level, i)[1].statements for _, p, _ in s.about}
        assert (UNCERTAIN in polarities) == (level == "hard")


def test_graphs_span_the_reports_own_tokens(reports) -> None:
    _, made = reports
    for _, report in made:
        tokens, spans, types, edges = report.graph
        assert "".join(tokens) == f"{report.findings}{report.impression}".replace(" ", "")
        assert len(spans) == len(types) > 0 and all(0 <= a <= b < len(tokens) for a, b in spans)
        assert all(0 <= a < len(spans) and 0 <= b < len(spans) and a != b for a, b in edges)
        assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_graph_types_and_edges_say_what_the_sentence_says() -> None:
    report = write((Item("pleural_effusion", side=LEFT, size=0),), (), 0.0, np.random.default_rng(2))
    tokens, spans, types, edges = report.graph
    words = [" ".join(tokens[a : b + 1]) for a, b in spans]
    effusion, place = words.index("effusion"), words.index("left pleural")
    assert types[effusion] == 1 and types[place] == 0 and (effusion, place) in edges
    denied = [write((), (), 0.0, np.random.default_rng(seed)).graph for seed in range(20)]
    kinds = {g.types[i] for g in denied for i, (a, _) in enumerate(g.spans) if g.tokens[a] == "pneumothorax"}
    assert kinds == {3}


def test_patients_keep_their_split_and_have_several_studies() -> None:
    made = [world.locate(world.LEVELS["easy"], 0, i) for i in range(240)]
    assert len(set(made)) == 240
    visits = Counter(patient for patient, _ in made)
    assert sorted(Counter(visits.values()).items()) == [(1, 40), (2, 20), (3, 20), (5, 20)]
    splits = Counter(world.split_of(f"easy-0-p{patient:06d}") for patient in range(4000))
    shares = {name: splits[name] / 4000 for name in phantom.SPLITS}
    assert shares == pytest.approx({"train": 0.75, "validation": 0.10, "test": 0.15}, abs=0.02)


def test_findings_last_from_visit_to_visit() -> None:
    level, stayed, came = world.LEVELS["easy"], [], []
    for patient in range(400):
        first, second = ({i.finding for i in patients.visit(level, 0, patient, n).items} for n in (0, 1))
        for name in patients.PREVALENCE:
            (stayed if name in first else came).append(name in second)
    assert np.mean(stayed) > 0.5 > 0.15 > np.mean(came)


def test_the_reader_yields_the_world_as_studies() -> None:
    sketches = list(phantom.read(level="easy", studies=5, size=64, seed=1))
    assert phantom.count(level="easy", studies=5, size=64, seed=1) == {"reports": 5, "images": 5}
    made = world.make("easy", 4, seed=1, size=64)
    last = sketches[-1].make()
    assert (last.patient, last.study, last.split) == (made.patient, made.study, made.split)
    assert sketches[-1][:4] == (last.patient, last.study, last.image_id, last.split)
    assert np.array_equal(np.asarray(last.image), made.image)
    assert (last.gold, last.boxes, last.graph) == (made.gold, made.boxes, made.graph)
    assert last.labels is None and last.gold_source == "phantom"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "eazy"}, "no level 'eazy'; did you mean easy"),
        ({"size": 32}, "size=32 is not between 64 and 512"),
        ({"studies": 0}, "studies=0"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_settings_the_world_does_not_know_are_one_line(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as fault:
        next(phantom.read(**options))
    assert "\n" not in str(fault.value)
