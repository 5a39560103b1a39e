"""Starts a Python command in several processes that join through jax.distributed, and waits for all of them."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import local

ROOT = Path(__file__).parents[2]
GRACE = 30  # seconds that the others may go on after one has ended


class Ended(NamedTuple):
    """How a process ended; a negative code is the signal that killed it, as where it did not end by itself."""

    code: int
    out: str
    err: str


def by_slurm(port: int, processes: int, index: int) -> dict[str, str]:
    """What a process finds set under srun; only the port, made of the job's number there, is given."""
    tasks = {"SLURM_NTASKS": str(processes), "SLURM_STEP_NUM_TASKS": str(processes)}
    own = {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)}
    return {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "JAX_COORDINATOR_PORT": str(port)} | tasks | own


def start(
    words: Sequence[object],
    folder: Path,
    *,
    processes: int,
    devices: int,
    timeout: float = 240,
    placed: Callable[[int, int, int], dict[str, str]] = local.place,
) -> list[Ended]:
    """Runs ``python WORDS`` in so many processes of so many CPU devices; outputs and compiled code go to ``folder``.

    Where one does not end within ``timeout`` seconds of the start, or ``GRACE`` seconds after another, it is killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    line = [sys.executable, *map(str, words)]
    started = local.start(line, processes, environment=shared, placed=placed, outputs=folder)
    local.await_all(started, GRACE, timeout)
    texts = [[(folder / f"{index}.{kind}").read_text() for kind in ("out", "err")] for index in range(processes)]
    return [Ended(process.returncode, *text) for process, text in zip(started, texts, strict=True)]
