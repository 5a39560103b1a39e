"""A normal chest on a frontal radiograph, drawn as attenuation that adds up along the ray.

Anatomical coordinates: x in [-1, 1] grows to the image's right, which is the patient's **left**; y in [-1, 1] grows
downwards. Every length is in these units (one unit = half the image side), so a chest is the same at any pixel size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFilter

OVERSAMPLE = 2  # drawn at twice the asked size, then averaged: antialiasing for masks and lines alike

Field = Float[np.ndarray, "n n"]
Stroke = tuple[np.ndarray, float, float]  # points [k, 2], width, strength <= 1


@dataclass(frozen=True)
class Body:
    """The shape of one patient's chest; findings change it before it is drawn (heart, domes, vessels)."""

    width: tuple[float, float] = (0.78, 0.78)  # half width of the right and the left hemithorax
    apex: float = -0.80
    dome: tuple[float, float] = (0.40, 0.46)  # top of the right and the left hemidiaphragm
    heart: float = 1.0  # transverse size, 1 = a cardiothoracic ratio of about .44
    mediastinum: float = 1.0  # width of the upper mediastinum, 1 = normal
    aorta: float = 0.08  # radius of the aortic knob
    air: tuple[float, float] = (1.0, 1.0)  # how dark the right and the left lung are
    vessels: float = 1.0  # strength of the pulmonary vessels
    rib_spacing: float = 0.150
    rib_slope: float = 0.85
    rib_top: float = -0.80
    bone: float = 1.0  # density of bone
    breast: float = 0.0
    bulk: float = 1.0  # width of the soft tissue
    pattern: int = 0  # seed of what has no parameter of its own: vessel tree, gas, lung texture


@dataclass(frozen=True)
class Pose:
    """How this exposure was taken: position on the film, brightness, noise."""

    angle: float = 0.0  # degrees
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    low: float = 0.0
    high: float = 1.0
    gamma: float = 1.0
    scatter: float = 0.0  # strength of smooth uneven brightness
    noise: float = 0.012
    marker: bool = True
    grain: int = 0  # seed of the film noise


@dataclass
class Canvas:
    """Where a study is drawn: coordinate grids, the attenuation so far, and the parts others refer to."""

    body: Body
    pose: Pose
    n: int
    x: Field = field(init=False)
    y: Field = field(init=False)
    ax: Field = field(init=False)  # distance from the midline
    left: Bool[np.ndarray, "n n"] = field(init=False)  # the patient's left half
    film: Field = field(init=False)
    lung: Field = field(init=False)  # both lungs, 0..1
    distance: Field = field(init=False)  # into the lung from its nearest border
    air: Field = field(init=False)  # what the lungs took from the film
    vessels: Field = field(init=False)  # what their vessels added to it

    def __post_init__(self) -> None:
        line = ((np.arange(self.n, dtype=np.float32) + 0.5) * (2.0 / self.n)) - 1.0
        turn = math.radians(self.pose.angle)
        cos, sin = math.cos(turn) / self.pose.scale, math.sin(turn) / self.pose.scale
        u = (line - (self.pose.shift[0]))[None, :]
        v = (line - (self.pose.shift[1]))[:, None]
        self.x = (cos * u + sin * v).astype(np.float32)
        self.y = (cos * v - sin * u).astype(np.float32)
        self.ax = np.abs(self.x)
        self.left = self.x > 0
        self.film = np.zeros((self.n, self.n), np.float32)

    def pixels(self, points: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 2"]:
        """Anatomical points [k, 2] as canvas pixels (column, row)."""
        turn = math.radians(self.pose.angle)
        cos, sin = math.cos(turn) * self.pose.scale, math.sin(turn) * self.pose.scale
        u = cos * points[:, 0] - sin * points[:, 1] + self.pose.shift[0]
        v = sin * points[:, 0] + cos * points[:, 1] + self.pose.shift[1]
        return (np.stack([u, v], 1) + 1.0) * (self.n / 2.0)

    def by_side(self, right: float, left: float) -> Field:
        """A field that is `right` on the patient's right and `left` on the left."""
        return np.where(self.left, np.float32(left), np.float32(right))

    def strokes(self, lines: Sequence[Stroke], soft: float = 0.0) -> Field:
        """Polylines drawn as one field 0..1, the later over the earlier; `soft` blurs them."""
        sheet = Image.new("L", (self.n, self.n))
        pen = ImageDraw.Draw(sheet)
        counts = [len(points) for points, _, _ in lines]
        if not counts:
            return np.zeros((self.n, self.n), np.float32)
        flat = self.pixels(np.concatenate([points for points, _, _ in lines])).tolist()
        at = 0
        for count, (_, width, strength) in zip(counts, lines, strict=True):
            points = [tuple(p) for p in flat[at : at + count]]
            at += count
            pixels = max(1, round(width * self.n / 2))
            pen.line(points, fill=round(255 * strength), width=pixels, joint="curve" if pixels > 2 else None)
        if soft:
            sheet = sheet.filter(ImageFilter.GaussianBlur(soft * self.n / 2))
        return np.asarray(sheet, np.float32) * (1 / 255)

    def fill(self, points: Float[np.ndarray, "k 2"]) -> Field:
        """A filled polygon as a 0/1 field."""
        sheet = Image.new("L", (self.n, self.n))
        ImageDraw.Draw(sheet).polygon([tuple(p) for p in self.pixels(points).tolist()], fill=1)
        return np.asarray(sheet, np.float32)

    def texture(self, seed: int, grain: int) -> Field:
        """Smooth random field of about unit variance with `grain` bumps a side, the same at any size."""
        values = np.random.default_rng(seed).standard_normal((grain, grain), dtype=np.float32)
        sheet = Image.fromarray(values).resize((self.n, self.n), Image.Resampling.BICUBIC)
        return np.asarray(sheet) * 1.3


def ramp(distance: Field, softness: float) -> Field:
    """0 to 1 across an edge at distance 0 that is `softness` wide."""
    return np.clip(distance * (1 / softness) + 0.5, 0, 1)


def lateral_wall(c: Canvas, inset: float | Field = 0.0, apex: float | Field | None = None) -> Field:
    """Distance from the midline of the inner chest wall at each pixel's height."""
    top = c.body.apex if apex is None else apex
    t = np.clip((0.42 - c.y) / (0.42 - top), 0, 1)
    return (c.by_side(*c.body.width) - inset) * np.sqrt(1 - t * t * t * (0.25 + 0.75 * t))


def dome(c: Canvas) -> Field:
    """Height of the diaphragm above each pixel's column."""
    off = c.ax - 0.36
    return c.by_side(*c.body.dome) + off * np.abs(off) * 0.45 + off * off * 0.80


def lung_distance(c: Canvas, wall: Field, floor: Field) -> Field:
    """Distance into the lung from its nearest border; negative outside."""
    high = np.clip(-0.42 - c.y, 0, None)
    bulge = c.y - c.by_side(-0.42, -0.15)  # superior vena cava; pulmonary trunk
    medial = c.ax - 0.085 - 0.7 * high * high - np.clip(0.045 - bulge * bulge * 1.5, 0, None)
    return np.minimum(np.minimum(wall - c.ax, medial), floor - c.y)


def heart(c: Canvas) -> tuple[Field, Field]:
    """Silhouette and thickness of the heart, both 0..1."""
    h = c.body.heart
    grow = (h - 1) * 0.10
    u, v = c.x - 0.13 - grow, c.y - 0.27
    along, across = u * 0.82 + v * 0.57, v * 0.82 - u * 0.57
    ventricle = (along / (h * 0.37)) ** 2 + (across / (0.13 + h * 0.14)) ** 2
    u, v = c.x + 0.05 + grow, c.y - 0.22
    atrium = (u / (h * 0.17)) ** 2 + (v / 0.27) ** 2
    inside = 1 - np.minimum(ventricle, atrium)
    return np.clip(inside * 7 + 0.3, 0, 1), np.sqrt(np.clip(inside, 0, 1))


def mediastinum(c: Canvas) -> Field:
    """Upper mediastinum, great vessels, aortic knob and descending aorta, 0..1."""
    m = c.body.mediastinum
    low = np.clip((c.y + 0.75) * 1.4, 0, 1)
    bulge = low * (1 - low) * (4 * 0.55 * max(0.0, m - 1.0))
    half = 0.095 + low * 0.03 + 0.09 * bulge
    band = ramp(half - c.ax, 0.07) * 0.8
    r = c.body.aorta * (0.65 + 0.35 * m)
    u, v = c.x - 0.06 - r * 0.6, c.y + 0.36
    knob = ramp(r - np.sqrt(u * u + v * v), 0.04)
    return np.maximum(band, knob * 0.9)


def ribs(c: Canvas, wall: Field) -> Field:
    """Posterior ribs (strong, arching down to the side) and anterior ribs (faint, running down to the middle)."""
    b = c.body
    inside = ramp(wall + 0.05 - c.ax, 0.04) * ramp(c.ax - 0.06, 0.04)
    off = c.ax - 0.24
    t = (c.y - off * off * b.rib_slope - b.rib_top) * (1 / b.rib_spacing)
    k = np.rint(t)
    d = np.abs(t - k) * (b.rib_spacing / 0.030)
    back = np.clip((1 - d) * 4, 0, 1) * (0.5 + 0.5 * d * d)
    back *= ((k >= 0) & (k <= 9)) * (0.75 + 0.5 * c.ax)
    t = (c.y + (c.ax - 0.75) * 0.62 - (b.rib_top + 0.13)) * (1 / (b.rib_spacing * 1.12))
    k = np.rint(t)
    d = np.abs(t - k) * (b.rib_spacing * 1.12 / 0.036)
    front = np.clip((1 - d) * 3, 0, 1) * ((k >= 1) & (k <= 6)) * ramp(c.ax - 0.30, 0.12)
    return (back + front * 0.38) * inside


def clavicles(c: Canvas) -> Field:
    """Both collar bones, and the shoulders' heads, as one field."""
    t = c.ax - 0.10
    centre = (-0.60) - t * 0.34 + np.sin(t * 8.5) * 0.022
    d = np.abs(c.y - centre) * (1 / 0.036)
    bone = np.clip((1 - d) * 4, 0, 1) * (0.55 + 0.45 * d * d)
    bone *= ramp(t, 0.05) * ramp(0.80 - c.ax, 0.05)
    u, v = c.ax - 0.97, c.y + 0.70
    head = ramp(0.12 - np.sqrt(u * u + v * v), 0.04)
    blade = np.abs(c.ax - 0.80 + (c.y + 0.25) * 0.16) * (1 / 0.016)
    blade = np.clip(1 - blade, 0, 1) * ramp(0.10 - c.y, 0.2) * ramp(c.y + 0.60, 0.1)
    return bone + head * 0.5 + blade * 0.45


def spine(c: Canvas) -> Field:
    """Vertebral bodies with their disc spaces, seen through the mediastinum."""
    t = c.y * (1 / 0.125)
    disc = np.abs(t - np.rint(t)) * 2
    body = np.clip(disc * 5 - 0.4, 0, 1)
    return ramp(0.080 - c.ax, 0.04) * (0.35 + 0.65 * body)


def vessel_tree(body: Body) -> list[Stroke]:
    """Pulmonary vessels fanning out from both hila, as tapering strokes."""
    rng = np.random.default_rng(body.pattern)
    fan = 9
    side = np.repeat([-1.0, 1.0], fan)[:, None]
    turn = np.tile(np.linspace(-1.35, 1.30, fan), 2)[:, None] + rng.normal(0, 0.08, (2 * fan, 1))
    reach, bend = rng.uniform(0.34, 0.62, (2 * fan, 1)), rng.normal(0, 0.25, (2 * fan, 1))
    fork = rng.uniform(0.3, 0.7, (2 * fan, 1))
    spread = rng.choice([-1.0, 1.0], (2 * fan, 1)) * rng.uniform(0.35, 0.6, (2 * fan, 1))
    s = np.linspace(0, 1, 5)
    a = turn + bend * s + 0.25 * np.sin(5 * s + bend * 9)
    trunks = np.stack([side * (0.15 + reach * s * np.cos(a)), -0.02 + reach * s * np.sin(a)], -1)
    way = 0.42 * reach * s
    start = trunks[:, 1] + (trunks[:, 3] - trunks[:, 1]) * fork
    twigs = start[:, None] + np.stack([way * side * np.cos(turn + spread), way * np.sin(turn + spread)], -1)
    lines: list[Stroke] = []
    for trunk, twig in zip(trunks, twigs, strict=True):
        lines += [(twig, 0.011, 0.26), (trunk, 0.013, 0.34), (trunk[:4], 0.020, 0.55), (trunk[:2], 0.045, 0.85)]
    return lines


def _soft_tissue(c: Canvas, below: Field) -> Field:
    """Muscle, fat, breasts and the abdomen under the domes, before any air or bone."""
    film = 0.56 + 0.10 * below - 0.10 * c.ax * c.ax - 0.06 * np.clip(-0.6 - c.y, 0, None)
    film += below * (0.02 * c.texture(c.body.pattern + 2, 9))
    if c.body.breast > 0:
        u, v = c.ax - 0.50, c.y - 0.28
        film += c.body.breast * ramp(0.34 - np.sqrt(u * u + v * v * 1.3), 0.12)
    u, v = c.x - 0.38, (c.y - (c.body.dome[1] + 0.13)) * 2
    film -= 0.12 * ramp(0.10 - np.sqrt(u * u + v * v), 0.06)  # gas in the stomach
    return film


def _skin(c: Canvas) -> Field:
    """1 inside the body, 0 in the open air above the shoulders and beside the flanks."""
    shoulder = np.where(c.ax < 0.2, np.float32(2), c.y + 1.05 - (c.ax - 0.2) * 0.28)
    flank = 1.02 * c.body.bulk - c.ax + np.clip(-0.1 - c.y, 0, None) * 1.2
    return ramp(np.minimum(shoulder, flank), 0.10)


def draw(body: Body, pose: Pose, n: int) -> Canvas:
    """The healthy chest on a canvas of n x n pixels."""
    c = Canvas(body, pose, n)
    wall, floor = lateral_wall(c), dome(c)
    c.distance = lung_distance(c, wall, floor)
    c.lung = ramp(c.distance, 0.03)
    below = ramp(c.y - floor, 0.05)
    heart_in, heart_thick = heart(c)
    centre = mediastinum(c)
    c.air = c.lung * (0.55 + 0.45 * np.clip(c.distance * 4, 0, 1)) * (0.43 - 0.065 * c.y) * c.by_side(*body.air)
    c.air *= 1 - np.maximum(0.65 * heart_in, 0.35 * centre)
    c.vessels = (0.13 * body.vessels) * c.strokes(vessel_tree(body)) * c.lung * (1 - 0.75 * heart_in)
    film = _soft_tissue(c, below) - c.air + c.vessels
    film += np.maximum(np.maximum(0.08 * heart_in + 0.07 * heart_thick, 0.15 * centre), 0.12 * below)
    film += 0.04 * ramp(0.10 - c.ax, 0.3) + (0.035 * body.bone) * spine(c)
    rim = np.clip(1 - np.abs(c.ax - wall - 0.03) * 28, 0, 1) * (c.y < 0.6)
    film += body.bone * (0.09 * ribs(c, wall) * (1 - 0.6 * np.maximum(below, heart_in)) + 0.05 * rim)
    film += (0.12 * body.bone) * clavicles(c)
    film += 0.012 * c.lung * c.texture(body.pattern + 1, 48)
    film -= 0.13 * ramp(0.036 - np.abs(c.x + 0.004), 0.03) * ramp(-0.24 - c.y, 0.08)  # trachea
    film += pose.scatter * c.texture(pose.grain, 5)
    c.film = film * _skin(c)
    return c
