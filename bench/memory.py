"""How much memory `prepare` takes for a release of MIMIC-CXR's size with RadGraph's graphs of it.

Made up here, in the releases' layout: 377,110 images in the tables, labels of 227,835 studies, as many reports in a
zip, and a RadGraph JSON of 1 GB; one image file in a hundred is there, and the others are accounted for as missing, so
that the tables, the account and the graphs have their full size while pixels hardly matter. It takes 1.5 GB of disk.

    python bench/memory.py [--workers=2] [--quick]

The last line is JSON; its value is what `prepare` and its workers hold in memory at most, in GiB.
"""

import argparse
import contextlib
import csv
import gzip
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from clinicclip import cli
from clinicclip.data.releases import mimic_cxr
from clinicclip.data.schema import CHEXPERT

GOAL = 2.0
STUDIES, IMAGES = mimic_cxr.PUBLISHED["reports"], mimic_cxr.PUBLISHED["images"]
A_PATIENT, THERE = 3, 100  # studies; one image in so many is on the disk
ENTRY = 4400  # bytes of a graph's entry: 1 GB in all
WORDS = (
    *("the", "heart", "is", "enlarged", "and", "a", "small", "effusion"),
    *("lies", "at", "the", "left", "base", "without", "pneumothorax"),
)


class Shot(NamedTuple):
    """One image of the fake."""

    patient: str
    study: str
    image: str
    view: str


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/memory.py", description=__doc__, example="python bench/memory.py --quick")
    flags.add_argument(
        "--workers", type=cli.count, default=0, help="processes of prepare beside its own, counted in (0)"
    )
    flags.add_argument("--quick", action="store_true", help="a hundredth of it")
    return flags


def main(args: argparse.Namespace) -> int:
    """Make the release, prepare it in processes of their own, print their memory and one JSON line."""
    part = 100 if args.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        release(folder / "in", STUDIES // part, IMAGES // part)
        graphs = folder / "graphs.json"
        write_graphs(graphs, STUDIES // part)
        prepare = [sys.executable, "-m", "clinicclip.prepare", "mimic_cxr", f"--workers={args.workers}"]
        flags = [f"--source={folder / 'in'}", f"--output={folder / 'out'}", f"--radgraph={graphs}"]
        started = time.perf_counter()
        peak = peak_of([*prepare, *flags])
        minutes = (time.perf_counter() - started) / 60
        size = graphs.stat().st_size
    print(
        f"{STUDIES // part:,} studies, {IMAGES // part:,} images, graphs of {size / 1e9:.2f} GB, {args.workers} "
        f"workers: {minutes:.1f} minutes"
    )
    print(f"most memory held at a time: {peak:.2f} GiB")
    detail = {"workers": args.workers, "graphs_gb": round(size / 1e9, 3), "minutes": round(minutes, 1)}
    return cli.measured("memory", round(peak, 3), "GiB", GOAL, detail, met=peak < GOAL)


def peak_of(command: Sequence[str]) -> float:
    """GiB a command and the processes it starts hold together at most. Raises RuntimeError where it fails.

    What they share is counted once: looked at ten times a second, proportional set sizes, and of the first process the
    high-water mark.
    """
    most = 0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as started:
        while started.poll() is None:
            with contextlib.suppress(psutil.Error, OSError):  # a process that has just ended
                every = [started, *started.children(recursive=True)]
                marks = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{started.pid}/status").read_text())
                most = max(most, int(marks[1]) * 1024 if marks else 0, sum(one.memory_full_info().pss for one in every))
            time.sleep(0.1)
    if started.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {started.returncode}")
    return most / 2**30


def shots(studies: int, images: int) -> Iterator[Shot]:
    """The images: one frontal of each study and, as far as they go, a lateral one."""
    for number in range(studies):
        patient, study = str(10_000_000 + number // A_PATIENT), str(50_000_000 + number)
        for k in range(1 + (number < images - studies)):
            digits = f"{number:08d}-{k:08d}"
            yield Shot(patient, study, f"{digits}-{digits}-aaaaaaaa", ("PA", "LATERAL")[k])


def release(root: Path, studies: int, images: int) -> None:
    """The tables, the zip of reports, and some of the images."""
    root.mkdir(parents=True)
    every = list(shots(studies, images))
    kinds = ("dicom_id", "subject_id", "study_id")
    metadata = ((s.image, s.patient, s.study, s.view, 3056, 2544, "CHEST (PA AND LAT)", 21800506) for s in every)
    more = ("ViewPosition", "Rows", "Columns", "PerformedProcedureStepDescription", "StudyDate")
    _table(root / "mimic-cxr-2.0.0-metadata.csv.gz", (*kinds, *more), metadata)
    splits = ((s.image, s.patient, s.study, "test" if s.patient[-2:] == "00" else "train") for s in every)
    _table(root / "mimic-cxr-2.0.0-split.csv.gz", (*kinds, "split"), splits)
    labels = ((s.patient, s.study, *("1.0", "", "0.0", "-1.0")[: 1 + (i % 4)]) for i, s in enumerate(every))
    names = [" ".join(name.split("_")).title() for name in CHEXPERT]
    rows = ((*row, *[""] * (2 + len(names) - len(row))) for s, row in zip(every, labels, strict=True) if s.view == "PA")
    _table(root / "mimic-cxr-2.0.0-chexpert.csv.gz", (*kinds[1:], *names), rows)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="JPEG")
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, shot in enumerate(tqdm(every, desc="release", disable=None)):
            if shot.view != "PA":
                continue
            name = mimic_cxr.report_key(shot.patient, shot.study)
            archive.writestr(f"files/{name}", f"FINDINGS: {_words(number % 997, 60).capitalize()}.\n")
            if number % THERE == 0:
                path = root / "files" / name.removesuffix(".txt") / f"{shot.image}.jpg"
                path.parent.mkdir(parents=True)
                path.write_bytes(content.getvalue())


def write_graphs(path: Path, studies: int) -> None:
    """RadGraph's JSON, an entry a study, padded to MIMIC-CXR's size of entries by many entities."""
    entities = {
        str(k): {
            "tokens": WORDS[k % len(WORDS)],
            "label": ("ANAT-DP", "OBS-DP")[k % 2],
            "start_ix": k,
            "end_ix": k,
            "relations": [["modify", str(k + 1)]] if k < 30 else [],
        }
        for k in range(1, 31)
    }
    entry = {"text": _words(0, 40), "entities": entities}
    entry["data_source"] = "x" * (ENTRY - len(json.dumps(entry)))
    content = json.dumps(entry)
    with path.open("w") as file:
        for number in tqdm(range(studies), desc="graphs", disable=None):
            key = mimic_cxr.report_key(str(10_000_000 + number // A_PATIENT), str(50_000_000 + number))
            file.write(("{" if number == 0 else ", ") + f'"{key}": {content}')
        file.write("}")


def _words(start: int, count: int) -> str:
    return " ".join(WORDS[(start + k * (1 + start % 7)) % len(WORDS)] for k in range(count))


def _table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with gzip.open(path, "wt", newline="", compresslevel=1) as file:
        csv.writer(file, lineterminator="\n").writerows([columns])
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    cli.run(main, parser())
