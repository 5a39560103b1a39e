"""What is drawn as strokes: broken bones, and the lines, tubes and generators that devices leave on a film."""

from collections.abc import Callable

import numpy as np

from clinicclip.data.phantom.anatomy import Field
from clinicclip.data.phantom.findings import Brush

Stroke = tuple[np.ndarray, float, float]


def _curve(*points: tuple[float, float], wobble: float = 0.0, rng: np.random.Generator | None = None) -> np.ndarray:
    """A smooth way through the given points (Catmull-Rom), each moved by up to `wobble`."""
    p = np.array(points)
    if rng is not None:
        p[1:-1] += rng.uniform(-wobble, wobble, p[1:-1].shape)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, 7)[:-1, None]
    parts = []
    for a, b, c, d in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        parts.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.concatenate([*parts, p[-2:-1]])


def _ring(x: float, y: float, width: float, height: float, corner: float = 2.0) -> np.ndarray:
    """A closed superellipse; corner 2 is an ellipse, larger is boxier."""
    t = np.linspace(0, 2 * np.pi, 25)
    c, s = np.cos(t), np.sin(t)
    power = 2 / corner
    return np.stack([x + width * np.sign(c) * np.abs(c) ** power, y + height * np.sign(s) * np.abs(s) ** power], 1)


def _broken(b: Brush, way: Callable[[float], float], a: float, step: float) -> tuple[list[Stroke], list[Stroke]]:
    """The two displaced ends of a bone that follows y = way(distance from the midline), and the gap between."""
    bone, gap = [], []
    ends = ((a - 0.17, a - 0.012, 0.0), (a + 0.012, a + 0.16, step))
    for first, last, off in ends:
        s = np.linspace(first, last, 5)
        bone.append((np.array([[b.sign * t, way(t) + off] for t in s]), 0.050 * b.look.size, 1.0))
    gap.append((np.array([[b.sign * a, way(a) - 0.07], [b.sign * a, way(a) + 0.07 + step]]), 0.022, 1.0))
    return bone, gap


def fracture(b: Brush) -> Field:
    """A rib (or two or three, or the collar bone) broken, its ends apart and out of line."""
    body, rng = b.c.body, b.rng
    step = rng.choice([-1.0, 1.0]) * (0.055 + 0.02 * b.extent) * b.look.size
    bone: list[Stroke] = []
    gap: list[Stroke] = []
    if b.item.kind == "clavicle":
        parts = [(lambda t: -0.60 - (t - 0.1) * 0.34, rng.uniform(0.34, 0.56))]
    else:
        first, a = int(rng.integers(2, 6)), rng.uniform(0.40, 0.58)
        count = 1 + (b.item.size == 2) + (b.item.size == 2 and rng.random() < 0.5)
        parts = [
            (lambda t, k=first + i: body.rib_slope * (t - 0.24) ** 2 + body.rib_top + k * body.rib_spacing, a + 0.03 * i)
            for i in range(count)
        ]
    for way, a in parts:
        ends, cleft = _broken(b, way, a, step)
        bone += ends
        gap += cleft
    b.add(b.c.strokes(gap), -0.12)
    return b.add(b.c.strokes(bone), 0.26)


def _pacemaker(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    x, y = rng.uniform(0.48, 0.64), rng.uniform(-0.56, -0.36)
    case = b.c.fill(_ring(s * x, y, 0.105 * b.look.size, 0.095 * b.look.size, 4.0))
    enter = ((s * (x - 0.05), y - 0.08), (s * 0.30, -0.66), (s * 0.06, -0.52), (-0.09, -0.25))
    leads = [_curve(*enter, (-0.08, 0.05), (0.06, 0.36), (0.26, 0.40), wobble=0.02, rng=rng)]
    if rng.random() < 0.6:
        leads.append(_curve(*enter, (-0.14, 0.06), (-0.06, 0.16), wobble=0.02, rng=rng))
    return [(way, 0.024, 1.0) for way in leads], case


def _port(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    x, y = rng.uniform(0.42, 0.60), rng.uniform(-0.46, -0.26)
    way = _curve((s * x, y), (s * 0.34, -0.62), (s * 0.10, -0.60), (-0.10, -0.30), (-0.11, -0.02), wobble=0.03, rng=rng)
    return [(way, 0.022, 1.0)], b.c.fill(_ring(s * x, y, 0.060, 0.060))


def _picc(b: Brush) -> tuple[list[Stroke], Field | None]:
    s = b.sign
    tip = b.rng.uniform(-0.10, 0.10)
    points = ((s * 1.0, -0.34), (s * 0.72, -0.55), (s * 0.38, -0.60), (s * 0.08, -0.52), (-0.10, -0.28), (-0.11, tip))
    return [(_curve(*points, wobble=0.05, rng=b.rng), 0.022, 1.0)], None


def _jugular(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, x = b.sign, b.rng.uniform(0.13, 0.22)
    points = ((s * (x + 0.04), -1.0), (s * x, -0.75), (s * 0.10 if s < 0 else 0.02, -0.50), (-0.10, -0.25), (-0.11, 0.02))
    return [(_curve(*points, wobble=0.02, rng=b.rng), 0.026, 1.0)], None


def _endotracheal(b: Brush) -> tuple[list[Stroke], Field | None]:
    end = b.rng.uniform(-0.46, -0.30)
    walls = [_curve((d, -1.05), (d + b.rng.uniform(-0.01, 0.01), -0.7), (d, end)) for d in (-0.022, 0.022)]
    return [(way, 0.016, 1.0) for way in walls], None


def _enteric(b: Brush) -> tuple[list[Stroke], Field | None]:
    way = _curve((0.0, -1.05), (0.01, -0.4), (0.03, 0.2), (0.10, 0.48), (0.36, 0.62), (0.46, 0.80), wobble=0.02, rng=b.rng)
    return [(way, 0.026, 1.0)], None


def _chest_tube(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    start, tip = rng.uniform(0.05, 0.40), rng.uniform(-0.60, -0.30)
    way = _curve((s * 1.0, start + 0.1), (s * 0.72, start - 0.05), (s * 0.52, -0.15), (s * 0.34, tip), wobble=0.04, rng=rng)
    return [(way, 0.040, 1.0)], None


def _wires(b: Brush) -> tuple[list[Stroke], Field | None]:
    rows = np.linspace(-0.42, 0.22, 5) + b.rng.uniform(-0.02, 0.02, 5)
    return [(_ring(b.rng.uniform(-0.01, 0.01), y, 0.055, 0.026), 0.020, 1.0) for y in rows], None


DEVICES: dict[str, Callable[[Brush], tuple[list[Stroke], Field | None]]] = {
    "pacemaker": _pacemaker,
    "port": _port,
    "picc": _picc,
    "jugular": _jugular,
    "endotracheal": _endotracheal,
    "enteric": _enteric,
    "chest_tube": _chest_tube,
    "wires": _wires,
}


def device(b: Brush) -> Field:
    """Metal and plastic: thin, bright, with the smooth course of something put there."""
    lines, solid = DEVICES[b.item.kind](b)
    region = b.c.strokes(lines)
    if solid is not None:
        region = np.maximum(region, solid)
    return b.add(region, 0.34)
