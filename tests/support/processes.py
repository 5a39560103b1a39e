"""Starts a Python command in several processes that join through jax.distributed, and waits for all of them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
GRACE = 30  # seconds that the others may go on after one has ended


class Ended(NamedTuple):
    """How a process ended; a negative code is the signal that killed it, as where it did not end by itself."""

    code: int
    out: str
    err: str


def start(
    words: Sequence[object],
    folder: Path,
    *,
    processes: int,
    devices: int,
    timeout: float = 240,
    environment: Mapping[str, str] | None = None,
) -> list[Ended]:
    """Runs ``python WORDS`` in so many processes of so many CPU devices; outputs and compiled code go to ``folder``.

    Where one does not end within ``timeout`` seconds of the start, or ``GRACE`` seconds after another, it is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # much is compiled here and little is run
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    port, started = free_port(), []
    for index in range(processes):
        own = joining(port, processes, index) if environment is None else {**environment, "SLURM_PROCID": str(index)}
        with (folder / f"{index}.out").open("w") as out, (folder / f"{index}.err").open("w") as err:
            line = [sys.executable, *map(str, words)]
            started.append(subprocess.Popen(line, stdout=out, stderr=err, env=shared | own, cwd=ROOT))
    _await(started, timeout)
    texts = [[(folder / f"{index}.{kind}").read_text() for kind in ("out", "err")] for index in range(processes)]
    return [Ended(process.returncode, *text) for process, text in zip(started, texts, strict=True)]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def joining(port: int, processes: int, index: int) -> dict[str, str]:
    """The variables that make a process one of several; none for one alone."""
    if processes == 1:
        return {}
    return {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(index),
    }


def _await(started: Sequence[subprocess.Popen], timeout: float) -> None:
    end = time.monotonic() + timeout
    try:
        while any(process.poll() is None for process in started) and time.monotonic() < end:
            if any(process.poll() is not None for process in started):
                end = min(end, time.monotonic() + GRACE)
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
