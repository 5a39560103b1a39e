"""Seconds from the start of a process to the end of its first training step, of the demo, and what they go into.

    python bench/start.py [--data_dir=DIR] [--quick]

The demo is started cold (the phantom world is made where ``--data_dir`` does not hold it, nothing is compiled), then in
new run folders with data and compilation cache there, then once more in the last of these to go on. Each start is the
real program in a process of its own, told to stop once the first step is over. The last line is JSON; its value is the
median of the starts in new folders.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clinicclip import cli

GOAL = 15.0
CONFIG = "configs/n_g_dtcg.py:demo"
# jax's names for what it does before a program runs -> ours.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile or read",
    "/jax/compilation_cache/cache_retrieval_time_sec": "of it read from the cache",
}
BEGAN, TOLD = "START_BENCH_BEGAN", "START_BENCH_TOLD"  # environment: a time, and the file that a start writes


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/start.py", description=__doc__ or "", example="python bench/start.py --quick")
    flags.add_argument("--data_dir", type=Path, help="the demo's world; default: made in a temporary folder")
    flags.add_argument("--quick", action="store_true", help="one start in a new folder instead of three")
    return flags


def main(args: argparse.Namespace) -> int:
    """Starts again and again, prints a table and one JSON line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = args.data_dir or folder / "phantom"
        names = ["cold", *(f"warm {number}" for number in range(1 if args.quick else 3))]
        found = {name: start(folder, data, name) for name in tqdm(names, desc="starting", disable=None)}
        found["resumed"] = start(folder, data, names[-1])
    parts = list(found[names[-1]])
    print(f"{'seconds':<28}" + "".join(f"{name:>10}" for name in found))
    for part in parts:
        print(f"{part:<28}" + "".join(f"{told.get(part, 0.0):10.2f}" for told in found.values()))
    value = statistics.median(told["first step done"] for name, told in found.items() if name.startswith("warm"))
    detail = {name: {part: round(seconds, 2) for part, seconds in told.items()} for name, told in found.items()}
    detail["cores"] = os.cpu_count()
    print(json.dumps({"name": "start", "value": round(value, 2), "unit": "s", "goal": GOAL, "detail": detail}))
    return 0


def start(folder: Path, data: Path, name: str) -> dict[str, float]:
    """One start in the run folder ``name``: part -> seconds, and "first step done", from the start of the process.

    Raises:
        UserError: the program did not end as one that was asked to stop.
    """
    told = folder / "told.json"
    command = [f"--config={CONFIG}", f"--workdir={folder / name}", f"--data_dir={data}"]
    places = {"XDG_CACHE_HOME": str(folder / "cache"), TOLD: str(told), BEGAN: repr(time.time())}
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"} | places
    ended = subprocess.run([sys.executable, __file__, *command], env=environment, stdout=subprocess.PIPE, check=False)
    if ended.returncode != cli.PREEMPTED:
        raise cli.UserError(f"the start {name} ended with {ended.returncode}, not {cli.PREEMPTED}: see above")
    seconds: dict[str, float] = json.loads(told.read_text())
    return seconds


def started() -> int:
    """What a start runs: the program `train`, with a clock at its parts, ended behind its first step."""
    began, seconds = float(os.environ[BEGAN]), dict[str, float]()
    seconds["python"] = time.time() - began
    with clock(seconds, "imports"):
        import jax
        import jax.monitoring

        from clinicclip import inputs, runs, train
        from clinicclip.training import step

    def heard(event: str, took: float, **_: Any) -> None:
        if event in EVENTS:
            seconds[EVENTS[event]] = seconds.get(EVENTS[event], 0.0) + took

    def make_step(*told: Any) -> Callable[..., Any]:
        inner = real(*told)

        def first(state: step.TrainState, batch: Mapping[str, Any]) -> Any:
            jax.monitoring.register_event_duration_secs_listener(heard)
            with clock(seconds, "first step"):
                made = jax.block_until_ready(inner(state, batch))
            seconds["first step done"] = time.time() - began
            Path(os.environ[TOLD]).write_text(json.dumps(seconds))
            signal.raise_signal(signal.SIGTERM)
            return made

        first.lower = inner.lower
        return first

    real, train.make_step = train.make_step, make_step
    for module, name, part in (
        (runs, "set_up", "data, tokenizer, features"),
        (inputs, "require_disjoint", "of it patients"),
        (inputs, "first_inputs", "of it made"),
        (train, "restore_or_init", "parameters"),
    ):
        setattr(module, name, timed(getattr(module, name), seconds, part))
    return cli.call(train.main, train.parser(), sys.argv[1:])


def timed(work: Callable[..., Any], seconds: dict[str, float], part: str) -> Callable[..., Any]:
    """The same function, with its seconds noted."""

    def clocked(*args: Any) -> Any:
        with clock(seconds, part):
            return work(*args)

    return clocked


@contextmanager
def clock(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Notes how long a ``with`` took."""
    began = time.time()
    yield
    seconds[part] = time.time() - began


if __name__ == "__main__":
    if TOLD in os.environ:
        sys.exit(started())
    cli.run(main, parser())
