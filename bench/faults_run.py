"""Faults planted in settings, files, disks and machines: is each told in one line, in time, without a traceback?

A fault is planted alone, and a program called on it in a process of its own, or in as many as the fault takes: a
setting of the wrong type, of an impossible value or under a misspelt name; a command line that says too much or too
little; a file that is missing, empty, cut short, changed or another one's in prepared data, a run's folder or an
export; images and texts that cannot be read; a disk that is full, read-only or gone, from the start or while a run
trains; processes that do not come, are not alike, or die. Told is a fault when every process that can still speak ends
with code 1 or 2 and one line that names the key, file or process, or goes on as documented and names it; silent,
unnamed, a traceback or a program that goes on for longer than it may is a failure.

    python bench/faults_run.py [--quick] [--seed=N] [--only=PLACE[,PLACE]] [--share=K/N] [--show]

Prints a table place x kind of ending and, last, one JSON line whose value is the share told. Small disks are mounted,
which takes root.
"""

import argparse
import functools
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from clinicclip import cli

GOAL, QUICK = 1.0, 24


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/faults_run.py", description=__doc__ or "", example="python bench/faults_run.py --quick"
    )
    flags.add_argument(
        "--quick", action="store_true", help=f"{QUICK} faults, drawn by the seed, that need neither run nor mount"
    )
    flags.add_argument("--seed", type=functools.partial(cli.count), default=0, help="of the places and of --quick")
    flags.add_argument("--only", default="", metavar="PLACE[,PLACE]", help="faults of these places")
    flags.add_argument("--share", type=_share, default=(1, 1), metavar="K/N", help="every Nth fault from the Kth on")
    flags.add_argument("--show", action="store_true", help="what is told of each fault, too")
    return flags


def main(args: argparse.Namespace) -> int:
    """Plants, judges and counts; exits 1 when a fault is not told."""
    root = Path(__file__).parents[1]
    sys.path[:0] = [str(root / "tests" / "support"), str(root / "launch")]
    folder = tempfile.mkdtemp()  # a TemporaryDirectory would be removed by whatever is forked, too
    os.environ |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    try:
        return plant(args, Path(folder))
    finally:
        shutil.rmtree(folder)


def plant(args: argparse.Namespace, folder: Path) -> int:
    """Plants one fault after the other in the folder."""
    run_faults, cases = importlib.import_module("run_faults"), importlib.import_module("run_fault_cases")
    places = args.only.split(",") if args.only else list(cases.PLACES)
    planted = [fault for place in places for fault in cases.of(place)]
    if args.quick:
        few = [fault for fault in planted if not (fault.trains or fault.disk or run_faults.needs_run(fault))]
        planted = random.Random(args.seed).sample(few, min(QUICK, len(few)))
    planted = planted[args.share[0] - 1 :: args.share[1]]
    run_faults.load()
    whole = run_faults.make(folder / "whole", trained=any(map(run_faults.needs_run, planted)))
    counts: Counter[tuple[str, str]] = Counter()
    seconds: dict[str, float] = {}
    spent: dict[str, float] = Counter()
    for fault in tqdm(planted, unit=" faults", disable=None):
        began = time.monotonic()
        told = run_faults.judge(fault, whole, folder / "planted", random.Random(args.seed))
        counts[fault.place, told.how] += 1
        seconds[f"{fault.place}: {fault.kind}"] = told.seconds
        spent[fault.place] += time.monotonic() - began
        if args.show or not told.handled:
            words = " ".join(told.words.split())[:600]
            print(f"{fault.place}: {fault.kind}: {told.how} after {told.seconds:.1f} s: {words}", flush=True)
    return _report(counts, run_faults.ENDINGS, seconds, spent, args.quick)


def _share(text: str) -> tuple[int, int]:
    part, _, of = text.partition("/")
    if not (part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
        raise argparse.ArgumentTypeError(f"expected K/N such as 1/4, not {text!r}")
    return int(part), int(of)


def _report(
    counts: Counter[tuple[str, str]],
    endings: Sequence[str],
    seconds: Mapping[str, float],
    spent: Mapping[str, float],
    quick: bool,
) -> int:
    print(" " * 12 + "".join(word.rjust(11) for word in ("faults", *endings, "minutes")))
    known = list(dict.fromkeys(place for place, _ in counts))
    for place in [*known, "all"]:
        places = known if place == "all" else [place]
        own = [sum(counts[name, how] for name in places) for how in endings]
        minutes = sum(spent[name] for name in places) / 60
        print(place.ljust(12) + "".join(f"{number:11,}" for number in (sum(own), *own)) + f"{minutes:11.1f}")
    slowest = max(seconds, key=lambda kind: seconds[kind])
    print(f"slowest: {slowest}, {seconds[slowest]:.1f} s")
    total = sum(counts.values())
    told = sum(n for (_, how), n in counts.items() if how in endings[:2])
    detail = {"planted": total, "told": told, "quick": quick, "slowest": round(seconds[slowest], 1)}
    result = {"name": "faults_run", "value": round(told / total, 4), "unit": "share of planted faults told"}
    print(json.dumps(result | {"goal": GOAL, "detail": detail}))
    return 0 if told == total else 1


if __name__ == "__main__":
    cli.run(main, parser())
