"""What looks on while a run trains: tells where it stands when nothing moves, and traces the steps one asks for."""

import faulthandler
from pathlib import Path
from types import TracebackType

import jax
from jaxtyping import PyTree

from clinicclip.training import lost

FOLDER = "profile"  # in the run's folder; TensorBoard and xprof open it


class Watch:
    """Told of every step as it begins, while a ``with`` lasts.

    Where ``patience`` seconds pass without a step, the stacks of all threads go to stderr (files and lines, nothing
    that is read), and again each time as many have passed; 0 = never. Where it ``ends``, the process then ends with
    code 1. The steps of ``traced`` are profiled.
    """

    def __init__(self, workdir: Path, patience: float, traced: range = range(0), *, ends: bool = False) -> None:
        self._folder, self._patience, self._traced, self._ends = workdir / FOLDER, patience, traced, ends
        self._tracing = False

    def __enter__(self) -> "Watch":
        self._rest()
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if self._patience:
            faulthandler.cancel_dump_traceback_later()
        self._end_trace()

    def step(self, now: int, made: PyTree = None) -> None:
        """The step that follows ``now`` others begins; ``made`` is what the last one gave, which no trace cuts."""
        self._rest()
        if (now in self._traced) == self._tracing:
            return
        jax.block_until_ready(made)
        if self._tracing:
            self._end_trace()
        else:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def _rest(self) -> None:
        if self._patience:
            faulthandler.dump_traceback_later(self._patience, repeat=True, exit=self._ends, file=lost.screen())

    def _end_trace(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
