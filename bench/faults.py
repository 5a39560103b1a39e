"""Kills a training run at random moments, starts it again until it is done, and compares it with one left alone.

Every start is `train` as a user starts it, with the studies of each step noted down; SIGKILL leaves the run no time for
anything. The run must end with the same parameters, to the bit, the same numbers of every step, each once, and at every
start the same studies in the same order. A further run is asked to stop, and goes on on fewer devices each time, once
in two processes: its losses are compared with those of a run on as many as at first.

    python bench/faults.py [--kills=50] [--seed=0] [--workers=2]

The last line is JSON; its value is the share of runs, one a round of kills, that equal the one left alone.
"""

import argparse
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
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


class Ended(NamedTuple):
    """What a run left behind."""

    parameters: dict[str, bytes]
    numbers: list[tuple[int, dict[str, float]]]  # of each record: its step and what no clock has part in
    studies: dict[int, list[list[str]]]  # of each step: the different batches that starts of the run gave it


def command(data: Path, workdir: Path, **changed: object) -> list[str]:
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
    delay = rng.uniform(0.0, 0.1)

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
        "while it reports": lambda: (workdir / "report").exists() or (workdir / "export").exists(),
    }


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
        if (workdir / "DONE").exists():
            break
        when = moments(workdir, rng)
        name = str(rng.choice(list(when)))
        done[name] += run(command(data, workdir), when=when[name]) == -signal.SIGKILL
    run(command(data, workdir))
    return done, ended(workdir) == expected


def on_fewer(data: Path, folder: Path) -> float:
    """The largest difference of a loss, as a share of it, between a run on ever fewer devices and one on as many."""
    from clinicclip.training import segments

    steps = {"total_steps": STRETCH * len(STAGES), "checkpoint_every": 0, "evaluate_every": 0}
    alone, fewer = (command(data, folder / name, **steps) for name in ("on_as_many", "on_fewer"))
    run(alone, *STAGES[0])
    for count, stage in enumerate(STAGES[:-1], 1):
        run(fewer, *stage, signal.SIGTERM, lambda count=count: _records(folder / "on_fewer") >= STRETCH * count)
    run(fewer, *STAGES[-1])
    runs = [segments.read(folder / name / "metrics.jsonl") for name in ("on_as_many", "on_fewer")]
    losses = [np.array([r["metrics"]["loss"] for r in run]) for run in runs]
    return float(np.max(np.abs(losses[1] / losses[0] - 1.0)))


def parser() -> cli.Parser:
    """The command line."""
    flags = cli.Parser(program="faults", description=__doc__.split("\n")[0], example="python bench/faults.py")
    flags.prog = "python bench/faults.py"
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
        apart = on_fewer(Path(folder, "data"), Path(folder))
    print(f"{seen.total()} kills of {len(equal)} runs: {dict(seen)}")
    stages = ", ".join(f"{processes} x {devices}" for processes, devices in STAGES)
    print(f"processes x devices {stages}, at least {STRETCH} steps each: losses differ by {apart:.1e} at most")
    detail = {"kills": seen.total(), "runs": len(equal), "when": dict(seen), "seed": args.seed, "on_fewer": apart}
    value = sum(equal) / len(equal)
    print(
        json.dumps({"name": "faults", "value": value, "unit": "share equal to the bit", "goal": 1.0, "detail": detail})
    )
    return 0 if value == 1.0 else 1


if __name__ == "__main__":
    cli.run(main, parser())
