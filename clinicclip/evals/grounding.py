"""Grounding: does the likeness of patches and prompt lie where the finding is boxed?

A map is the cosine of the affirming prompts with every patch, between patches as a bilinear surface. Images are
squashed to a square, so that a point of the map lies at the same share of width and height as in the original; boxes
are compared there, in original pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from clinicclip.data.schema import INDEX, Box
from clinicclip.evals.base import Embedded, EvalSet, Seen
from clinicclip.evals.results import Part, Result
from clinicclip.evals.stats import NOTHING, PatientBootstrap, mean

GRID = 224  # points a side at which a map and the boxes are compared
THRESHOLDS = np.linspace(-1.0, 1.0, 401)  # cosines from which on a point is called
NO_PATCHES = "this model gives no embeddings of patches"
FLAT = "every map is flat"
NO_BOXES = "no validation split with boxes: nothing to choose a threshold on"


class Case(NamedTuple):
    """One finding boxed in one image."""

    row: int
    finding: str
    boxes: tuple[Box, ...]


def cases(evalset: EvalSet) -> list[Case]:
    """Every finding of every image that has boxes of it."""
    found = []
    for row, boxes in enumerate(evalset.boxes):
        by_finding: dict[str, list[Box]] = {}
        for box in boxes:
            by_finding.setdefault(box.finding, []).append(box)
        found += [Case(row, finding, tuple(own)) for finding, own in by_finding.items()]
    return found


def points(height: int, width: int, grid: int = GRID) -> tuple[Float[np.ndarray, "g"], Float[np.ndarray, "g"]]:
    """Where the grid's rows and columns lie: y and x in pixels of an original image of this size."""
    places = (np.arange(grid) + 0.5) / grid
    return places * height, places * width


def inside(boxes: tuple[Box, ...], height: int, width: int, grid: int = GRID) -> Bool[np.ndarray, "g g"]:
    """Which points of the grid lie in any of the boxes, which are in pixels of the original.

    A box between the points has the one nearest to its centre, so that none is without any.
    """
    y, x = points(height, width, grid)
    mask = np.zeros((grid, grid), bool)
    for box in boxes:
        mask |= _within(y, box.y, box.height)[:, None] & _within(x, box.x, box.width)[None, :]
    return mask


def _within(places: Float[np.ndarray, "g"], start: float | int, length: float | int) -> Bool[np.ndarray, "g"]:
    """Which places lie between start and end, the start counted in; the nearest to the middle where none does."""
    within = (places >= start) & (places < start + length)
    if not within.any():
        within[np.abs(places - (start + length / 2)).argmin()] = True
    return within


def surface(patches: Float[np.ndarray, "h w"], grid: int = GRID) -> Float[np.ndarray, "g g"]:
    """The map between the centres of its patches, bilinear; beyond the outermost centres it goes on level."""
    height, width = patches.shape
    return _between(height, grid) @ patches @ _between(width, grid).T


@cache
def _between(side: int, grid: int) -> Float[np.ndarray, "g s"]:
    """Weights of the patches of one side at each point of the grid."""
    at = np.clip((np.arange(grid) + 0.5) * side / grid - 0.5, 0, side - 1)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(side)))


def pointing(heat: Float[np.ndarray, "g g"], mask: Bool[np.ndarray, "g g"]) -> float:
    """1 where the highest point lies in a box, else 0; points that tie share. Source: Zhang et al., ECCV 2016."""
    return float(mask[heat == heat.max()].mean())


def cnr(heat: Float[np.ndarray, "g g"], mask: Bool[np.ndarray, "g g"]) -> float:
    """Contrast-to-noise ratio |mean in - mean out| / sqrt(variance in + variance out); nan for a flat map.

    Source: Boecking et al., ECCV 2022.
    """
    within, without = heat[mask], heat[~mask]
    if not (len(within) and len(without)) or within.var() + without.var() < 1e-12:
        return float("nan")
    return float(abs(within.mean() - without.mean()) / np.sqrt(within.var() + without.var()))


def overlaps(heat: Float[np.ndarray, "g g"], mask: Bool[np.ndarray, "g g"]) -> Float[np.ndarray, "t"]:
    """Intersection over union of the points called at each of THRESHOLDS with the boxes."""
    reached = _reached(heat)
    called, common = (_at_least(part) for part in (reached.ravel(), reached[mask]))
    return common / (called + mask.sum() - common)


def _reached(heat: Float[np.ndarray, "g g"]) -> Int[np.ndarray, "g g"]:
    """How many of THRESHOLDS, which lie evenly, each point reaches."""
    edges = np.concatenate([[-np.inf], THRESHOLDS, [np.inf]])
    guess = np.clip((heat - THRESHOLDS[0]) / (THRESHOLDS[1] - THRESHOLDS[0]) + 1, 0, len(THRESHOLDS)).astype(int)
    guess -= heat < edges[guess]  # where rounding put it on the wrong side
    return guess + (heat >= edges[guess + 1])


def _at_least(reached: Int[np.ndarray, "m"]) -> Int[np.ndarray, "t"]:
    """How many points reach each of THRESHOLDS."""
    return np.bincount(reached, minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[-2::-1]


@dataclass(frozen=True)
class Grounding:
    """The threshold of the mean IoU is one for all findings, the best on the validation split."""

    validation: Seen | None

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result]:
        """Yield `grounding/{pointing,random_point,cnr,miou}/FINDING` and their `macro`; nothing of a set without boxes.

        `random_point` is what pointing at random scores: the share of the image that lies in the boxes.
        """
        found = cases(evalset)
        if not found:
            return
        rows = np.array([case.row for case in found])
        names = np.array([case.finding for case in found])
        everyone = np.arange(len(evalset))  # the rows were chosen for their boxes: prevalence is that of the set

        def none(measure: str, why: str) -> Result:
            name, about = f"grounding/{measure}/macro", [INDEX[name] for name in np.unique(names)]
            return Result.of(name, evalset, NOTHING, bootstrap, rows, about=about, among=everyone, note=why)

        if embedded.maps is None:
            yield none("pointing", NO_PATCHES)
            return
        measured = _measure(evalset, embedded, found)
        threshold = self._threshold()
        values = {name: measured[name] for name in ("pointing", "random_point", "cnr")}
        at = ""
        if threshold is not None:
            values["miou"] = measured["overlaps"][:, threshold]
            at = f"threshold {THRESHOLDS[threshold]:.3f} from validation"
        for measure, column in values.items():
            parts: dict[int, Part] = {}
            for name in np.unique(names):
                keep, finding = (names == name) & np.isfinite(column), INDEX[name]
                draws, note = NOTHING, FLAT
                if keep.any():
                    draws = bootstrap.draws(mean(column[keep]), rows[keep])
                    parts[finding] = Part(draws, rows[keep])
                    note = at if measure == "miou" else ""
                metric, about = f"grounding/{measure}/{name}", (finding,)
                yield Result.of(metric, evalset, draws, bootstrap, rows[keep], about=about, among=everyone, note=note)
            pairs = int(np.isfinite(column).sum())
            name = f"grounding/{measure}/macro"
            yield Result.macro(name, evalset, bootstrap, parts, rows, lacking=FLAT, among=everyone, pairs=pairs)
        if threshold is None:
            yield none("miou", NO_BOXES)

    def _threshold(self) -> int | None:
        """Place in THRESHOLDS of the greatest mean over findings of the mean IoU on validation."""
        if self.validation is None or not (found := cases(self.validation.evalset)):
            return None
        measured = _measure(self.validation.evalset, self.validation.embedded, found)["overlaps"]
        names = np.array([case.finding for case in found])
        means = [measured[names == name].mean(axis=0) for name in np.unique(names)]
        return int(np.argmax(np.mean(means, axis=0)))


def _measure(evalset: EvalSet, embedded: Embedded, found: list[Case]) -> dict[str, np.ndarray]:
    """Pointing [m], share of the image in boxes [m], CNR [m] and IoU at every threshold [m, t] of the cases."""
    assert embedded.maps is not None
    evalset.require_seal()
    values: dict[str, list] = {"pointing": [], "random_point": [], "cnr": [], "overlaps": []}
    for case in found:
        heat = surface(embedded.maps[evalset.ids[case.row], case.finding])
        mask = inside(case.boxes, *map(int, evalset.shapes[case.row]))
        values["pointing"].append(pointing(heat, mask))
        values["cnr"].append(cnr(heat, mask))
        values["random_point"].append(mask.mean())
        values["overlaps"].append(overlaps(heat, mask))
    return {name: np.array(column) for name, column in values.items()}
