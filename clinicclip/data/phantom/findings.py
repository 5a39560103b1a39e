"""The findings of the heart, the lungs and the pleura, drawn on a chest where and how large an `Item` says.

A painter gets the canvas and one side, adds to the film, and returns the region it changed (0..1) for the box.
Each finding has its own look, so that the image alone decides between, say, consolidation and pneumonia.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from clinicclip.data.phantom.anatomy import (
    Body,
    Canvas,
    Field,
    dome,
    heart,
    lateral_wall,
    lung_distance,
    mediastinum,
    ramp,
)
from clinicclip.data.schema import BOTH, LEFT, RIGHT

UPPER, MIDDLE, LOWER = 0, 1, 2
ZONE_HEIGHT = (-0.42, -0.08, 0.22)


@dataclass(frozen=True)
class Item:
    """One finding of one study, as the report tells it and the film shows it."""

    finding: str
    kind: str = ""  # which form of it: nodule or mass, rib or clavicle, which device
    side: int = 0  # schema.NO_SIDE, LEFT, RIGHT, BOTH
    size: int = 1  # 0 small or mild, 1 moderate, 2 large or severe
    zone: int = LOWER
    seed: int = 0  # of everything the report does not tell
    trend: str = ""  # "", new, unchanged, increased, decreased: against the patient's last study

    @property
    def signs(self) -> tuple[int, ...]:
        """Image side(s): +1 for the patient's left, -1 for the right."""
        return {LEFT: (1,), RIGHT: (-1,), BOTH: (-1, 1)}.get(self.side, (1,))


@dataclass(frozen=True)
class Look:
    """How plainly findings show: what makes a level easy or hard."""

    contrast: float = 1.0
    size: float = 1.0


@dataclass
class Brush:
    """Everything a painter needs for one item on one side."""

    c: Canvas
    item: Item
    sign: int
    extent: float  # 0..1 from the item's size, with a random part
    look: Look
    rng: np.random.Generator

    @property
    def lung(self) -> Field:
        """The lung of this side, 0..1."""
        return self.c.lung * (self.c.left if self.sign > 0 else ~self.c.left)

    @property
    def across(self) -> Field:
        """Distance from the midline into this side."""
        return self.c.x * self.sign

    def spot(self) -> tuple[float, float]:
        """A place inside the lung in the item's zone: distance from the midline, height."""
        y = ZONE_HEIGHT[self.item.zone] + self.rng.uniform(-0.12, 0.12)
        inner, outer = (0.28, 0.52) if y < -0.35 else (0.30, 0.64)
        if self.sign > 0 and y > 0:
            inner = 0.45  # beside the heart, not behind it
        return self.rng.uniform(inner, outer), y

    def add(self, region: Field, amount: float) -> Field:
        """Add attenuation; returns the region."""
        self.c.film += region * (amount * self.look.contrast)
        return region

    def fill(self, region: Field, share: float) -> Field:
        """Take a share of the air out of a region, its vessels drowned in it; bones stay. Returns the region."""
        share *= self.look.contrast
        self.c.film += region * (share * self.c.air - min(1.0, share) * self.c.vessels)
        return region


def reshape(body: Body, item: Item, extent: float, look: Look) -> Body:
    """The body with what `item` does to its shape: heart, mediastinum, domes, vessels."""
    e = 0.3 + 0.7 * extent
    if item.finding == "cardiomegaly":
        return replace(body, heart=body.heart * (1 + (0.16 + 0.42 * e) * look.size))
    if item.finding == "enlarged_cardiomediastinum":
        return replace(body, mediastinum=body.mediastinum + (0.9 + 2.2 * e) * look.size)
    if item.finding == "edema":
        return replace(body, vessels=body.vessels * (1 + 0.9 * look.contrast))
    if item.finding == "atelectasis":
        lift = (0.07 + 0.10 * e) * look.size
        right, left = body.dome
        signs = item.signs
        return replace(body, dome=(right - lift * (-1 in signs), left - lift * (1 in signs)))
    return body


def _silhouette(b: Brush) -> Field:
    return heart(b.c)[0]


def _wide_mediastinum(b: Brush) -> Field:
    return mediastinum(b.c) * (b.c.y < 0.05) * (b.c.y > (-0.75))


def _opacity(b: Brush) -> Field:
    """A single smooth haze without structure or border."""
    a, y = b.spot()
    spread = (0.17 + 0.10 * b.extent) * b.look.size
    u, v = b.across - a, b.c.y - y
    haze = np.exp((u * u + v * v * 0.8) * (-0.5 / spread**2)) * b.lung
    return b.fill(haze, 0.75)


def _lesion(b: Brush) -> Field:
    """A round, sharply bordered nodule or mass."""
    a, y = b.spot()
    radius = b.look.size * (0.165 + 0.08 * b.extent if b.item.kind == "mass" else 0.095 + 0.05 * b.extent)
    u, v = b.across - a, b.c.y - y
    angle = b.rng.uniform(0, np.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    p, q = u * cos + v * sin, v * cos - u * sin
    far = np.sqrt(p * p + q * q * b.rng.uniform(1.0, 1.3))
    disc = ramp(radius - far, 0.022)
    return b.add(disc, 0.44)


def _edema(b: Brush) -> Field:
    """Perihilar haze like a bat's wings, a net of fine lines, Kerley lines at the lateral bases."""
    c = b.c
    u, v = b.across - 0.30, c.y - 0.0
    wing = np.exp(-((u * (1 / 0.20)) ** 2) - (v * (1 / 0.34)) ** 2) * b.lung
    mottle = c.texture(b.item.seed % 100_003, 26)
    b.add(wing * (1 + 0.35 * np.clip(mottle, -1.5, 1.5)), 0.13 + 0.12 * b.extent)
    net = np.clip(1 - np.abs(c.texture(b.item.seed % 100_019, 44)) * 2.2, 0, 1) * b.lung
    b.add(net, 0.05 + 0.03 * b.extent)
    rows = np.linspace(0.0, 0.48, 7) + b.rng.uniform(-0.03, 0.03, 7)
    kerley = [(np.array([[b.sign * 0.60, y], [b.sign * 0.76, y - 0.01]]), 0.012, 1.0) for y in rows]
    b.add(c.strokes(kerley, 0.004) * b.lung, 0.13)
    return wing


def _consolidation(b: Brush) -> Field:
    """Dense lobar filling with a straight, sharp fissure border and dark air bronchograms."""
    c, a, y, e = b.c, b.across, b.c.y, b.extent
    tilt = (a - 0.4) * b.rng.uniform(-0.12, 0.20)
    if b.item.zone == UPPER:
        border = tilt - b.rng.uniform(0.12, 0.2)
        region = ramp(border - y, 0.02) * ramp(y - border + (0.22 + 0.32 * e), 0.10)
    elif b.item.zone == MIDDLE:
        border = tilt - b.rng.uniform(0.12, 0.18)
        region = ramp(y - border, 0.02) * ramp(border + (0.24 + 0.14 * e) - y, 0.08)
    else:
        border = tilt * 2 + (b.rng.uniform(0.02, 0.14) - 0.16 * e)
        region = ramp(y - border, 0.02) * ramp(0.62 - a, 0.10)
    region = region * b.lung
    b.fill(region * (1 + 0.10 * c.texture(b.item.seed % 100_069, 20)), 0.85)
    s = np.linspace(0, 1, 4)[:, None]
    centre = {UPPER: (0.2, -0.2, -0.9), MIDDLE: (0.2, -0.06, 0.2), LOWER: (0.16, 0.08, 0.75)}[b.item.zone]
    tubes = []
    for turn in centre[2] + np.linspace(-0.5, 0.5, 4) + b.rng.normal(0, 0.06, 4):
        way = np.concatenate([b.sign * (centre[0] + 0.4 * s * np.cos(turn)), centre[1] + 0.4 * s * np.sin(turn)], 1)
        tubes.append((way, 0.020, 1.0))
    b.add(c.strokes(tubes, 0.006) * region, -0.12)
    return region


def _pneumonia(b: Brush) -> Field:
    """Many small, fluffy, ragged patches in one zone."""
    c, field = b.c, np.full_like(b.c.film, -1)
    a0, y0 = b.spot()
    count = 5 + round(3 * b.extent)
    turn = b.rng.uniform(0, 2 * np.pi) + np.arange(count) * 2.4
    reach = np.sqrt(np.arange(count) / count) * (0.20 + 0.08 * b.extent)
    radius = b.rng.uniform(0.07, 0.11, count) * b.look.size
    for i in range(count):
        u = b.across - float(a0 + reach[i] * np.cos(turn[i]))
        v = c.y - float(y0 + 1.2 * reach[i] * np.sin(turn[i]))
        np.maximum(field, 1 - (u * u + v * v) * float(1 / radius[i] ** 2), out=field)
    ragged = field + 0.45 * c.texture(b.item.seed % 100_043, 46)
    region = np.clip(ragged, 0, 1) * b.lung
    return b.fill(region, 0.95)


def _atelectasis(b: Brush) -> Field:
    """Plate-like bands above a raised dome."""
    count = 1 + round(1.6 * b.extent + 0.2)
    base = b.c.body.dome[int(b.sign > 0)]
    lines, tilt = [], b.rng.uniform(-0.16, 0.16)
    for i in range(count):
        a, y = b.rng.uniform(0.24, 0.34), base - 0.09 - 0.10 * i + b.rng.uniform(-0.02, 0.02)
        length = (0.30 + 0.14 * b.extent) * b.look.size
        lines.append((np.array([[b.sign * a, y + tilt * 0.3], [b.sign * (a + length), y - tilt * length]]), 0.042, 1.0))
    bands = b.c.strokes(lines, 0.012) * b.lung
    crowd = ramp(0.06 + b.c.y - base, 0.2) * b.lung
    b.add(crowd, 0.05)
    return b.add(bands, 0.34)


def _pneumothorax(b: Brush) -> Field:
    """Air without vessels around a retracted lung whose edge is a fine white line."""
    c = b.c
    gap, fall = (0.07 + 0.15 * b.extent) * b.look.size, (0.14 + 0.32 * b.extent) * b.look.size
    inner = lung_distance(c, lateral_wall(c, gap, c.body.apex + fall), dome(c))
    lung = b.lung
    region = lung * (1 - ramp(inner, 0.02))
    c.film -= region * c.vessels
    b.add(region, -0.04)
    b.add(lung - region, 0.01 + 0.03 * b.extent)
    line = np.clip(1 - np.abs(inner) * (1 / 0.022), 0, 1) * lung * np.clip(c.distance * 25 - 1, 0, 1)
    b.add(line, 0.32)
    return region


def _effusion(b: Brush) -> Field:
    """Fluid that fills the angle and climbs the wall: a meniscus."""
    c = b.c
    side = c.left if b.sign > 0 else ~c.left
    height = (0.16 + 0.72 * b.extent) * b.look.size
    wall = c.body.width[int(b.sign > 0)]
    inward = np.clip(1 - b.across / wall, 0, 1)
    surface = (0.56 - height) + np.sqrt(inward + 0.004) * (0.20 + 0.10 * (1 - b.extent))
    region = ramp(c.y - surface, 0.035) * side * ramp(c.distance + 0.02, 0.04)
    b.add(region, 0.09)
    return b.fill(region, 0.95)


def _pleural(b: Brush) -> Field:
    """A bumpy dense peel along the lateral wall; plaques carry bright calcium in it."""
    c = b.c
    middle, half = b.rng.uniform(-0.12, 0.10), 0.30 + 0.16 * b.extent
    thick = ((0.085 + 0.06 * b.extent) * b.look.size) * (1 + 0.25 * c.texture(b.item.seed % 100_057, 16))
    fade = ramp(half - np.abs(c.y - middle), 0.10)
    depth = lateral_wall(c) - c.ax
    region = ramp(thick * fade - depth, 0.015) * b.lung
    b.fill(region, 1.0)
    b.add(region, 0.14)
    if b.item.kind == "plaque":
        rim = np.clip(1 - np.abs(depth - thick * fade * 0.75) * 60, 0, 1) * region
        b.add(rim, 0.22)
    return region


PAINTERS: dict[str, Callable[[Brush], Field]] = {
    "cardiomegaly": _silhouette,
    "enlarged_cardiomediastinum": _wide_mediastinum,
    "lung_opacity": _opacity,
    "lung_lesion": _lesion,
    "edema": _edema,
    "consolidation": _consolidation,
    "pneumonia": _pneumonia,
    "atelectasis": _atelectasis,
    "pneumothorax": _pneumothorax,
    "pleural_effusion": _effusion,
    "pleural_other": _pleural,
}
