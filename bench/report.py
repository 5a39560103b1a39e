"""How long a whole evaluation takes once a set is embedded, and how much memory: every suite, then the report.

The images are phantoms, the model stands for any: a fixed random direction of the pixels, and of each text. So the
numbers mean nothing and the work is that of a real evaluation.

    python bench/report.py [--studies=3000] [--quick]
"""

import argparse
import functools
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from clinicclip import cli, tabular
from clinicclip.data import builder
from clinicclip.evals import report, sets, suites
from clinicclip.evals.base import EmbedFns

SECONDS, GIBIBYTES = 120, 4  # goals
DIM, SIDE, GRID, QUICK = 128, 64, 4, 200
TRAIN_SHARE = 0.74  # of the phantom's studies, a little below what its split gives


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="report", description=__doc__ or "", example="python bench/report.py --quick")
    flags.add_argument("--studies", type=functools.partial(cli.count, least=50), default=3000, help="that are scored")
    flags.add_argument("--quick", action="store_true", help=f"{QUICK} studies")
    return flags


def main(args: argparse.Namespace) -> int:
    """Draws the set, evaluates it, prints seconds and peak memory and one JSON line."""
    studies = QUICK if args.quick else args.studies
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "phantom"
        options = {"level": "easy", "studies": int(studies / TRAIN_SHARE) + 50, "size": SIDE}
        builder.write("phantom", folder, options=options, say=lambda line: None)
        read = functools.partial(sets.open_set, "phantom", folder, image_size=SIDE)
        measured = read("train", limit=studies)
        beside = suites.Beside(train=read("test"), validation=read("validation"))
        start = time.perf_counter(), time.process_time()
        evaluation = suites.run_suites(
            EmbedFns(images, texts, patches), [measured], tuple(suites.SUITES), beside={"phantom": beside}
        )
        scored = time.perf_counter(), time.process_time()
        report.write(evaluation, Path(place) / "report", provenance={"checkpoint": "random directions"})
        end = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    table = [["", "seconds", "of a processor"]]
    for name, first, last in (("suites", start, scored), ("report", scored, end), ("together", start, end)):
        table.append([name, *(f"{b - a:.1f}" for a, b in zip(first, last, strict=True))])
    print("\n".join([f"{len(measured)} studies, {len(evaluation.results)} numbers", *tabular.aligned(table)]))
    print(f"peak memory of the process {peak:.2f} GiB (goal: below {GIBIBYTES})")
    detail = {"studies": len(measured), "processor_seconds": round(end[1] - start[1], 1), "peak_gib": round(peak, 2)}
    value = round(end[0] - start[0], 1)
    print(json.dumps({"name": "report", "value": value, "unit": "s", "goal": f"<{SECONDS}", "detail": detail}))
    return 0


@functools.cache
def _directions(count: int) -> Float32[np.ndarray, "p d"]:
    return np.random.default_rng(0).standard_normal((count, DIM), np.float32)


def _unit(rows: Float32[np.ndarray, "*n d"]) -> Float32[np.ndarray, "*n d"]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def images(pictures: UInt8[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n d"]:
    """Unit rows that depend on the pixels."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    return _unit((flat - flat.mean(axis=1, keepdims=True)) @ _directions(flat.shape[1]))


def patches(pictures: UInt8[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n h w d"]:
    """The same of each cell of a grid."""
    side = pictures.shape[1] // GRID
    cells = pictures.reshape(len(pictures), GRID, side, GRID, side).swapaxes(2, 3).astype(np.float32)
    return _unit(cells.reshape(len(pictures), GRID, GRID, -1) @ _directions(side * side))


def texts(words: Sequence[str]) -> Float32[np.ndarray, "n d"]:
    """Unit rows that depend on the text."""
    seeds = (int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") for word in words)
    return _unit(np.stack([np.random.default_rng(seed).standard_normal(DIM, np.float32) for seed in seeds]))


if __name__ == "__main__":
    cli.run(main, parser())
