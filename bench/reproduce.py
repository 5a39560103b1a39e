"""Trains and evaluates all variants by one command, left alone and killed twice, and compares what comes of it.

The command is the one a user types, on phantom data. Its second start is killed (SIGKILL, with the child that trains)
once between two variants and once within one, after a checkpoint and before the next; a third start goes to the end.
Tables, numbers, bootstrap draws and the hashes of the parameters must then be those of the run left alone, to the bit.

    python bench/reproduce.py [--quick] [--steps=12] [--output=DIR]

Prints the page of the resumed run and, last, one JSON line whose value is the share of files that are equal.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clinicclip import cli
from clinicclip.training import metrics

ROOT = Path(__file__).parents[1]
GOAL, LEAST_COLUMNS = 1.0, 37
VARIANTS = ("baseline", "dt", "dt_c", "n", "n_dt_c", "g", "g_dtcg", "n_g_dtcg", "off_clip")
CONTROLS = ("cxr_align/task_a/wrong_image", "cxr_align/task_b/wrong_image", "pair_strict/macro")
TABLES = ("results.md", "results_summary.csv", "results_counts.csv", "results_differences.csv")
OF_A_RUN = ("report/results.json", "report/draws.safetensors", "report/scores.safetensors")
SETTINGS = {"data.phantom.studies": 800, "log_every": 1}
CHECKPOINTS = 4  # of a run
PATIENCE = 3600  # seconds that a start may take


def parser() -> cli.Parser:
    """The command line."""
    flags = cli.Parser(program="bench/reproduce.py", description=__doc__, example="python bench/reproduce.py --quick")
    flags.add_argument("--quick", action="store_true", help="three variants")
    flags.add_argument("--steps", type=cli.count, default=12, help="of each run (12)")
    flags.add_argument("--output", type=Path, help="keeps both folders there")
    return flags


def main(args: argparse.Namespace) -> int:
    """Runs, kills, compares and prints."""
    variants = (*VARIANTS[:2], VARIANTS[-1]) if args.quick else VARIANTS
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or Path(temporary)
        alone, killed = folder / "alone", folder / "killed"
        began = time.monotonic()
        start(command(alone, args.steps, variants))
        minutes = (time.monotonic() - began) / 60
        kills = [
            start(command(killed, args.steps, variants), when) == -signal.SIGKILL
            for when in (between(killed, *variants[:2]), within(killed / f"{variants[-1]}-seed0", args.steps))
        ]
        start(command(killed, args.steps, variants))
        equal = dict(comparison(alone, killed, variants))
        rows = _read(killed / "results_summary.csv")
        deltas = _read(killed / "results_differences.csv")
        resumed = (killed / f"{variants[-1]}-seed0.log").read_text().count("resuming at step")
        print((killed / "results.md").read_text())
    columns = [name for name in rows[0] if "/" in name]
    intervals = [float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"]) for row in deltas]
    for name in (name for name, same in equal.items() if not same):
        print(f"not equal: {name}")
    detail = {
        "variants": len(rows),
        "columns": len(columns),
        "differences": len(deltas),
        "controls": sum(name in columns for name in CONTROLS),
        "kills": sum(kills),
        "resumed": resumed,
        "files": len(equal),
        "steps": args.steps,
        "minutes_alone": round(minutes, 1),
    }
    value = sum(equal.values()) / len(equal)
    print(json.dumps({"name": "reproduce", "value": value, "unit": "share equal", "goal": GOAL, "detail": detail}))
    whole = len(columns) >= LEAST_COLUMNS and detail["controls"] == len(CONTROLS) and len(rows) == len(variants)
    return 0 if value == GOAL and all(kills) and resumed == 1 and whole and intervals and all(intervals) else 1


def command(output: Path, steps: int, variants: tuple[str, ...]) -> list[str]:
    """The line that starts, or goes on with, all runs."""
    settings = SETTINGS | {"checkpoint_every": max(1, steps // CHECKPOINTS)}
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    where = [f"--data=phantom:{output.parent / 'data'}", f"--output={output}", f"--steps={steps}"]
    chosen = [f"--variants={','.join(variants)}", "--config_arg=size=micro"]
    return [sys.executable, "-m", "clinicclip.reproduce", *where, *chosen, *flags]


def start(line: list[str], when: Callable[[], bool] = lambda: False) -> int:
    """Starts the command, kills it and its child once it is time, and returns how it ended: with 0, or killed (-9).

    Raises RuntimeError where it ends otherwise, or not at all.
    """
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "true", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            line, cwd=ROOT, env=os.environ | quick, stdout=said, stderr=said, start_new_session=True
        )
        began = time.monotonic()
        while process.poll() is None:
            late = time.monotonic() - began > PATIENCE
            if late or when():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if late:
                raise RuntimeError(f"it did not end within {PATIENCE} s")
            time.sleep(0.005)
        if process.returncode not in (0, -signal.SIGKILL):
            said.seek(0)
            raise RuntimeError(f"it ended with {process.returncode}: {said.read().decode()[-2000:]}")
    return process.returncode


def between(output: Path, first: str, second: str) -> Callable[[], bool]:
    """Whether one variant is done and nothing is there of the next."""
    return lambda: (output / f"{first}-seed0" / "DONE").exists() and not (output / f"{second}-seed0").exists()


def within(run: Path, steps: int) -> Callable[[], bool]:
    """Whether a run is past its second checkpoint by a step or more, and short of its end."""
    past = 2 * max(1, steps // CHECKPOINTS) + 1

    def due() -> bool:
        path = run / "metrics.jsonl"
        return path.exists() and path.read_bytes().count(b"\n") >= past and not (run / "DONE").exists()

    return due


def comparison(alone: Path, killed: Path, variants: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Of every file that no clock and no place has a part in, and of the numbers of every step: whether both agree."""
    names = [*TABLES, *(f"{variant}-seed0/{name}" for variant in variants for name in OF_A_RUN)]
    for name in names:
        yield name, (alone / name).read_bytes() == (killed / name).read_bytes()
    for variant in variants:
        logs = [metrics.read(folder / f"{variant}-seed0" / "metrics.jsonl") for folder in (alone, killed)]
        steps = [[(record["step"], record["metrics"]) for record in log] for log in logs]
        yield f"{variant}-seed0/metrics.jsonl", steps[0] == steps[1]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    cli.run(main, parser())
