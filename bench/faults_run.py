"""Faults planted in settings, command lines and data: is each told in one line, in time, without a traceback?

A fault is planted alone: a setting of the wrong type, of an impossible value or under a misspelt name, a command line
that says too much or too little, or a file of prepared data that is missing, empty, cut short or another one's. Then a
program is called on it. Told is a fault when the program ends with code 1 or 2 and one line that names the key or file;
silent, unnamed, a traceback or a program that goes on for longer than it may is a failure.

    python bench/faults_run.py [--quick] [--seed=N] [--only=PLACE] [--show]

Prints a table place x kind of ending and, last, one JSON line whose value is the share told.
"""

import argparse
import functools
import importlib
import json
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from clinicclip import cli

GOAL, QUICK = 1.0, 40
PLACES = ("data", "commands", "settings")


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="faults_run", description=__doc__ or "", example="python bench/faults_run.py --quick")
    flags.add_argument("--quick", action="store_true", help=f"{QUICK} faults, drawn by the seed")
    flags.add_argument("--seed", type=functools.partial(cli.count), default=0, help="of the places and of --quick")
    flags.add_argument("--only", type=cli.one_of(PLACES), metavar="PLACE", help="faults of one place")
    flags.add_argument("--show", action="store_true", help="what is told of each fault, too")
    return flags


def main(args: argparse.Namespace) -> int:
    """Plants, judges and counts; exits 1 when a fault is not told."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    run_faults, cases = importlib.import_module("run_faults"), importlib.import_module("run_fault_cases")
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = run_faults.make(Path(folder, "whole"))
        planted = [fault for place in ([args.only] if args.only else PLACES) for fault in cases.of(place, whole)]
        if args.quick:
            planted = random.Random(args.seed).sample(planted, min(QUICK, len(planted)))
        for fault in tqdm(planted, unit=" faults", disable=None):
            told = run_faults.judge(fault, whole, Path(folder, "planted"), random.Random(args.seed))
            counts[fault.place, told.how] += 1
            if args.show or not told.handled:
                print(f"{fault.place}: {fault.kind}: {told.how}: {' '.join(told.words.split())[:600]}", flush=True)
    return _report(counts, run_faults.ENDINGS, args.quick)


def _report(counts: Counter[tuple[str, str]], endings: tuple[str, ...], quick: bool) -> int:
    print("".join(word.rjust(11) for word in ("faults", *endings)).rjust(12 + 11 * (len(endings) + 1)))
    for place in [*PLACES, "all"]:
        places = PLACES if place == "all" else [place]
        own = [sum(counts[name, how] for name in places) for how in endings]
        print(place.ljust(12) + "".join(f"{number:11,}" for number in (sum(own), *own)))
    total = sum(counts.values())
    told = sum(n for (_, how), n in counts.items() if how in endings[:2])
    detail = {"planted": total, "told": told, "quick": quick}
    result = {"name": "faults_run", "value": round(told / total, 4), "unit": "share of planted faults told"}
    print(json.dumps(result | {"goal": GOAL, "detail": detail}))
    return 0 if told == total else 1


if __name__ == "__main__":
    cli.run(main, parser())
