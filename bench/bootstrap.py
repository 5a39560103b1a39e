"""Time and memory of the patient bootstrap: AUROC and AUPRC with intervals for 14 classes of 40,000 images.

    python bench/bootstrap.py [--quick]

Scores are random, with ties, and two images belong to a patient. The last line is JSON; its value is the time of
1,000 draws of the AUROC of all classes.
"""

import argparse
import json
import resource
import time

import numpy as np

from clinicclip import cli
from clinicclip.evals.stats import PatientBootstrap, Ranking

ROWS, CLASSES, DRAWS = 40_000, 14, 1000
GOAL = 10.0


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/bootstrap.py", description=__doc__, example="python bench/bootstrap.py --quick")
    flags.add_argument("--quick", action="store_true", help="a tenth of the rows")
    return flags


def main(args: argparse.Namespace) -> int:
    """Time both measures over all classes, print them and one JSON line."""
    count = ROWS // 10 if args.quick else ROWS
    rng, rows = np.random.default_rng(0), np.arange(count)
    prevalence = rng.uniform(0.01, 0.4, CLASSES)
    began = time.perf_counter()
    bootstrap = PatientBootstrap([f"p{row // 2}" for row in rows], draws=DRAWS)
    seconds = {"redraws": time.perf_counter() - began, "auroc": 0.0, "auprc": 0.0}
    for share in prevalence:
        truth = rng.random(count) < share
        ranking = Ranking(truth, np.round(rng.normal(size=count) + truth, 3))
        for measure in ("auroc", "auprc"):
            began = time.perf_counter()
            bootstrap.draws(getattr(ranking, measure), rows)
            seconds[measure] += time.perf_counter() - began
    for name, taken in seconds.items():
        print(f"{name:8} {taken:6.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")
    detail = {name: round(taken, 2) for name, taken in seconds.items()} | {"rows": count, "peak_gib": round(peak, 2)}
    line = {"name": "bootstrap", "value": round(seconds["auroc"], 2), "unit": "s", "goal": GOAL, "detail": detail}
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    cli.run(main, parser())
