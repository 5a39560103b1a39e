"""One pass over prepared folders: of every record what the checks need, a thumbnail instead of the image."""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8, UInt8
from tqdm import tqdm

from clinicclip.checks import pixels, privacy
from clinicclip.data import builder, images
from clinicclip.data.builder import Source
from clinicclip.data.draws import report_text
from clinicclip.data.patients import people
from clinicclip.data.releases import folder as plain_folder
from clinicclip.data.schema import Record
from clinicclip.errors import UserError

SIDE = 32  # of a thumbnail
TRAIN = "train"
THREADS = 2


class Row(NamedTuple):
    """A record: who and where it is, and what is looked at."""

    folder: int  # index into `Chart.folders`
    release: str
    collection: str  # within which ids are certainly of one kind: the people's release, or one folder of pairs
    split: str
    number: int  # in the split's source
    patient: str
    study: str
    image_id: str
    view: str
    digest: bytes  # of the decoded pixels
    flags: tuple[str, ...]  # what is odd about the image
    private: tuple[str, ...]  # kinds of text that look like a person's data
    sections: tuple[bool, bool]  # whether there are findings, and an impression
    report: str
    labels: Int8[np.ndarray, "14"]
    normal: int
    gold: dict[str, int]


@dataclass(frozen=True)
class Chart:
    """All records of the folders given together."""

    folders: tuple[Path, ...]
    manifests: tuple[dict[str, Any], ...]
    sources: dict[tuple[int, str], Source]
    rows: tuple[Row, ...]
    thumbs: UInt8[np.ndarray, "n s s"]
    trained: frozenset[str]  # splits that are meant for training

    def place(self, row: Row) -> str:
        """The split a row is in, with its folder where there are several."""
        return f"{self.folders[row.folder]}:{row.split}" if len(self.folders) > 1 else row.split

    def places(self) -> dict[str, list[Row]]:
        """The rows by place."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(self.place(row), []).append(row)
        return found

    def training(self) -> list[Row]:
        """The rows that are meant for training."""
        return [row for row in self.rows if row.split in self.trained]

    def record(self, row: Row) -> Record:
        """The stored record behind a row."""
        return self.sources[row.folder, row.split][row.number]


def read(folders: Sequence[Path], train: str = "") -> Chart:
    """Reads every record of the prepared folders; ``train`` names the training splits, joined by +.

    By default these are the splits called train, or all where none is.

    Raises:
        UserError: a folder is not whole, or has no such split.
    """
    manifests = tuple(map(builder.read_manifest, folders))
    known = {split for manifest in manifests for split in manifest["splits"]}
    trained = frozenset(train.split("+")) if train else frozenset({TRAIN} & known or known)
    if trained - known:
        raise UserError(f"--train: no split {', '.join(sorted(trained - known))}, only {', '.join(sorted(known))}")
    sources = {
        (place, split): builder.open_source(folder, split)
        for place, folder in enumerate(folders)
        for split in manifests[place]["splits"]
    }
    wanted = [(folder, split, number) for (folder, split), s in sources.items() for number in range(len(s))]

    def look(at: tuple[int, str, int]) -> tuple[Row, UInt8[np.ndarray, "s s"]]:
        folder, split, number = at
        return _row(folder, split, number, manifests[folder], sources[folder, split][number])

    rows: list[Row] = []
    thumbs = np.empty((len(wanted), SIDE, SIDE), np.uint8)
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(wanted), unit=" records", disable=None) as bar:
        for row, thumb in pool.map(look, wanted):
            thumbs[len(rows)] = thumb
            rows.append(row)
            bar.update()
    return Chart(tuple(folders), manifests, sources, tuple(rows), thumbs, trained)


def _row(
    folder: int, split: str, number: int, manifest: Mapping[str, Any], record: Record
) -> tuple[Row, UInt8[np.ndarray, "s s"]]:
    gray = images.decode(record["image"], record["image_id"])
    digest = hashlib.blake2b(repr(gray.shape).encode() + gray.tobytes(), digest_size=16).digest()
    row = Row(
        folder=folder,
        release=manifest["name"],
        collection=_collection(manifest),
        split=split,
        number=number,
        patient=record["patient"],
        study=record["study"],
        image_id=record["image_id"],
        view=record["view"],
        digest=digest,
        flags=(*record["image_flags"], *[pixels.CLIPPED] * pixels.clipped(gray)),
        private=tuple(privacy.kinds(f"{record['findings']}\n{record['impression']}")),
        sections=(bool(record["findings"].strip()), bool(record["impression"].strip())),
        report=report_text(record),
        labels=record["labels"],
        normal=record["normal"],
        gold=dict(zip(record["gold_names"], map(int, record["gold_values"]), strict=True)),
    )
    return row, images.resize(gray, SIDE)


def _collection(manifest: Mapping[str, Any]) -> str:
    name = manifest["name"]
    return f"{name} {manifest['settings']['source']}" if name == plain_folder.NAME else people(name)


def groups(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> Iterator[list[Row]]:
    """Rows of an equal key, where there are several."""
    found: dict[Hashable, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return (same for same in found.values() if len(same) > 1)
