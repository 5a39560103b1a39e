"""Time and memory of a full evaluation once images are embedded: every suite on 3,000 studies, and the report.

    python bench/evaluate.py --data_dir=data/phantom-easy [--quick]

``data_dir`` holds the phantom world of 4,000 studies or more; without it, it is made in a folder of its own. Vectors
come from pixels by a fixed random map, so no model is needed: how long scoring takes does not depend on what it finds.
The last line is JSON; its value is the seconds of all suites with 1,000 draws and of writing the report.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clinicclip import cli
from clinicclip.data import builder
from clinicclip.data.images import marks
from clinicclip.evals import report, sets, suites
from clinicclip.evals.base import EmbedFns, Rows
from clinicclip.evals.results import Evaluation

STUDIES, SIDE, CELLS, WIDTH, DRAWS = 3000, 64, 4, 128, 1000
GOAL = 120.0
MAP = np.random.default_rng(0).normal(size=((SIDE // CELLS) ** 2, WIDTH))


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/evaluate.py", description=__doc__, example="python bench/evaluate.py --quick")
    flags.add_argument("--data_dir", type=Path, help="prepared phantom world; default: made in a temporary folder")
    flags.add_argument("--quick", action="store_true", help="a tenth of the studies")
    return flags


def main(args: argparse.Namespace) -> int:
    """Time suite by suite, print them and one JSON line."""
    studies = STUDIES // 10 if args.quick else STUDIES
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data_dir or Path(scratch) / "phantom"
        if not args.data_dir:
            options = {"level": "easy", "studies": studies * 4 // 3, "size": SIDE}
            builder.write("phantom", folder, options=options, workers=2, say=print)
        measured, train, validation = (
            sets.open_set("phantom", folder, split, image_size=SIDE)
            for split in (f"train[:{studies}]", "test", "validation")
        )
        beside = {"phantom": suites.Beside(train, validation)}
        embed = EmbedFns(images, texts, patches)
        seconds: dict[str, float] = {}
        whole = Evaluation(sets=(suites.facts_of(measured),))
        for suite in suites.SUITES:
            began = time.perf_counter()
            found = suites.run_suites(embed, [measured], [suite], draws=DRAWS, beside=beside)
            seconds[suite] = time.perf_counter() - began
            for name in ("results", "curves", "calibrated", "heats", "exhibits"):
                getattr(whole, name).extend(getattr(found, name))
        began = time.perf_counter()
        report.write(whole, Path(scratch) / "report", provenance={"checkpoint": "random map"})
        seconds["report"] = time.perf_counter() - began
    for name, taken in seconds.items():
        print(f"{name:12} {taken:6.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total = round(sum(seconds.values()), 1)
    print(f"all {total} s, peak memory {peak:.2f} GiB, {len(whole.results)} numbers of {len(measured)} studies")
    detail = {name: round(taken, 2) for name, taken in seconds.items()}
    detail |= {"studies": len(measured), "numbers": len(whole.results), "peak_gib": round(peak, 2)}
    print(json.dumps({"name": "evaluate", "value": total, "unit": "s", "goal": GOAL, "detail": detail}))
    return 0


def images(pictures: np.ndarray) -> Rows:
    """Cell means through the fixed map, at unit length."""
    return Rows(_unit(_cells(pictures, CELLS).reshape(len(pictures), -1) @ MAP), marks(pictures))


def patches(pictures: np.ndarray) -> Rows:
    """With a 4 x 4 grid of vectors that turn with the grey level."""
    cells = _cells(pictures, SIDE // 4)[..., None]
    return images(pictures)._replace(patches=_unit(cells * MAP[0] + MAP[1]))


def texts(said: Sequence[str]) -> np.ndarray:
    """A direction for each text."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in said]
    return _unit(np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]))


def _cells(pictures: np.ndarray, size: int) -> np.ndarray:
    side = pictures.shape[1] // size
    return pictures.reshape(len(pictures), side, size, side, size).mean(axis=(2, 4)) / 128 - 1


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    cli.run(main, parser())
