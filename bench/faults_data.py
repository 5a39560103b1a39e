"""Faults planted in fakes of every release: does `prepare` tell each one, by name in its account or in one clear line?

A fault is planted alone in a fresh fake of a release's layout, at a place drawn by the seed, and `prepare` is run. Told
is a fault when the program stops with one line that names the file, row or value, or finishes and names what it left
out or marked; silent, unnamed or a traceback is a failure.

    python bench/faults_data.py [--quick] [--seed=N] [--only=READER] [--show]

Prints a table reader x kind of ending and, last, one JSON line whose value is the share told.
"""

import argparse
import functools
import importlib
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from clinicclip import cli
from clinicclip.data import releases

GOAL, QUICK = 1.0, 40
ENDINGS = ("stopped", "dropped", "flagged", "silent", "unnamed", "traceback")


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/faults_data.py", description=__doc__ or "", example="python bench/faults_data.py --quick"
    )
    flags.add_argument("--quick", action="store_true", help=f"{QUICK} faults, drawn by the seed")
    flags.add_argument("--seed", type=functools.partial(cli.count), default=0, help="of the places and of --quick")
    flags.add_argument("--only", type=cli.one_of(releases.READERS), metavar="READER", help="faults of one reader")
    flags.add_argument("--show", action="store_true", help="what is told of each fault, too")
    return flags


def main(args: argparse.Namespace) -> int:
    """Plants, judges and counts; exits 1 when a fault is not told."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    judging, cases = importlib.import_module("judging"), importlib.import_module("fault_cases")
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        clean, planted = {}, []
        for name, fake in cases.FAKES.items():
            if args.only not in (None, name):
                continue
            root = fake.make(Path(folder) / name / "in")
            clean[name] = judging.account(name, fake, root, Path(folder) / name / "out")
            planted += judging.grid(name, fake, cases.used_images(name, fake, root))
        if args.quick:
            planted = random.Random(args.seed).sample(planted, min(QUICK, len(planted)))
        for fault in tqdm(planted, unit=" faults", disable=None):
            place = Path(folder) / "planted"
            told = judging.judge(fault, cases.FAKES[fault.reader], place, args.seed, clean[fault.reader])
            counts[fault.reader, told.how] += 1
            if args.show or not told.handled:
                print(f"{fault.reader}: {fault.kind}: {told.how}: {' '.join(told.words.split())}")
    return _report(counts, args.quick)


def _report(counts: Counter[tuple[str, str]], quick: bool) -> int:
    readers = list(dict.fromkeys(reader for reader, _ in counts))
    print("".join(word.rjust(11) for word in ("faults", *ENDINGS)).rjust(12 + 11 * (len(ENDINGS) + 1)))
    for reader in [*readers, "all"]:
        own = [sum(counts[name, how] for name in (readers if reader == "all" else [reader])) for how in ENDINGS]
        print(reader.ljust(12) + "".join(f"{number:11,}" for number in (sum(own), *own)))
    total = sum(counts.values())
    told = sum(n for (_, how), n in counts.items() if how in ENDINGS[:3])
    detail = {"planted": total, "told": told, "readers": len(readers), "quick": quick}
    result = {"name": "faults_data", "value": round(told / total, 4), "unit": "share of planted faults told"}
    print(json.dumps(result | {"goal": GOAL, "detail": detail}))
    return 0 if told == total else 1


if __name__ == "__main__":
    cli.run(main, parser())
