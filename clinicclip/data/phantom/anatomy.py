"""A normal chest on a frontal radiograph, drawn as attenuation that adds up along the ray.

Anatomical coordinates: x in [-1, 1] grows to the image's right, which is the patient's **left**; y in [-1, 1] grows
downwards. Every length is in these units (one unit = half the image side), so a chest is the same at any pixel size.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

OVERSAMPLE = 2  # drawn at twice the asked size, then averaged: antialiasing for masks and lines alike

Field = Float[np.ndarray, "n n"]


@dataclass(frozen=True)
class Body:
    """The shape of one patient's chest; findings change it before it is drawn (heart, domes, vessels)."""

    width: tuple[float, float] = (0.78, 0.78)  # half width of the right and the left hemithorax
    apex: float = -0.80
    dome: tuple[float, float] = (0.40, 0.46)  # top of the right and the left hemidiaphragm
    heart: float = 1.0  # transverse size, 1 = a cardiothoracic ratio of about .44
    mediastinum: float = 1.0  # width of the upper mediastinum, 1 = normal
    aorta: float = 0.08  # radius of the aortic knob
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
    haze: float = 0.0  # brightness slope from left to right
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
    vessels: Field = field(init=False)  # what the vessels added to the film

    def __post_init__(self) -> None:
        line = ((np.arange(self.n, dtype=np.float32) + 0.5) * (2.0 / self.n)) - 1.0
        turn = np.float32(np.deg2rad(self.pose.angle))
        cos, sin = np.cos(turn) / self.pose.scale, np.sin(turn) / self.pose.scale
        u = (line - np.float32(self.pose.shift[0]))[None, :]
        v = (line - np.float32(self.pose.shift[1]))[:, None]
        self.x = (cos * u + sin * v).astype(np.float32)
        self.y = (cos * v - sin * u).astype(np.float32)
        self.ax = np.abs(self.x)
        self.left = self.x > 0
        self.film = np.zeros((self.n, self.n), np.float32)

    def pixels(self, points: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 2"]:
        """Anatomical points [k, 2] as canvas pixels (column, row)."""
        turn = np.deg2rad(self.pose.angle)
        cos, sin = np.cos(turn) * self.pose.scale, np.sin(turn) * self.pose.scale
        u = cos * points[:, 0] - sin * points[:, 1] + self.pose.shift[0]
        v = sin * points[:, 0] + cos * points[:, 1] + self.pose.shift[1]
        return (np.stack([u, v], 1) + 1.0) * (self.n / 2.0)

    def by_side(self, right: float, left: float) -> Field:
        """A field that is `right` on the patient's right and `left` on the left."""
        return np.where(self.left, np.float32(left), np.float32(right))

    def strokes(self, lines: "list[tuple[np.ndarray, float, float]]") -> Field:
        """Polylines (points [k, 2], width, strength <= 1) drawn as one field; the stronger line wins."""
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
        return np.asarray(sheet, np.float32) * np.float32(1 / 255)

    def fill(self, points: Float[np.ndarray, "k 2"]) -> Field:
        """A filled polygon as a 0/1 field."""
        sheet = Image.new("L", (self.n, self.n))
        ImageDraw.Draw(sheet).polygon([tuple(p) for p in self.pixels(points).tolist()], fill=1)
        return np.asarray(sheet, np.float32)

    def texture(self, seed: int, grain: int) -> Field:
        """Smooth random field of about unit variance with `grain` bumps a side, the same at any size."""
        values = np.random.default_rng(seed).standard_normal((grain, grain), dtype=np.float32)
        sheet = Image.fromarray(values).resize((self.n, self.n), Image.Resampling.BICUBIC)
        return np.asarray(sheet) * np.float32(1.3)


def ramp(distance: Field, softness: float) -> Field:
    """0 to 1 across an edge at distance 0 that is `softness` wide."""
    return np.clip(distance * np.float32(1 / softness) + np.float32(0.5), 0, 1)


def lateral_wall(c: Canvas, inset: float | Field = 0.0, apex: float | Field | None = None) -> Field:
    """Distance from the midline of the inner chest wall at each pixel's height."""
    top = c.body.apex if apex is None else apex
    t = np.clip((np.float32(0.42) - c.y) / (np.float32(0.42) - top), 0, 1)
    return (c.by_side(*c.body.width) - inset) * np.sqrt(1 - t * t * t * (np.float32(0.25) + np.float32(0.75) * t))


def dome(c: Canvas) -> Field:
    """Height of the diaphragm above each pixel's column."""
    off = c.ax - np.float32(0.36)
    return c.by_side(*c.body.dome) + off * np.abs(off) * np.float32(0.45) + off * off * np.float32(0.80)


def lung_distance(c: Canvas, wall: Field) -> Field:
    """Distance into the lung from its nearest border; negative outside."""
    high = np.clip(np.float32(-0.42) - c.y, 0, None)
    medial = c.ax - np.float32(0.085) - high * high * np.float32(0.7)
    return np.minimum(np.minimum(wall - c.ax, medial), dome(c) - c.y)


def heart(c: Canvas) -> tuple[Field, Field]:
    """Silhouette and thickness of the heart, both 0..1."""
    h = np.float32(c.body.heart)
    grow = (h - 1) * np.float32(0.10)
    u, v = c.x - np.float32(0.13) - grow, c.y - np.float32(0.27)
    along, across = u * np.float32(0.82) + v * np.float32(0.57), v * np.float32(0.82) - u * np.float32(0.57)
    ventricle = (along / (h * np.float32(0.37))) ** 2 + (across / (np.float32(0.13) + h * np.float32(0.14))) ** 2
    u, v = c.x + np.float32(0.05) + grow, c.y - np.float32(0.22)
    atrium = (u / (h * np.float32(0.17))) ** 2 + (v / np.float32(0.27)) ** 2
    inside = 1 - np.minimum(ventricle, atrium)
    return np.clip(inside * np.float32(7) + np.float32(0.3), 0, 1), np.sqrt(np.clip(inside, 0, 1))


def mediastinum(c: Canvas) -> Field:
    """Upper mediastinum, great vessels, aortic knob and descending aorta, 0..1."""
    m = c.body.mediastinum
    low = np.clip((c.y + np.float32(0.75)) * np.float32(1.4), 0, 1)
    bulge = low * (1 - low) * np.float32(4 * 0.55 * max(0.0, m - 1.0))
    half = np.float32(0.095) + low * np.float32(0.03) + np.float32(0.09) * bulge
    band = ramp(half - c.ax, 0.05) * np.float32(0.8)
    r = np.float32(c.body.aorta * (0.65 + 0.35 * m))
    u, v = c.x - np.float32(0.06) - r * np.float32(0.6), c.y + np.float32(0.36)
    knob = ramp(r - np.sqrt(u * u + v * v), 0.04)
    return np.maximum(band, knob * np.float32(0.9))


def ribs(c: Canvas, wall: Field) -> Field:
    """Posterior ribs (strong, arching down to the side) and anterior ribs (faint, running down to the middle)."""
    b = c.body
    inside = ramp(wall + np.float32(0.05) - c.ax, 0.04) * ramp(c.ax - np.float32(0.06), 0.04)
    off = c.ax - np.float32(0.24)
    t = (c.y - off * off * np.float32(b.rib_slope) - np.float32(b.rib_top)) * np.float32(1 / b.rib_spacing)
    k = np.rint(t)
    d = np.abs(t - k) * np.float32(b.rib_spacing / 0.030)
    back = np.clip((1 - d) * 4, 0, 1) * (np.float32(0.5) + np.float32(0.5) * d * d)
    back *= ((k >= 0) & (k <= 9)) * (np.float32(0.75) + np.float32(0.5) * c.ax)
    t = (c.y + (c.ax - np.float32(0.75)) * np.float32(0.62) - np.float32(b.rib_top + 0.13)) * np.float32(
        1 / (b.rib_spacing * 1.12)
    )
    k = np.rint(t)
    d = np.abs(t - k) * np.float32(b.rib_spacing * 1.12 / 0.036)
    front = np.clip((1 - d) * 3, 0, 1) * ((k >= 1) & (k <= 6)) * ramp(c.ax - np.float32(0.30), 0.12)
    return (back + front * np.float32(0.38)) * inside


def clavicles(c: Canvas) -> Field:
    """Both collar bones, and the shoulders' heads, as one field."""
    t = c.ax - np.float32(0.10)
    centre = np.float32(-0.60) - t * np.float32(0.34) + np.sin(t * np.float32(8.5)) * np.float32(0.022)
    d = np.abs(c.y - centre) * np.float32(1 / 0.036)
    bone = np.clip((1 - d) * 4, 0, 1) * (np.float32(0.55) + np.float32(0.45) * d * d)
    bone *= ramp(t, 0.05) * ramp(np.float32(0.80) - c.ax, 0.05)
    u, v = c.ax - np.float32(0.97), c.y + np.float32(0.70)
    head = ramp(np.float32(0.12) - np.sqrt(u * u + v * v), 0.04)
    blade = np.abs(c.ax - np.float32(0.80) + (c.y + np.float32(0.25)) * np.float32(0.16)) * np.float32(1 / 0.016)
    blade = np.clip(1 - blade, 0, 1) * ramp(np.float32(0.10) - c.y, 0.2) * ramp(c.y + np.float32(0.60), 0.1)
    return bone + head * np.float32(0.5) + blade * np.float32(0.45)


def spine(c: Canvas) -> Field:
    """Vertebral bodies with their disc spaces, seen through the mediastinum."""
    t = c.y * np.float32(1 / 0.125)
    disc = np.abs(t - np.rint(t)) * 2
    body = np.clip(disc * 5 - np.float32(0.4), 0, 1)
    edge = np.clip((np.abs(c.ax - np.float32(0.072)) * np.float32(-60)) + 1, 0, 1)
    return (ramp(np.float32(0.080) - c.ax, 0.02) * (np.float32(0.35) + np.float32(0.65) * body)) + edge * np.float32(0.4)


def vessel_tree(body: Body) -> "list[tuple[np.ndarray, float, float]]":
    """Pulmonary vessels fanning out from both hila, as tapering strokes."""
    rng = np.random.default_rng(body.pattern)
    fan, s = 9, np.linspace(0, 1, 5)[:, None]
    lines: list[tuple[np.ndarray, float, float]] = []
    for side in (-1.0, 1.0):
        turn = np.linspace(-1.35, 1.30, fan) + rng.normal(0, 0.08, fan)
        reach, bend = rng.uniform(0.34, 0.62, fan), rng.normal(0, 0.25, fan)
        fork, spread = rng.uniform(0.3, 0.7, fan), rng.choice([-1.0, 1.0], fan) * rng.uniform(0.35, 0.6, fan)
        for i in range(fan):
            a = turn[i] + bend[i] * s + 0.25 * np.sin(5 * s + bend[i] * 9)
            trunk = np.concatenate([side * (0.15 + reach[i] * s * np.cos(a)), -0.02 + reach[i] * s * np.sin(a)], 1)
            start = trunk[1:2] + (trunk[3:4] - trunk[1:2]) * fork[i]
            a = turn[i] + spread[i]
            twig = start + 0.42 * reach[i] * s * np.array([[side * np.cos(a), np.sin(a)]])
            lines += [(twig, 0.011, 0.26), (trunk, 0.013, 0.34), (trunk[:4], 0.020, 0.55), (trunk[:2], 0.045, 0.85)]
    return lines


def draw(body: Body, pose: Pose, n: int) -> Canvas:
    """The healthy chest on a canvas of n x n pixels."""
    c = Canvas(body, pose, n)
    wall = lateral_wall(c)
    distance = lung_distance(c, wall)
    lung = ramp(distance, 0.03)
    depth = lung * (np.float32(0.55) + np.float32(0.45) * np.clip(distance * np.float32(4), 0, 1))
    shoulder = np.where(c.ax < np.float32(0.2), np.float32(2), (c.y + np.float32(1.05)) - (c.ax - 0.2) * np.float32(0.28))
    flank = np.float32(1.02 * body.bulk) - c.ax + np.clip(np.float32(-0.1) - c.y, 0, None) * np.float32(1.2)
    skin = ramp(np.minimum(shoulder, flank), 0.10)
    below = ramp(c.y - dome(c), 0.05)
    heart_in, heart_thick = heart(c)
    film = np.float32(0.56) + np.float32(0.10) * below - np.float32(0.10) * c.ax * c.ax
    film -= np.float32(0.06) * np.clip(np.float32(-0.6) - c.y, 0, None)
    centre = mediastinum(c)
    solid = np.maximum(np.float32(0.19) * heart_in + np.float32(0.08) * heart_thick, np.float32(0.21) * centre)
    depth *= 1 - np.float32(0.35) * np.maximum(heart_in, centre)
    film -= np.float32(0.43) * depth * (1 - np.float32(0.15) * c.y)
    film += np.maximum(solid, np.float32(0.16) * below)
    film += np.float32(0.05) * ramp(np.float32(0.10) - c.ax, 0.3) + np.float32(0.045 * body.bone) * spine(c)
    rim = np.clip(1 - np.abs(c.ax - wall - np.float32(0.03)) * np.float32(28), 0, 1) * (c.y < np.float32(0.6))
    bones = np.float32(0.09) * ribs(c, wall) * (1 - np.float32(0.6) * np.maximum(below, heart_in))
    film += np.float32(body.bone) * (bones + np.float32(0.05) * rim)
    film += np.float32(0.12 * body.bone) * clavicles(c)
    tree = c.strokes(vessel_tree(body)) * lung * (1 - np.float32(0.75) * heart_in)
    c.vessels = np.float32(0.13 * body.vessels) * tree
    film += c.vessels + np.float32(0.012) * lung * c.texture(body.pattern + 1, 48)
    if body.breast > 0:
        u, v = c.ax - np.float32(0.50), c.y - np.float32(0.28)
        film += np.float32(body.breast) * ramp(np.float32(0.34) - np.sqrt(u * u + v * v * np.float32(1.3)), 0.12)
    u, v = c.x - np.float32(0.38), (c.y - np.float32(body.dome[1] + 0.13)) * 2
    film -= np.float32(0.10) * ramp(np.float32(0.10) - np.sqrt(u * u + v * v), 0.06)
    trachea = ramp(np.float32(0.034) - np.abs(c.x), 0.03) * ramp(np.float32(-0.24) - c.y, 0.08)
    film -= np.float32(0.09) * trachea
    c.film, c.lung, c.distance = film * skin, lung, distance
    return c
