"""Grounding: maps and boxes meet in original pixels; planted maps score what they should."""

import dataclasses
from collections import Counter
from pathlib import Path

import known
import numpy as np
import planted
import pytest

from clinicclip.data.schema import INDEX, Box
from clinicclip.evals import embedding, grounding
from clinicclip.evals.base import EmbedFns, EvalSet, Seen
from clinicclip.evals.grounding import Grounding
from clinicclip.evals.results import Result
from clinicclip.evals.stats import PatientBootstrap

GRID = grounding.GRID


def _boxed(boxes: dict[int, tuple[Box, ...]], shape: tuple[int, int]) -> EvalSet:
    evalset = planted.evalset(12)
    own = tuple(boxes.get(row, ()) for row in range(12))
    return dataclasses.replace(evalset, boxes=own, shapes=np.array([shape] * 12)).sealed()


def _run(evalset: EvalSet, embed: EmbedFns, validation: EvalSet | None = None) -> dict[str, Result]:
    texts = embedding.TextBank(embed.texts)
    sets = [one for one in (evalset, validation) if one is not None]
    seen = [Seen(one, embedding.embed_set(embed, one, texts, maps=True)) for one in sets]
    suite = Grounding(seen[1] if validation is not None else None)
    found = suite.run(evalset, seen[0].embedded, PatientBootstrap(evalset.patients, draws=20))
    return {result.metric: result for result in found}


def _seeing(evalset: EvalSet, side: int, where) -> EmbedFns:
    return known.patches(known.reader(evalset), evalset, side, where)


def test_a_box_of_a_wide_original_covers_the_same_share_of_the_square() -> None:
    mask = grounding.inside((Box("edema", 100, 50, 200, 25),), height=100, width=400)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (rows[0], rows[-1] + 1) == (GRID // 2, GRID * 3 // 4)
    assert (columns[0], columns[-1] + 1) == (GRID // 4, GRID * 3 // 4)
    assert mask.mean() == pytest.approx(200 * 25 / (100 * 400))


def test_several_boxes_of_a_finding_are_united_once() -> None:
    box = Box("edema", 0, 0, 50, 100)
    assert grounding.inside((box, box, Box("edema", 25, 0, 50, 100)), 100, 100).mean() == 0.75


def test_a_surface_meets_its_patches_at_their_centres_and_is_level_beyond() -> None:
    patches = np.arange(9.0).reshape(3, 3)
    heat = grounding.surface(patches, grid=9)
    np.testing.assert_allclose(heat[1::3, 1::3], patches)
    assert heat[0, 0] == 0 and heat[8, 8] == 8 and heat[1, 2] == pytest.approx(1 / 3)


def test_measures_equal_their_definitions_point_by_point() -> None:
    rng = np.random.default_rng(0)
    heat, mask = np.round(rng.normal(size=(12, 12)) / 2, 2), rng.random((12, 12)) < 0.3
    within, without = heat[mask], heat[~mask]
    expected = abs(within.mean() - without.mean()) / np.sqrt(within.var() + without.var())
    assert grounding.cnr(heat, mask) == pytest.approx(expected)
    for threshold, overlap in zip(grounding.THRESHOLDS, grounding.overlaps(heat, mask), strict=True):
        called = heat >= threshold
        assert overlap == pytest.approx((called & mask).sum() / (called | mask).sum())
    assert grounding.pointing(heat, heat == heat.max()) == 1.0
    assert grounding.pointing(np.zeros((12, 12)), mask) == pytest.approx(mask.mean())
    assert np.isnan(grounding.cnr(np.zeros((12, 12)), mask)) and np.isnan(grounding.cnr(heat, heat > 9))


def test_maps_that_lie_in_the_boxes_are_perfect_and_mirrored_ones_miss() -> None:
    box = Box("edema", 300, 0, 100, 25)  # the upper right quarter of quarters of a 400 x 100 original
    evalset = _boxed({0: (box, box._replace(finding="fracture")), 5: (box,)}, (100, 400))
    hot = np.full((4, 4), -1.0)
    hot[0, 3] = 1.0
    found = _run(evalset, _seeing(evalset, 4, lambda row, finding: hot))
    assert found["grounding/pointing/edema"].value == 1.0
    assert (found["grounding/pointing/macro"].n, found["grounding/pointing/macro"].pairs) == (2, 3)
    assert found["grounding/random_point/edema"].value == pytest.approx(1 / 16, abs=1e-3)
    mirrored = _run(evalset, _seeing(evalset, 4, lambda row, finding: hot[:, ::-1]))
    assert mirrored["grounding/pointing/edema"].value == 0.0
    turned = _run(evalset, _seeing(evalset, 4, lambda row, finding: hot.T))
    assert turned["grounding/pointing/edema"].value == 0.0


def test_the_threshold_is_the_best_of_validation_whatever_the_test_images_say() -> None:
    half = Box("edema", 0, 0, 50, 100)
    evalset, validation = _boxed({0: (half,)}, (100, 100)), _boxed({1: (half,), 2: (half,)}, (100, 100))
    left = np.repeat([[1.0, -1.0]], 2, axis=0)
    embed = _seeing(evalset, 2, lambda row, finding: left)
    both = embed._replace(
        patches=lambda some: embed.images(some)._replace(patches=np.repeat(_patch(left), len(some), axis=0))
    )
    found = _run(evalset, both, validation)
    heat = grounding.surface(_patch(left)[0] @ _affirming(both))
    mask = grounding.inside((half,), 100, 100)
    best = int(np.argmax(grounding.overlaps(heat, mask)))
    assert found["grounding/miou/macro"].value == pytest.approx(grounding.overlaps(heat, mask)[best])
    assert f"{grounding.THRESHOLDS[best]:.3f} from validation" in found["grounding/miou/edema"].note
    whole = dataclasses.replace(evalset, boxes=((Box("edema", 0, 0, 100, 100),), *evalset.boxes[1:])).sealed()
    other = _run(whole, both, validation)
    assert other["grounding/miou/edema"].note == found["grounding/miou/edema"].note


def test_a_box_between_the_points_of_the_grid_counts_and_spoils_no_threshold() -> None:
    side, tiny = 3000, Box("edema", 1500, 8, 4, 4)
    at = np.argwhere(grounding.inside((tiny,), side, side))
    np.testing.assert_array_equal(at, [[0, GRID // 2]])
    half = Box("edema", 0, 0, side / 2, side)
    evalset, validation = _boxed({0: (half,), 3: (tiny,)}, (side, side)), _boxed({1: (half,), 2: (tiny,)}, (side, side))
    left = np.repeat([[0.11, -0.11]], 2, axis=0)  # cosines of a narrow range, as those of a CLIP often are
    both = known.patches(known.reader(evalset), evalset, 2, lambda row, finding: left)
    texts = embedding.TextBank(both.texts)
    maps = {(name, "edema"): left.astype(np.float32) for name in evalset.ids}
    seen, chosen = (
        Seen(one, dataclasses.replace(embedding.embed_set(both, one, texts), maps=maps))
        for one in (evalset, validation)
    )
    bootstrap = PatientBootstrap(evalset.patients, draws=5)
    found = {one.metric: one for one in Grounding(chosen).run(evalset, seen.embedded, bootstrap)}[
        "grounding/miou/edema"
    ]
    masks = [grounding.inside((box,), side, side) for box in (half, tiny)]
    overlaps = [grounding.overlaps(grounding.surface(left.astype(np.float32)), mask) for mask in masks]
    assert found.n == 2 and found.value == pytest.approx(np.mean(overlaps, axis=0).max()) and found.value > 0.49


def _patch(values: np.ndarray) -> np.ndarray:
    vectors = np.full((*values.shape, planted.WIDTH + 1), 1e-3)
    vectors[..., INDEX["edema"]] = values
    return planted.unit(vectors.reshape(-1, planted.WIDTH + 1)).reshape(1, *vectors.shape)


def _affirming(embed: EmbedFns) -> np.ndarray:
    return embedding.prompts.embed("edema", embed.texts).positive


def test_images_with_boxes_are_embedded_once_and_found_again(tmp_path: Path) -> None:
    evalset = _boxed({row: (Box("edema", 0, 0, 8, 8),) for row in (2, 7)}, (16, 16))
    seen: list[bytes] = []
    embed = _seeing(evalset, 2, lambda row, finding: np.eye(2))

    def watched(look):
        return lambda pictures: (seen.extend(map(bytes, pictures)), look(pictures))[1]

    embed = embed._replace(images=watched(embed.images), patches=watched(embed.patches))
    texts, store = embedding.TextBank(embed.texts), embedding.Store(tmp_path, "model")
    first = embedding.embed_set(embed, evalset, texts, store=store, maps=True)
    times = Counter(seen)
    assert times.total() == len(evalset) + 2 + embedding.PROBES and len(times) == len(evalset)  # and probes, again
    seen.clear()
    again = embedding.embed_set(embed, evalset, texts, store=store, maps=True)
    assert not seen and first.maps is not None and again.maps is not None
    np.testing.assert_array_equal(first.maps["image7", "edema"], again.maps["image7", "edema"])
    np.testing.assert_array_equal(first.images(evalset), again.images(evalset))


def test_what_cannot_be_measured_says_why() -> None:
    evalset = _boxed({0: (Box("edema", 0, 0, 8, 8),)}, (16, 16))
    without = _run(evalset, known.reader(evalset))["grounding/pointing/macro"]
    assert np.isnan(without.value) and "patches" in without.note
    alone = _run(evalset, _seeing(evalset, 2, lambda row, finding: np.eye(2)))["grounding/miou/macro"]
    assert np.isnan(alone.value) and "validation" in alone.note
    assert _run(planted.evalset(12), planted.oracle(planted.evalset(12))) == {}


def test_patches_of_the_world_that_light_up_where_findings_are_find_their_boxes() -> None:
    evalset = known.world()

    def where(row: int, finding: str) -> np.ndarray:
        own = tuple(box for box in evalset.boxes[row] if box.finding == finding)
        mask = grounding.inside(own, *map(int, evalset.shapes[row]), grid=64)
        return mask.reshape(16, 4, 16, 4).mean(axis=(1, 3)) * 2 - 1

    boxes = tuple(b if row < 24 else () for row, b in enumerate(evalset.boxes))
    few = dataclasses.replace(evalset, boxes=boxes).sealed()
    found = _run(few, _seeing(few, 16, where), few)
    assert found["grounding/pointing/macro"].value > 0.97 and found["grounding/cnr/macro"].value > 2
    assert found["grounding/miou/macro"].value > 0.6
