"""Kills a training run at random moments, starts it again until it is done, and compares it with one left alone.

Every start is `train` as a user starts it, with the studies of each step noted down; SIGKILL leaves the run no time for
anything. The run must end with the same parameters, to the bit, the same numbers of every step, each once, and at every
start the same studies in the same order. A further run is asked to stop, and goes on on fewer devices each time, once
in two processes: its studies must be those of a run on as many as at first, and its losses close to them.

    python bench/faults.py [--kills=50] [--seed=0] [--workers=2]

The last line is JSON; its value is the share of runs, one a round of kills, that equal the one left alone. The code is
0 where that is all of them, and the run on ever fewer devices is as it must be.
"""

import argparse
import functools
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clinicclip import cli

ROOT = Path(__file__).parents[1]
ROUND = 5  # kills of one run
PATIENCE = 300  # seconds that a start may take
STAGES = ((1, 8), (1, 4), (1, 2), (2, 1), (1, 1))  # processes, and devices of each, of the run that goes on on fewer
STRETCH = 20  # steps that it makes on each, at least
APART = 1e-5  # the most that its losses may differ, as a share of them
REPORTING = "while it reports"
SETTINGS = {
    "total_steps": 6,
    "batch_size": 16,
    "log_every": 1,
    "checkpoint_every": 2,
    "evaluate_every": 3,
    "evals.draws": 2,
    "evals.suites": '("pair_strict",)',
    "data.text_length": 64,
    "data.vocab_size": 300,
    "data.row_step": 64,
    "data.phantom.studies": 160,
    "model.dim": 16,
    "model.feature_dim": 8,
    "model.image.embed_dim": 8,
    "model.image.depths": "(1,1)",
    "model.image.heads": "(1,2)",
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "model.text.mlp_width": 32,
    "model.text.max_positions": 64,
    "model.graph.hidden": 8,
    "model.graph.width": 8,
}


class Fewer(NamedTuple):
    """How a run on ever fewer devices compares with one on as many as at first."""

    same: bool  # the studies of every step, in their order
    apart: float  # the largest difference of a loss, as a share of it

    @property
    def right(self) -> bool:
        """Whether they are one run but for the order in which floats are summed."""
        return self.same and self.apart <= APART


class Ended(NamedTuple):
    """What a run left behind."""

    parameters: dict[str, bytes]
    numbers: list[tuple[int, dict[str, float]]]  # of each record: its step and what no clock has part in
    studies: dict[int, list[list[str]]]  # of each step: the different batches that starts of the run gave it


def command(data: Path | str, workdir: Path, **changed: object) -> list[str]:
    """The line that starts, or goes on with, a small run."""
    flags = [f"--config.{key}={value}" for key, value in (SETTINGS | changed).items()]
    where = [f"--data_dir={data}", f"--workdir={workdir}"]
    observed = [str(ROOT / "tests" / "support" / "observed_train.py"), _fed(workdir), "0"]
    return [sys.executable, *observed, "--config=configs/n_g_dtcg.py:demo", *where, *flags]


def _fed(workdir: Path) -> str:
    return f"{workdir}.fed"


def run(
    line: list[str],
    processes: int = 1,
    devices: int = 1,
    send: signal.Signals = signal.SIGKILL,
    when: Callable[[], bool] = lambda: False,
) -> int:
    """Starts the command, sends it a signal once it is time, and returns how it ended: with 0, 75, or killed (-9).

    Everything it compiles is kept for the next start. Raises RuntimeError where it ends otherwise, or not at all.
    """
    quick = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": str(ROOT),
    }
    if processes > 1:
        line = [sys.executable, "launch/local.py", f"--processes={processes}", "--", *line]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(line, cwd=ROOT, env=quick, stdout=subprocess.DEVNULL, stderr=said)
        began, sent = time.monotonic(), False
        while process.poll() is None:
            if not sent and when():
                process.send_signal(send)
                sent = True
            if time.monotonic() - began > PATIENCE:
                process.kill()
                process.wait()
                raise RuntimeError(f"it did not end within {PATIENCE} s")
            time.sleep(0.005)
        if process.returncode not in (0, cli.PREEMPTED, -signal.SIGKILL):
            said.seek(0)
            raise RuntimeError(f"it ended with {process.returncode}: {said.read().decode()[-2000:]}")
    return process.returncode


def moments(workdir: Path, rng: np.random.Generator) -> dict[str, Callable[[], bool]]:
    """When to kill, by name: each is asked again and again, and says when it is time."""
    began, steps = time.monotonic(), _records(workdir) + int(rng.integers(1, 3))
    delay, reported = rng.uniform(0.0, 0.1), _reported(workdir)

    def soon(due: bool) -> bool:
        if due:
            time.sleep(delay)
        return due

    seconds = rng.uniform(0.2, 6.0)
    return {
        "at the start": lambda: time.monotonic() - began > seconds,
        "while it trains": lambda: _records(workdir) >= steps,
        "while it saves": lambda: soon(any(workdir.glob("checkpoints/*tmp*"))),
        "while it evaluates": lambda: soon(_records(workdir) == SETTINGS["evaluate_every"]),
        REPORTING: lambda: _reported(workdir) != reported,
    }


def _reported(workdir: Path) -> set[tuple[Path, int]]:
    """The folders in which the end of a run is written down, and when that was last."""
    return {(path, path.stat().st_mtime_ns) for path in (workdir / "report", workdir / "export") if path.exists()}


def _records(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def ended(workdir: Path) -> Ended:
    """What a complete run left behind. Raises RuntimeError where it is not complete."""
    from clinicclip.training import checkpoint, segments

    if not (workdir / "DONE").exists():
        raise RuntimeError(f"{workdir} is not complete")
    import jax

    _, params = checkpoint.read_params(workdir / "checkpoints")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    parameters = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}
    numbers = [(record["step"], record["metrics"]) for record in segments.read(workdir / "metrics.jsonl")]
    studies: dict[int, list[list[str]]] = {}
    for line in Path(f"{_fed(workdir)}.0").read_text().splitlines():
        fed = json.loads(line)
        given = studies.setdefault(fed["step"], [])
        given += [fed["ids"]] if fed["ids"] not in given else []
    return Ended(parameters, numbers, studies)


def rounds(data: Path, folder: Path, kills: int, seed: int, workers: int) -> Iterator[tuple[Counter[str], bool]]:
    """Of runs killed, some at a time, until there were so many kills: when, and whether each ended as one alone."""
    expected, numbers = alone(data, folder), itertools.count()
    with ThreadPoolExecutor(workers) as pool:
        while kills > 0:
            some = itertools.islice(numbers, min(workers, -(-kills // ROUND)))
            for done, same in pool.map(lambda number: killed(data, folder, number, seed, expected), some):
                kills -= done.total()
                yield done, same


def alone(data: Path, folder: Path) -> Ended:
    """What a run left behind that was not killed."""
    run(command(data, folder / "alone"))
    return ended(folder / "alone")


def killed(data: Path, folder: Path, number: int, seed: int, expected: Ended) -> tuple[Counter[str], bool]:
    """Of a run that is killed ``ROUND`` times: when, and whether it ended as expected."""
    rng, workdir, done = np.random.default_rng([seed, number]), folder / f"killed{number}", Counter[str]()
    for _ in range(ROUND):
        when = moments(workdir, rng)
        drawn, due = str(rng.choice(list(when))), list[str]()

        def now(when: dict[str, Callable[[], bool]] = when, drawn: str = drawn, due: list[str] = due) -> bool:
            due += [name for name in (drawn, REPORTING) if when[name]()]  # a moment that was missed: before its end
            return bool(due)

        if run(command(data, workdir), when=now) != -signal.SIGKILL:
            raise RuntimeError(f"{workdir} ended before it was killed")
        done[due[0]] += 1
    run(command(data, workdir))
    return done, ended(workdir) == expected


def on_fewer(data: Path, folder: Path) -> Fewer:
    """Makes a run on ever fewer devices and one on as many as at first. Raises RuntimeError where it is not stopped."""
    from clinicclip.training import segments

    steps = {"total_steps": STRETCH * len(STAGES), "checkpoint_every": 0, "evaluate_every": 0}
    places = [folder / name for name in ("on_as_many", "on_fewer")]
    alone, fewer = (command(data, place, **steps) for place in places)
    run(alone, *STAGES[0])
    for count, stage in enumerate(STAGES[:-1], 1):
        due = functools.partial(lambda least: _records(places[1]) >= least, STRETCH * count)
        if run(fewer, *stage, signal.SIGTERM, due) != cli.PREEMPTED:
            raise RuntimeError(f"{places[1]} was not stopped on {stage}")
    run(fewer, *STAGES[-1])
    return compared(*((fed(place), segments.read(place / "metrics.jsonl")) for place in places))


def compared(alone: tuple[Mapping[int, list], list[dict]], fewer: tuple[Mapping[int, list], list[dict]]) -> Fewer:
    """The comparison of what was fed, step by step, and of the records."""
    steps = [[record["step"] for record in records] for _, records in (alone, fewer)]
    losses = [np.array([record["metrics"]["loss"] for record in records]) for _, records in (alone, fewer)]
    same = alone[0] == fewer[0] and steps[0] == steps[1]
    return Fewer(same, float(np.max(np.abs(losses[1] / losses[0] - 1.0))) if same else math.inf)


def fed(workdir: Path) -> dict[int, list[str]]:
    """The studies of each step, of all processes, one behind the other; each start fed other steps."""
    studies: dict[int, list[str]] = {}
    for path in sorted(workdir.parent.glob(f"{workdir.name}.fed.*")):
        for line in path.read_text().splitlines():
            given = json.loads(line)
            studies.setdefault(given["step"], []).extend(given["ids"])
    return dict(sorted(studies.items()))


def parser() -> cli.Parser:
    """The command line."""
    flags = cli.Parser(program="bench/faults.py", description=__doc__.split("\n")[0], example="python bench/faults.py")
    flags.add_argument("--kills", type=cli.count, default=50, help="in all, a few of each run (50)")
    flags.add_argument("--seed", type=cli.count, default=0, help="of the moments")
    least = functools.partial(cli.count, least=1)
    flags.add_argument("--workers", type=least, default=2, help="runs that are killed at a time (2)")
    return flags


def main(args: argparse.Namespace) -> int:
    """Kills, compares and prints."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/compiled")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        seen, equal = Counter[str](), []
        made = rounds(Path(folder, "data"), Path(folder), args.kills, args.seed, args.workers)
        for number, (done, same) in enumerate(made):
            seen += done
            equal.append(same)
            print(f"run {number}: killed {dict(done)}; equal {same}", flush=True)
        fewer = on_fewer(Path(folder, "data"), Path(folder))
    print(f"{seen.total()} kills of {len(equal)} runs: {dict(seen)}")
    stages = ", ".join(f"{processes} x {devices}" for processes, devices in STAGES)
    print(f"processes x devices {stages}, at least {STRETCH} steps each: {fewer}")
    detail = {
        "kills": seen.total(),
        "runs": len(equal),
        "when": dict(seen),
        "seed": args.seed,
        "on_fewer": fewer._asdict(),
    }
    value = sum(equal) / len(equal)
    print(
        json.dumps({"name": "faults", "value": value, "unit": "share equal to the bit", "goal": 1.0, "detail": detail})
    )
    return 0 if value == 1.0 and fewer.right else 1


if __name__ == "__main__":
    cli.run(main, parser())
