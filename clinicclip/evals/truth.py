"""What a stored record says is true: gold labels, the report's own statements, and the normal class."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from clinicclip.data import images, schema
from clinicclip.errors import UserError

N_FINDINGS = len(schema.FINDINGS)
NORMAL = schema.INDEX["no_finding"]
GOLD_COLUMNS = {**schema.INDEX, "normal": NORMAL}  # releases write the normal class either way
GROUPS = ("sex", "age_band", "view")  # what is said of a study, "" = unknown
RELEASED = "cxr_align"  # maker of r^n and r^o that a release brings itself


_ABNORMAL = [i for i, name in enumerate(schema.FINDINGS) if name not in schema.NOT_ABNORMAL]


class Released(NamedTuple):
    """The report with one finding denied and left out, as a release has them ('' where it has none)."""

    finding: int
    report: str
    negated: str
    omitted: str


class View(NamedTuple):
    """How a model sees an image: what makes a square of so many pixels of it, and words for that, {} for the pixels."""

    square: Callable[[UInt8[np.ndarray, "h w"], int], UInt8[np.ndarray, "s s"]]
    says: str


SQUASH = View(images.resize, "squash to {} px, bicubic with antialias")


class Row(NamedTuple):
    """One study: image, statements, and labels as 1, 0 or nan (unknown) over `schema.FINDINGS`."""

    id: str
    patient: str
    image: UInt8[np.ndarray, "s s"]
    mark: int  # of the image
    sentences: tuple[schema.Sentence, ...]
    mentioned: Float32[np.ndarray, "f"]
    gold: Float32[np.ndarray, "f"]
    labels: Float32[np.ndarray, "f"]  # of the release or its labeller, that training reads
    source: str
    normal: float
    groups: tuple[str, ...]  # values of GROUPS
    boxes: tuple[schema.Box, ...]  # in pixels of the original image
    shape: tuple[int, int]  # height and width of the original image
    stored: int  # its shorter side as it is stored
    released: Released | None


def read_row(record: schema.Record, image_size: int, absent: Sequence[str] = (), view: View = SQUASH) -> Row:
    """Decode a stored record's image and bring it to size, and gather what its gold labels and sentences say.

    In a study with any gold label, those of ``absent`` that have none count as absent.

    Raises: UserError for a gold label that is no finding; ImageFault for an image that cannot be read.
    """
    name = str(record["image_id"])
    columns = ("sentences", "sentence_finding", "sentence_polarity", "sentence_laterality")
    sentences = tuple(
        schema.Sentence(str(text), int(finding), int(polarity), int(side))
        for text, finding, polarity, side in zip(*(record[column] for column in columns), strict=True)
    )
    gray = images.decode(record["image"], name)
    square = view.square(gray, image_size)
    return Row(
        id=name,
        patient=str(record["patient"]),
        image=square,
        mark=int(images.marks(square[None])[0]),
        sentences=sentences,
        mentioned=mentioned_findings(sentences),
        gold=_gold(record, absent),
        labels=_labels(record),
        source=str(record["gold_source"]),
        normal=_known(int(record["normal"])),
        groups=tuple(str(record[group]) for group in GROUPS),
        boxes=tuple(
            schema.Box(str(finding), *map(float, sides))
            for finding, sides in zip(record["box_names"], record["boxes"], strict=True)
        ),
        shape=(int(record["height"]), int(record["width"])),
        stored=min(gray.shape),
        released=_released(record),
    )


def coarse(rows: Sequence[Row], image_size: int) -> str:
    """In words, how many images are stored with less detail than both their files and a model's input have; or ""."""
    sides = [row.stored for row in rows if row.stored < min(image_size, *row.shape)]
    if not sides:
        return ""
    return (
        f"{len(sides)} of {len(rows)} images are stored with a shorter side of {max(sides)} px, below the {image_size} "
        "asked for: enlarged, they lack detail that their files have"
    )


def _gold(record: schema.Record, absent: Sequence[str]) -> Float32[np.ndarray, "f"]:
    gold = np.full(N_FINDINGS, np.nan, np.float32)
    if len(record["gold_names"]):
        gold[[schema.INDEX[name] for name in absent]] = 0
    for finding, value in zip(record["gold_names"], record["gold_values"], strict=True):
        if finding not in GOLD_COLUMNS:
            raise UserError(f"{record['image_id']}: gold label {finding!r} is no known finding; prepare the data again")
        gold[GOLD_COLUMNS[finding]] = _known(int(value))
    if np.isnan(gold[NORMAL]) and (gold[_ABNORMAL] == 1).any():
        gold[NORMAL] = 0
    return gold


def _labels(record: schema.Record) -> Float32[np.ndarray, "f"]:
    labels = np.full(N_FINDINGS, np.nan, np.float32)
    labels[: len(schema.CHEXPERT)] = [_known(int(code)) for code in record["labels"]]
    return labels


def _released(record: schema.Record) -> Released | None:
    if record["negated_by"] != RELEASED:
        return None
    return Released(int(record["altered"]), record["findings"], record["negated"], record["omitted"])


def _known(code: int) -> float:
    """A stored code as 1, 0 or nan: uncertain and unknown are both masked in evaluation."""
    return float(code) if code in (schema.PRESENT, schema.ABSENT) else float("nan")


def mentioned_findings(sentences: Sequence[schema.Sentence]) -> Float32[np.ndarray, "f"]:
    """What the sentences state per finding: 1 present (or a child is), 0 denied, nan unsaid or uncertain."""
    stated: dict[int, set[int]] = {}
    for sentence in sentences:
        if sentence.finding >= 0:
            stated.setdefault(sentence.finding, set()).add(sentence.polarity)
    labels = np.full(N_FINDINGS, np.nan, np.float32)
    for finding, polarities in stated.items():
        if polarities == {schema.ABSENT}:
            labels[finding] = 0
    for finding, polarities in stated.items():
        if schema.PRESENT in polarities:
            name = schema.FINDINGS[finding]
            labels[[finding, *(schema.INDEX[parent] for parent in schema.PARENTS.get(name, ()))]] = 1
    return labels
