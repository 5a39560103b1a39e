"""The phantom world as a release: synthetic frontal radiographs with reports that are true of them.

Generated, so it has no source folder: a level, a number of studies, an image size and a seed say everything.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clinicclip.data.phantom import world
from clinicclip.data.schema import Sketch, Study
from clinicclip.errors import UserError

NAME = "phantom"
TITLE = f"synthetic phantom chest radiographs, world version {world.VERSION} (no patient data)"
LICENCE = "Apache-2.0"
CITATION = ""
OPEN = True
SPLITS = ("train", "validation", "test")
HAS_REPORTS = True
GENERATED = True
OPTIONS: Mapping[str, Any] = {"level": "easy", "studies": 2000, "size": 128}
PUBLISHED: Mapping[str, int] = {}
GOLD_SOURCE = "phantom"


def count(
    source: Path | None = None, *, level: str = "easy", studies: int = 2000, size: int = 128, seed: int = 0
) -> dict[str, int]:
    """How many reports and images there will be: one of each a study.

    Raises: UserError for settings the world does not know.
    """
    world.check(level, 0, seed, size)
    if studies < 1:
        raise UserError(f"{NAME}: studies={studies} makes nothing; expected 1 or more")
    return {"reports": studies, "images": studies}


def read(
    source: Path | None = None, *, level: str = "easy", studies: int = 2000, size: int = 128, seed: int = 0
) -> Iterator[Sketch]:
    """Studies 0..studies-1 of the world (level, seed) with images of size x size pixels; nothing is dropped.

    Raises: UserError for settings the world does not know.
    """
    count(level=level, studies=studies, size=size, seed=seed)
    for index in range(studies):
        patient, study = world.names(level, seed, index)
        make = functools.partial(_study, level, index, seed, size)
        yield Sketch(patient, study, study, world.split_of(patient), make)


def _study(level: str, index: int, seed: int, size: int) -> Study:
    made = world.make(level, index, seed, size)
    return Study(
        patient=made.patient,
        study=made.study,
        image_id=made.study,
        split=made.split,
        image=made.image,
        findings=made.findings,
        impression=made.impression,
        view="frontal",
        gold=made.gold,
        gold_source=GOLD_SOURCE,
        boxes=made.boxes,
        graph=made.graph,
        graph_by=NAME,
        sex=made.sex,
        age_band=made.age_band,
    )
