"""Boxes and masks are fitted to their picture: what passes its border is cut and flagged, what misses it is a fault."""

from pathlib import Path

import numpy as np
import pytest

from clinicclip.data import boxes, records
from clinicclip.data.boxes import CLIPPED, REPEATED
from clinicclip.data.images import ImageFault
from clinicclip.data.records import Recipe
from clinicclip.data.schema import Box, Drop, Mask, Study

HEIGHT, WIDTH = 30, 50
NOISE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)


def study(*found: Box, masks: tuple[Mask, ...] = (), drawn_on: tuple[int, int] | None = None) -> Study:
    return Study("p", "s", "i", "test", NOISE, "", "", boxes=found, masks=masks, drawn_on=drawn_on)


def fit(*found: Box, masks: tuple[Mask, ...] = ()) -> tuple[list[Box], list[str]]:
    return boxes.fit(study(*found, masks=masks), HEIGHT, WIDTH)


def test_boxes_inside_stay_as_they_are() -> None:
    inside = Box("edema", 0.0, 0.5, 50.0, 29.5)
    assert fit(inside, Box("mass", 3, 4, 5, 6)) == ([inside, Box("mass", 3, 4, 5, 6)], [])


def test_a_box_over_the_border_is_cut_and_flagged_but_for_rounding() -> None:
    assert fit(Box("edema", -5, 2, 10, 10)) == ([Box("edema", 0, 2, 5, 10)], [CLIPPED])
    assert fit(Box("edema", 40, 20, 10.8, 10.8)) == ([Box("edema", 40, 20, 10, 10)], [])


def test_a_box_that_is_there_twice_is_kept_once_and_flagged() -> None:
    box = Box("edema", 1, 2, 3, 4)
    assert fit(box, Box("mass", 1, 2, 3, 4), box) == ([box, Box("mass", 1, 2, 3, 4)], [REPEATED])


def test_masks_run_down_the_columns_of_the_picture_that_was_read() -> None:
    """Against masks drawn as pictures and encoded here."""
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    drawn[4:9, 10:14] = drawn[9, 14] = True  # touching at a corner
    drawn[20:25, 40:44] = True
    flat = np.flatnonzero(drawn.T)
    runs = tuple((int(run[0]), len(run)) for run in np.split(flat, np.flatnonzero(np.diff(flat) > 1) + 1))
    expected = [Box("pneumothorax", 10, 4, 5, 6), Box("pneumothorax", 40, 20, 4, 5)]
    assert fit(masks=(Mask("pneumothorax", runs),)) == (expected, [])
    halves = tuple(Mask("pneumothorax", part) for part in (runs[::2], runs[1::2]))
    assert fit(masks=halves) == (expected, [])  # several masks of a finding are united
    assert fit(masks=(Mask("pneumothorax", runs),) * 2) == (expected, [REPEATED])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (study(Box("edema", 50, 2, 5, 5)), "box_outside_image"),
        (study(Box("edema", 2, -9, 5, 9)), "box_outside_image"),
        (study(masks=(Mask("edema", ((HEIGHT * WIDTH - 1, 2),)),)), "mask_outside_image"),
        (study(Box("edema", 2, 2, 5, 5), drawn_on=(60, 100)), "image_of_another_size"),
    ],
)
def test_what_cannot_be_of_this_picture_drops_the_image_by_name(wrong: Study, reason: str) -> None:
    with pytest.raises(ImageFault) as caught:
        boxes.fit(wrong, HEIGHT, WIDTH)
    assert caught.value.reason == reason and "\n" not in str(caught.value)
    assert records.make(wrong, Recipe(reports=False)) == Drop("image", "i", reason)


def test_a_record_holds_the_fitted_boxes_and_their_flags() -> None:
    mask = Mask("mass", ((0, 2), (HEIGHT, 2)))
    record = records.make(study(Box("edema", 45, 2, 10, 5), masks=(mask,)), Recipe(reports=False))
    assert isinstance(record, dict)
    assert record["box_names"] == ["edema", "mass"] and CLIPPED in record["image_flags"]
    np.testing.assert_array_equal(record["boxes"], [[45, 2, 5, 5], [0, 0, 2, 2]])


def test_a_mask_follows_the_size_of_its_file_not_a_constant(tmp_path: Path) -> None:
    from PIL import Image

    for height, width in ((30, 50), (50, 30)):
        path = tmp_path / f"{height}.png"
        Image.fromarray(np.resize(NOISE, (height, width))).save(path)
        one = Study("p", "s", "i", "test", path, "", "", masks=(Mask("mass", ((height + 3, 1),)),))
        record = records.make(one, Recipe(reports=False))
        assert isinstance(record, dict) and record["boxes"].tolist() == [[1, 3, 1, 1]]
