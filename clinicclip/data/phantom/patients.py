"""Who the patients are and what they have at each visit: bodies, findings that persist, grow and heal."""

from dataclasses import dataclass, field, replace

import numpy as np

from clinicclip.data.phantom.anatomy import Body, Pose
from clinicclip.data.phantom.findings import Item, Look
from clinicclip.data.schema import BOTH, LEFT, NO_SIDE, RIGHT

# Share of visits with the finding, among patients who are not healthy altogether: long-tailed.
PREVALENCE = {
    "cardiomegaly": 0.18,
    "enlarged_cardiomediastinum": 0.07,
    "edema": 0.10,
    "pleural_effusion": 0.20,
    "consolidation": 0.10,
    "pneumonia": 0.10,
    "lung_opacity": 0.09,
    "lung_lesion": 0.13,
    "atelectasis": 0.15,
    "fracture": 0.08,
    "pneumothorax": 0.11,
    "pleural_other": 0.07,
    "support_devices": 0.24,
}
STAYS = {"cardiomegaly": 0.9, "enlarged_cardiomediastinum": 0.9, "lung_lesion": 0.85, "pleural_other": 0.95}
COMMON_STAY = 0.55  # chance that any other finding is still there at the next visit
HEALTHY = 0.15  # share of patients who never have a finding
# Mild company: a present cause raises the chance of the effect by this factor.
COMPANY = {
    ("cardiomegaly", "edema"): 1.6,
    ("edema", "pleural_effusion"): 1.6,
    ("pleural_effusion", "atelectasis"): 1.4,
    ("fracture", "pneumothorax"): 1.5,
    ("pneumothorax", "support_devices"): 1.3,
    ("edema", "support_devices"): 1.3,
}
DEVICE_KINDS = {
    "pacemaker": 0.24, "picc": 0.17, "jugular": 0.13, "endotracheal": 0.08,
    "enteric": 0.10, "port": 0.14, "wires": 0.05, "chest_tube": 0.09,
}  # fmt: skip
BOTH_SIDES = {"pleural_effusion": 0.25, "atelectasis": 0.25, "pneumonia": 0.20, "pleural_other": 0.15, "edema": 1.0}
SIDELESS = ("cardiomegaly", "enlarged_cardiomediastinum")
SIDELESS_DEVICES = ("endotracheal", "enteric", "wires")
SIZES = (0.34, 0.38, 0.28)  # small, moderate, large
AGE_BANDS = ("18-39", "40-59", "60-79", "80+")


@dataclass(frozen=True)
class Level:
    """One difficulty of the world; its values are frozen with the version."""

    name: str
    code: int  # enters every seed
    look: Look
    noise: float
    exposure: float  # spread of brightness, contrast, position and tilt
    company: float  # power of the factors in COMPANY
    hedged: float  # share of present findings the report only suspects


@dataclass(frozen=True)
class Visit:
    """What one study of a patient is made from."""

    body: Body
    pose: Pose
    items: tuple[Item, ...]
    resolved: tuple[Item, ...] = ()  # present at the visit before, gone now
    age_band: str = ""
    sex: str = field(default="")


def _choose(rng: np.random.Generator, table: dict[str, float]) -> str:
    shares = np.cumsum(list(table.values()))
    return list(table)[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]


def _new_item(finding: str, rng: np.random.Generator, present: dict[str, Item]) -> Item:
    draw = rng.random(6)
    side = (RIGHT if draw[0] < 0.5 else LEFT) if draw[1] >= BOTH_SIDES.get(finding, 0.0) else BOTH
    kind = ""
    if finding in SIDELESS:
        side = NO_SIDE
    elif finding == "lung_lesion":
        kind = "nodule" if draw[2] < 0.6 else "mass"
    elif finding == "fracture":
        kind = "rib" if draw[2] < 0.75 else "clavicle"
    elif finding == "pleural_other":
        kind = "thickening" if draw[2] < 0.6 else "plaque"
    elif finding == "support_devices":
        kind = _choose(rng, DEVICE_KINDS)
        if "pneumothorax" in present and draw[2] < 0.4:
            kind, side = "chest_tube", present["pneumothorax"].side
        side = NO_SIDE if kind in SIDELESS_DEVICES else side
        if kind == "pacemaker":
            side = LEFT if draw[3] < 0.65 else RIGHT
    size = int(np.searchsorted(np.cumsum(SIZES), draw[4], side="right"))
    return Item(finding, kind, side, min(size, 2), int(draw[5] * 3), int(rng.integers(2**31)))


def _next(before: dict[str, Item] | None, level: Level, rng: np.random.Generator) -> dict[str, Item]:
    """The findings of a visit given those of the one before (None = first visit)."""
    now: dict[str, Item] = {}
    for finding, share in PREVALENCE.items():
        for cause, effect in COMPANY:
            if effect == finding and cause in now:
                share *= COMPANY[cause, effect] ** level.company
        stay = STAYS.get(finding, COMMON_STAY)
        chance = share
        if before is not None:  # kept or newly come such that the share stays what it is
            chance = stay if finding in before else share * (1 - stay) / (1 - share)
        if rng.random() >= chance:
            continue
        if before is None or finding not in before:
            now[finding] = replace(_new_item(finding, rng, now), trend="" if before is None else "new")
            continue
        old = before[finding]
        size = min(2, max(0, old.size + int(rng.choice([-1, 0, 0, 1])))) if finding != "support_devices" else old.size
        trend = "unchanged" if size == old.size else "increased" if size > old.size else "decreased"
        now[finding] = replace(old, size=size, trend=trend)
    return now


def _body(rng: np.random.Generator, female: bool, age: int) -> Body:
    w = 0.775 + rng.normal(0, 0.022)
    d = 0.41 + rng.normal(0, 0.025)
    return Body(
        width=(float(w + rng.normal(0, 0.010)), float(w + rng.normal(0, 0.010))),
        apex=-0.80 + float(rng.normal(0, 0.02)),
        dome=(d, d + 0.055 + float(rng.normal(0, 0.015))),
        heart=1.0 + float(rng.normal(0, 0.045)),
        mediastinum=1.0 + float(np.clip(rng.normal(0, 0.15), -0.3, 0.3)),
        aorta=0.060 + 0.010 * age + float(rng.normal(0, 0.006)),
        vessels=float(rng.uniform(0.8, 1.2)),
        rib_spacing=0.150 + float(rng.normal(0, 0.006)),
        rib_slope=0.85 + float(rng.normal(0, 0.10)),
        rib_top=-0.80 + float(rng.uniform(-0.07, 0.07)),
        bone=1.05 - 0.08 * age + float(rng.normal(0, 0.08)),
        breast=float(rng.uniform(0.03, 0.08)) if female else 0.0,
        bulk=float(rng.uniform(0.93, 1.12)),
        pattern=int(rng.integers(2**31)),
    )


def _pose(level: Level, rng: np.random.Generator) -> Pose:
    e = level.exposure
    g = rng.normal(size=7)
    return Pose(
        angle=float(np.clip(g[0], -2, 2) * 2.0 * e),
        scale=float(1.0 + np.clip(g[1], -2, 2) * 0.030 * e),
        shift=(float(g[2] * 0.025 * e), float(g[3] * 0.025 * e)),
        low=float(np.clip(g[4], -2, 2) * 0.020 * e),
        high=float(1.00 + np.clip(g[5], -2, 2) * 0.035 * e),
        gamma=float(np.exp(np.clip(g[6], -2, 2) * 0.12 * e)),
        scatter=float(0.030 * e),
        noise=float(level.noise * rng.uniform(0.7, 1.3)),
        marker=bool(rng.random() < 0.7),
        grain=int(rng.integers(2**31)),
    )


def visit(level: Level, seed: int, patient: int, number: int) -> Visit:
    """The `number`-th visit (from 0) of a patient: a function of its arguments alone."""
    rng = np.random.default_rng((seed, level.code, 1, patient))
    female, age = bool(rng.random() < 0.5), int(rng.choice(4, p=(0.2, 0.3, 0.35, 0.15)))
    body, healthy = _body(rng, female, age), bool(rng.random() < HEALTHY)
    before: dict[str, Item] | None = None
    now: dict[str, Item] = {}
    for _ in range(number + 1):
        before, now = (now if _ else None), ({} if healthy else _next(now if _ else None, level, rng))
    rng = np.random.default_rng((seed, level.code, 2, patient, number))
    breath = float(np.clip(rng.normal(0, 0.03), -0.06, 0.06))
    dome = (body.dome[0] + breath, body.dome[1] + breath)
    body = replace(body, dome=dome, air=(1.0 + float(rng.normal(0, 0.07)), 1.0 + float(rng.normal(0, 0.07))))
    gone = tuple(item for name, item in (before or {}).items() if name not in now)
    return Visit(body, _pose(level, rng), tuple(now.values()), gone, AGE_BANDS[age], "F" if female else "M")
