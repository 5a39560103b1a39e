"""What releases of labelled images have in common: tables that say something of images, and files that are the images.

A reader turns its tables into {image id: Labelled} and lists its files; every image of either is then used or dropped.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clinicclip.data import schema
from clinicclip.data.releases import tables
from clinicclip.data.schema import Box, Drop, Mask, Study
from clinicclip.errors import UserError, nearest

BINARY = {"0": schema.ABSENT, "1": schema.PRESENT}
TEST, HASH, IMAGE = "test", "hash", "image"
SEXES = ("F", "M", "O")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Labelled:
    """What a release's tables say of an image; ``unused`` is the reason why it is left out, if it is."""

    patient: str
    study: str = ""  # "" = the image is a study of its own
    split: str = TEST
    gold: Mapping[str, int] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    view: str = ""
    sex: str = ""
    age_band: str = ""
    unused: str = ""
    repeated: bool = False  # another row says the same


def count(found: Mapping[str, Labelled], paths: Mapping[str, Path]) -> dict[str, int]:
    """How many images the tables name or the folders hold."""
    return {"images": len(found.keys() | paths.keys())}


def read(found: Mapping[str, Labelled], paths: Mapping[str, Path], gold_source: str) -> Iterator[Study | Drop]:
    """A Study of every image that has labels and a file, by its id; a Drop of every other one, and of repeated rows."""
    for image_id in sorted(found.keys() | paths.keys()):
        said = found.get(image_id)
        if said is not None and said.repeated:
            yield Drop("label", image_id, "row_repeated")
        reason = "labels_missing" if said is None else _unused(said, image_id in paths)
        if said is None or reason:
            yield Drop("image", image_id, reason)
            continue
        yield Study(
            patient=said.patient,
            study=said.study or image_id,
            image_id=image_id,
            split=said.split,
            image=paths[image_id],
            findings="",
            impression="",
            view=said.view,
            gold=said.gold,
            gold_source=gold_source,
            boxes=said.boxes,
            masks=said.masks,
            sex=said.sex if said.sex in SEXES else "",
            age_band=said.age_band,
        )


def _unused(said: Labelled, present: bool) -> str:
    if said.unused:
        return said.unused
    if not said.patient:
        return "patient_missing"
    return "" if present else "image_missing"


def files(source: Path, patterns: Sequence[str], release: str, *, suffix: bool = False) -> dict[str, Path]:
    """{file name, with ``suffix`` or without: path} of what matches the patterns below ``source``.

    Raises UserError when nothing does, or two files have one name.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            name = path.name if suffix else path.stem
            if found.setdefault(name, path) != path:
                raise UserError(f"{release}: {path} and {found[name]} are both image {name}; keep one")
    if not found:
        raise UserError(f"{release}: no images {' or '.join(patterns)} in {source}; unpack them, or correct --source")
    return found


def split_of(split: str, release: str, **ids: str) -> str:
    """Where an image goes: ``test`` all of them; eight tenths to train on, one each to validate and test by a hash.

    ``ids`` are what may be hashed: of the patient under ``hash``, so that nobody is in two splits; of the image itself
    under ``image``, where a release does not say whose it is. Raises UserError for another ``split``.
    """
    known = (TEST, *ids)
    if split not in known:
        expected = ", ".join(known[:-1]) + f" or {known[-1]}"
        raise UserError(f"{release}: split={split}: expected {expected}{nearest(split, known)}")
    return TEST if split == TEST else (*(SPLITS[0],) * 8, *SPLITS[1:])[schema.fold(ids[split], 10)]


def coded(row: Mapping[str, str], column: str, where: str, values: Mapping[str, int] = BINARY) -> int:
    """A label such as 1 or 1.0. Raises UserError that begins with ``where`` when it is none of ``values``."""
    value = row[column].removesuffix(".0")
    if value not in values:
        raise UserError(f"{where}: {column} is {row[column]!r}; expected {', '.join(v or 'blank' for v in values)}")
    return values[value]


def box(finding: str, row: Mapping[str, str], columns: Sequence[str], where: str, *, corners: bool = False) -> Box:
    """A box of x, y, width and height in pixels, or of its two ``corners``. Raises UserError when it is none."""
    x, y, *rest = tables.numbers(row, columns, where)
    width, height = (rest[0] - x, rest[1] - y) if corners else rest
    if width <= 0 or height <= 0:
        raise UserError(f"{where}: a box of {width:g} x {height:g} pixels; fetch the file again")
    return Box(finding, x, y, width, height)


def known(images: Iterable[str], found: Mapping[str, object], table: Path, release: str) -> None:
    """Raises UserError when ``table`` speaks of an image that the labels do not name."""
    for image_id in images:
        if image_id not in found:
            raise UserError(f"{release}: {table.name} names image {image_id}, of which there are no labels")


def add(found: dict[str, Labelled], image_id: str, said: Labelled, table: Path, release: str) -> None:
    """Notes what a row says. Raises UserError when it names no image, or says otherwise than a row before it."""
    if not image_id:
        raise UserError(f"{release}: {table.name}: a row names no image; repair it or fetch the file again")
    before = found.get(image_id)
    if before is not None and replace(before, repeated=False) != said:
        raise UserError(f"{release}: {table.name} has two rows of image {image_id} that differ; remove one")
    found[image_id] = said if before is None else replace(said, repeated=True)
