"""What a process says when another one of its run is gone: one line that names it, in place of jax's inner state.

jax's coordination service lives in process 0 and hears a heartbeat of every process. Where one stays away, or the
service itself, or one ends without the others, jax writes what it knows to file descriptor 2 and aborts each process
that is left. Here that descriptor becomes a pipe, of which a thread passes on everything but this; an abort waits until
the thread has told it. Who writes never waits for that thread, which would be for ever where he holds Python's lock:
what the pipe has no room for is dropped.
"""

import atexit
import contextlib
import ctypes
import fcntl
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

import jax

from clinicclip.errors import LOST, UserError

HEARTBEAT = 25  # seconds without one after which a process counts as gone, where nothing else is said
FATAL = b"Terminating process because the JAX distributed service"  # of jaxlib's last words
SERVICE = b"coordination_service"  # the source files of what it says before
SILENT = re.compile(r"stopped sending heartbeats\):\n((?:\S*\d+\n)+)")  # and then those that are, one a line
FIRST = re.compile(r"The first task at the barrier: \S*?(\d+)\.")  # of those that end together: it ended alone
UNSERVED = re.compile(r"Failed to send RPC to coordination service|Socket closed|Deadline Exceeded")
STACK = "*** Check failure stack trace"  # of jaxlib's own functions, behind what it says
# Of what a collective of all raises at once where a process has gone: who that was comes from the service, later.
CUT_OFF = re.compile(r"gloo|nccl|connection|heartbeat|barrier|unavailable|aborted|deadline", re.IGNORECASE)
PAUSE = 1.0  # seconds without a word after which jaxlib has said all; an abort waits for six
ROOM = 2**20  # bytes of the pipe, of which Linux gives any process so many
MARGIN = 10  # seconds that the service may take beyond a heartbeat
_screen = 2


def screen() -> int:
    """The file descriptor of what a person sees."""
    return _screen


def listen(hosts: Sequence[str]) -> None:
    """From now on this process ends with code 76 and one line where another is lost; ``hosts`` by process, as known."""
    global _screen
    _screen = os.dup(2)
    source, sink = pipe()
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = os.fdopen(os.dup(_screen), "w", buffering=1, errors="backslashreplace")
    threading.Thread(target=_pass_on, args=(source, hosts), name="stderr", daemon=True).start()
    # An abort calls its handler with the number of its signal, 6: seconds in which other threads go on. It would not
    # wait for a function of Python's.
    library = ctypes.CDLL(None)
    library.signal(signal.SIGABRT, library.sleep)


def pipe() -> tuple[int, int]:
    """Both ends of a pipe into which nobody waits to write."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    with contextlib.suppress(OSError, AttributeError):  # a small one will do, as elsewhere than on Linux
        fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, ROOM)
    return source, sink


@contextlib.contextmanager
def bound(heartbeat: int) -> Iterator[None]:
    """Holds back what was raised because another process has gone, until `listen` has named that process.

    After any other fault this process leaves the run, and the others hear of it.
    """
    try:
        yield
    except Exception as fault:
        if jax.distributed.is_initialized():
            if not isinstance(fault, UserError) and CUT_OFF.search(str(fault)):
                time.sleep(heartbeat + MARGIN)
            leaving = threading.Thread(target=_leave, daemon=True)
            leaving.start()
            atexit.register(leaving.join)  # else jax would leave in the main thread, whose abort lets no other speak
        raise


def _leave() -> None:
    """Leaves the run while threads of this process, without which it cannot end, still wait for the others."""
    time.sleep(PAUSE)  # in which the fault is told
    try:
        jax.distributed.shutdown()
    except RuntimeError:  # the others did not leave, too: they are told
        os._exit(1)


def _pass_on(source: int, hosts: Sequence[str]) -> None:
    held, open_ = b"", True
    while open_:
        while select.select([source], [], [], PAUSE if held else None)[0] and open_:
            more = os.read(source, 2**16)
            held, open_ = held + more, bool(more)
            if SERVICE not in held and FATAL not in held:  # the one precedes the other by a moment
                break
        at = [held.find(word) for word in (SERVICE, FATAL) if word in held]
        if FATAL in held:
            _show(held[: held.rfind(b"\n", 0, min(at)) + 1])
            _end(held.decode(errors="replace"), hosts)
        _show(held)
        held = b""


def _show(words: bytes) -> None:
    while words:
        words = words[os.write(_screen, words) :]


def _end(told: str, hosts: Sequence[str]) -> NoReturn:
    gone = lost(told)
    if gone == [jax.process_index()]:  # which has told why
        os._exit(1)
    _show(f"error: {line(told, gone, hosts)}\n".encode())
    os._exit(LOST)


def lost(told: str) -> list[int]:
    """The numbers of the processes that jaxlib's words say are gone."""
    if silent := SILENT.search(told):
        return [int(re.findall(r"\d+", name)[-1]) for name in silent[1].split()]
    if first := FIRST.search(told):
        return [int(first[1])]
    return [0] if UNSERVED.search(told) else []


def line(told: str, gone: Sequence[int], hosts: Sequence[str]) -> str:
    """One line for people of what jaxlib told."""
    names = [f"process {index} of {len(hosts)} ({hosts[index]})" for index in gone]
    said = " ".join(told.partition(STACK)[0].split())[-300:]
    who = f"{' and '.join(names)} went away" if names else f"the run fell apart ({said})"
    return f"{who}: see in its log or that of its machine why; the same command goes on from what was saved"
