"""What is drawn as strokes: broken bones, and the lines, tubes and generators that devices leave on a film."""

from collections.abc import Callable
from functools import partial

import numpy as np

from clinicclip.data.phantom.anatomy import Body, Field, Stroke
from clinicclip.data.phantom.findings import Brush


def _course(b: Brush, wobble: float, *points: tuple[float, float]) -> np.ndarray:
    """A smooth way through the given points (Catmull-Rom), the inner ones moved by up to `wobble`."""
    p = np.array(points)
    p[1:-1] += b.rng.uniform(-wobble, wobble, p[1:-1].shape)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, 7)[:-1, None]
    parts = []
    for p0, p1, p2, p3 in zip(p[:-3], p[1:-2], p[2:-1], p[3:], strict=True):
        cubic = 3 * (p1 - p2) + p3 - p0
        parts.append(p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * cubic)))
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
    ends = ((a - 0.20, a - 0.015, 0.0), (a + 0.015, a + 0.19, step))
    for first, last, off in ends:
        s = np.linspace(first, last, 5)
        bone.append((np.array([[b.sign * t, way(t) + off] for t in s]), 0.062 * b.look.size, 1.0))
    gap.append((np.array([[b.sign * a, way(a) - 0.035], [b.sign * a, way(a) + 0.035 + step]]), 0.030, 1.0))
    return bone, gap


def _rib(body: Body, number: int, across: float) -> float:
    return body.rib_slope * (across - 0.24) ** 2 + body.rib_top + number * body.rib_spacing


def _collar_bone(across: float) -> float:
    return -0.60 - (across - 0.1) * 0.34


def fracture(b: Brush) -> Field:
    """A rib (or two or three, or the collar bone) broken, its ends apart and out of line."""
    body, rng = b.c.body, b.rng
    step = rng.choice([-1.0, 1.0]) * (0.085 + 0.03 * b.extent) * b.look.size
    bone: list[Stroke] = []
    gap: list[Stroke] = []
    parts: list[tuple[Callable[[float], float], float]]
    if b.item.kind == "clavicle":
        parts = [(_collar_bone, rng.uniform(0.34, 0.56))]
    else:
        first, a = int(rng.integers(2, 6)), rng.uniform(0.40, 0.58)
        count = 1 if b.item.size < 2 else 2 + int(rng.random() < 0.7)
        parts = [(partial(_rib, body, first + i), a + 0.03 * i) for i in range(count)]
    for way, a in parts:
        ends, cleft = _broken(b, way, a, step)
        bone += ends
        gap += cleft
    b.add(b.c.strokes(gap, 0.006), -0.16)
    return b.add(b.c.strokes(bone, 0.010), 0.50)


def _pacemaker(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    x, y = rng.uniform(0.48, 0.64), rng.uniform(-0.56, -0.36)
    case = b.c.fill(_ring(s * x, y, 0.125 * b.look.size, 0.110 * b.look.size, 4.0))
    enter = ((s * (x - 0.05), y - 0.08), (s * 0.30, -0.66), (s * 0.06, -0.52), (-0.09, -0.25))
    leads = [_course(b, 0.02, *enter, (-0.08, 0.05), (0.06, 0.36), (0.26, 0.40))]
    if rng.random() < 0.6:
        leads.append(_course(b, 0.02, *enter, (-0.14, 0.06), (-0.06, 0.16)))
    return [(way, 0.036, 1.0) for way in leads], case


def _port(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    x, y = rng.uniform(0.42, 0.60), rng.uniform(-0.46, -0.26)
    way = _course(b, 0.03, (s * x, y), (s * 0.34, -0.62), (s * 0.10, -0.60), (-0.10, -0.30), (-0.11, -0.02))
    return [(way, 0.034, 1.0)], b.c.fill(_ring(s * x, y, 0.075, 0.075))


def _picc(b: Brush) -> tuple[list[Stroke], Field | None]:
    s = b.sign
    tip = b.rng.uniform(-0.10, 0.10)
    points = ((s * 1.0, -0.34), (s * 0.72, -0.55), (s * 0.38, -0.60), (s * 0.08, -0.52), (-0.10, -0.28), (-0.11, tip))
    return [(_course(b, 0.05, *points), 0.034, 1.0)], None


def _jugular(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, x = b.sign, b.rng.uniform(0.13, 0.30)
    turn, tip = (0.02 if s > 0 else -0.10), b.rng.uniform(-0.15, 0.15)
    points = ((s * (x + 0.04), -1.0), (s * x, -0.75), (turn, -0.50), (-0.10, -0.25), (-0.11, tip))
    return [(_course(b, 0.03, *points), 0.034, 1.0)], None


def _endotracheal(b: Brush) -> tuple[list[Stroke], Field | None]:
    end, x = b.rng.uniform(-0.50, -0.26), b.rng.uniform(-0.02, 0.02)
    walls = [_course(b, 0.01, (x + d, -1.05), (x + d, -0.7), (x + d, end)) for d in (-0.028, 0.028)]
    return [(way, 0.020, 0.9) for way in walls], None


def _enteric(b: Brush) -> tuple[list[Stroke], Field | None]:
    end = (b.rng.uniform(0.24, 0.50), b.rng.uniform(0.62, 0.86))
    way = _course(b, 0.03, (0.0, -1.05), (0.01, -0.4), (0.03, 0.2), (0.10, 0.48), (0.30, 0.62), end)
    return [(way, 0.032, 1.0)], None


def _chest_tube(b: Brush) -> tuple[list[Stroke], Field | None]:
    s, rng = b.sign, b.rng
    start, tip = rng.uniform(0.05, 0.40), rng.uniform(-0.60, -0.30)
    way = _course(b, 0.04, (s * 1.0, start + 0.1), (s * 0.72, start - 0.05), (s * 0.52, -0.15), (s * 0.34, tip))
    return [(way, 0.054, 1.0)], None


def _wires(b: Brush) -> tuple[list[Stroke], Field | None]:
    rows = np.linspace(-0.42, 0.22, 5) + b.rng.uniform(-0.02, 0.02, 5)
    return [(_ring(b.rng.uniform(-0.01, 0.01), y, 0.065, 0.030), 0.028, 1.0) for y in rows], None


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
    return b.add(region, 0.44)
