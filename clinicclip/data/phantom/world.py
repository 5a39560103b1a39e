"""The phantom world: study number `index` of a level and a seed, made alone, anywhere, in any order."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from clinicclip.data.phantom import anatomy, hardware, patients, report
from clinicclip.data.phantom.anatomy import OVERSAMPLE, Canvas, Field
from clinicclip.data.phantom.findings import PAINTERS, Brush, Item, Look, reshape
from clinicclip.data.phantom.patients import Level
from clinicclip.data.phantom.report import Statement
from clinicclip.data.schema import ABSENT, CHEXPERT, NOT_ABNORMAL, PARENTS, PRESENT, Box, Graph, fold
from clinicclip.errors import UserError, nearest

VERSION = "1"  # bumped by any change of an image, a report or a label; every table of numbers names it
LEVELS = {
    "easy": Level("easy", 0, Look(1.0, 1.0), noise=0.010, exposure=1.0, company=1.0, hedged=0.0),
    "hard": Level("hard", 1, Look(0.62, 0.72), noise=0.028, exposure=1.5, company=2.0, hedged=0.08),
}
SIZES = (64, 512)  # smallest and largest image side
VISITS = (1, 1, 2, 3, 5)  # visits of the patients of one block, in an order drawn for the block
BLOCK = sum(VISITS)


@dataclass(frozen=True)
class PhantomStudy:
    """One study and everything that is true of it."""

    patient: str
    study: str
    split: str
    image: UInt8[np.ndarray, "size size"]
    findings: str
    impression: str
    statements: tuple[Statement, ...]  # gold polarity, sentence by sentence
    gold: dict[str, int]  # all fourteen labels, 1 or 0
    boxes: tuple[Box, ...]
    graph: Graph
    items: tuple[Item, ...]
    sex: str
    age_band: str


def check(level: str, index: int, seed: int, size: int) -> None:
    """Raises UserError for an unknown level, a negative index or seed, or a size outside 64..512."""
    if level not in LEVELS:
        raise UserError(f"phantom: no level {level!r}{nearest(level, LEVELS)}; choose {' or '.join(LEVELS)}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"phantom: size={size} is not between {SIZES[0]} and {SIZES[1]} pixels")
    if index < 0 or seed < 0:
        raise UserError(f"phantom: index={index} and seed={seed} must not be negative")


def locate(level: Level, seed: int, index: int) -> tuple[int, int]:
    """Patient number and visit number of study `index`: blocks of twelve studies hold five patients."""
    block, within = divmod(index, BLOCK)
    order = np.random.default_rng((seed, level.code, 0, block)).permutation(len(VISITS))
    for place, which in enumerate(order):
        if within < VISITS[which]:
            return block * len(VISITS) + place, within
        within -= VISITS[which]
    raise AssertionError("a block's visits add up to its length")


def names(level: str, seed: int, index: int) -> tuple[str, str]:
    """The ids of a study's patient and of the study."""
    number, visit = locate(LEVELS[level], seed, index)
    patient = f"{level}-{seed}-p{number:06d}"
    return patient, f"{patient}-s{visit}"


def words_rng(level: Level, seed: int, patient: int, number: int) -> np.random.Generator:
    """What decides the wording of one study's report."""
    return np.random.default_rng((seed, level.code, 3, patient, number))


def split_of(patient: str) -> str:
    """`train` (75 %), `validation` (10 %) or `test` (15 %), by a hash of the patient."""
    part = fold(patient, 20)
    return "test" if part < 3 else "validation" if part < 5 else "train"


def gold_labels(items: tuple[Item, ...]) -> dict[str, int]:
    """The fourteen labels: a finding implies its parents; "no finding" ignores devices.

    Source: CheXpert (Irvin et al., AAAI 2019).
    """
    present = {item.finding for item in items}
    present |= {parent for name in present for parent in PARENTS.get(name, ())}
    if present <= set(NOT_ABNORMAL):
        present.add("no_finding")
    return {name: PRESENT if name in present else ABSENT for name in CHEXPERT}


def _box(name: str, region: Field, size: int) -> Box | None:
    rows, columns = np.flatnonzero((region > 0.4).any(1)), np.flatnonzero((region > 0.4).any(0))
    if not len(rows):
        return None
    x, y = columns[0] / OVERSAMPLE, rows[0] / OVERSAMPLE
    right, low = (columns[-1] + 1) / OVERSAMPLE, (rows[-1] + 1) / OVERSAMPLE
    return Box(name, float(x), float(y), float(min(right, size) - x), float(min(low, size) - y))


def _extent(item: Item) -> float:
    return (item.size + float(np.random.default_rng(item.seed).random())) / 3


def _develop(c: Canvas, size: int) -> UInt8[np.ndarray, "s s"]:
    """The film as an 8-bit picture: averaged down, exposed, noisy, with its side marker."""
    pose, f = c.pose, c.film
    light = (f[::2, ::2] + f[1::2, ::2] + f[::2, 1::2] + f[1::2, 1::2]) * 0.25
    light = np.clip((light - pose.low) * (1 / (pose.high - pose.low)), 0, None)
    light = (1 - np.exp((-1.6) * light)) * (1 / (1 - math.exp(-1.6)))
    light = np.clip(light, 0, 1) ** pose.gamma
    light += np.random.default_rng((pose.grain, size)).standard_normal(light.shape, dtype=np.float32) * pose.noise
    sheet = Image.fromarray(np.clip(light * 255 + 0.5, 0, 255).astype(np.uint8))
    if pose.marker:
        u = size / 64
        ImageDraw.Draw(sheet).line(
            [(58.5 * u, 3 * u), (58.5 * u, 6.5 * u), (60.5 * u, 6.5 * u)], fill=235, width=max(1, round(0.6 * u))
        )
    return np.asarray(sheet)


def draw(visit: patients.Visit, look: Look, size: int) -> tuple[UInt8[np.ndarray, "s s"], tuple[Box, ...]]:
    """The image of a visit at size x size pixels, and the boxes of its findings in those pixels."""
    body = visit.body
    for item in visit.items:
        body = reshape(body, item, _extent(item), look)
    c = anatomy.draw(body, visit.pose, size * OVERSAMPLE)
    boxes = []
    painters = {**PAINTERS, "fracture": hardware.fracture, "support_devices": hardware.device}
    for item in visit.items:
        sides = item.signs if item.finding not in patients.SIDELESS else (1,)
        for sign in sides:
            rng = np.random.default_rng((item.seed, sign + 1))
            region = painters[item.finding](Brush(c, item, sign, _extent(item), look, rng))
            box = _box(item.finding, region, size)
            boxes += [box] if box else []
    return _develop(c, size), tuple(boxes)


def make(level: str, index: int, seed: int = 0, size: int = 256) -> PhantomStudy:
    """Study `index` of the world (level, seed) with an image of size x size pixels.

    Raises: UserError for an unknown level, a negative index or seed, or a size outside 64..512.
    """
    check(level, index, seed, size)
    world = LEVELS[level]
    patient, number = locate(world, seed, index)
    visit = patients.visit(world, seed, patient, number)
    image, boxes = draw(visit, world.look, size)
    rng = words_rng(world, seed, patient, number)
    text = report.write(visit.items, visit.resolved, world.hedged, rng)
    patient_name, study_name = names(level, seed, index)
    return PhantomStudy(
        patient=patient_name,
        study=study_name,
        split=split_of(patient_name),
        image=image,
        findings=text.findings,
        impression=text.impression,
        statements=text.statements,
        gold=gold_labels(visit.items),
        boxes=boxes,
        graph=text.graph,
        items=visit.items,
        sex=visit.sex,
        age_band=visit.age_band,
    )
