"""The machine a program runs on: settings made before the first array exists, and its wish that we stop."""

import ctypes
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = -1  # as a size: larger than any block


def tune_allocator() -> bool:
    """Let freed memory stay mapped to this process; return whether the C library took the settings.

    XLA's CPU buffers come from malloc, which by default maps and unmaps every large block: each step would
    fault all of its pages in again. Elsewhere than on Linux with glibc nothing is done.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_ARENA_MAX: 1}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


class Stopped(BaseException):
    """The machine asked this process to end, and nothing is lost by ending here.

    No fault, so nobody who catches faults may swallow it.
    """


class StopRequest:
    """SIGTERM while a ``with`` lasts: raises ``Stopped`` at once, or inside ``deferred`` only sets ``requested``."""

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def __enter__(self) -> "StopRequest":
        self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *fault: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A stretch that must not be cut: it looks at ``requested`` itself, and ``Stopped`` is raised behind it."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            raise Stopped

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            raise Stopped
