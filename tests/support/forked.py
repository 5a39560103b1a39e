"""Programs in processes forked from this one, which has imported all that they need and asked jax for nothing."""

import atexit
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

TICK = 0.02  # seconds between two looks at the processes
UNSTRUCK = 300.0  # seconds in which a strike must have come
BROKEN = 70  # the exit code of what ends with an exception


class Ended(NamedTuple):
    """How a process ended: its exit code, negative for a signal, None where it had to be killed; and what it said."""

    code: int | None
    out: str
    err: str


def run(
    works: Sequence[Callable[[], int] | None],
    folder: Path,
    patience: float,
    strike: Callable[[Sequence[int]], bool] = lambda processes: True,
    fallen: Sequence[bool] = (),
) -> tuple[list[Ended], float]:
    """How all of them ended, each in a process of its own, and after how many seconds the last one did.

    Args:
        works: what each process does; None for one that is not started, of which nothing is returned.
        folder: where INDEX.out and INDEX.err go.
        patience: seconds after which those that go on are killed.
        strike: is given the ids of the processes, again and again until it says that it is done; seconds count from
            then on.
        fallen: whose end nobody waits for, of all that are started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / str(index) for index, work in enumerate(works) if work is not None]
    started = [_start(work, place) for work, place in zip(filter(None, works), places, strict=True)]
    left, codes, struck, began = set(started), dict[int, int | None](), False, time.monotonic()
    nobody = {process for process, falls in zip(started, fallen or [False] * len(started), strict=True) if falls}
    while left - nobody and time.monotonic() - began < (patience if struck else UNSTRUCK):
        if not struck and strike(started):
            struck, began = True, time.monotonic()
        for process in tuple(left):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                codes[process] = os.waitstatus_to_exitcode(status)
                left.remove(process)
        time.sleep(TICK)
    seconds = time.monotonic() - began
    for process in left:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        codes[process] = None
    said = [[Path(f"{place}.{kind}").read_text(errors="replace") for kind in ("out", "err")] for place in places]
    return [Ended(codes[process], *words) for process, words in zip(started, said, strict=True)], seconds


def _start(work: Callable[[], int], place: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fork() or _work(work, place)


def _work(work: Callable[[], int], place: Path) -> NoReturn:
    """What the new process does, to an end like that of any Python program."""
    code = BROKEN
    try:
        for number, kind in ((1, "out"), (2, "err")):
            file = os.open(f"{place}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        faulthandler.enable(2)
        code = work()
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
