"""The machine a program runs on: settings made before the first array exists, and its wish that we stop."""

import ctypes
import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
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


def keep_compiled() -> None:
    """Let jax store what it compiles, so that the next start of a program need not compile it again.

    In the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another one; empty = nothing is stored.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(cache, "clinicclip", "compiled")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


class Stopped(BaseException):
    """The machine asked this process to end, and nothing is lost by ending here.

    No fault, so nobody who catches faults may swallow it.
    """


class StopRequest:
    """SIGTERM while a ``with`` lasts: raises ``Stopped`` at once, or inside ``deferred`` only sets ``requested``.

    With ``agree``, which makes one answer of those of all processes, it is raised at once in what a process does
    `alone` only, as the others would be left waiting elsewhere: there the request counts where all processes look at
    ``requested``, and behind ``deferred``.
    """

    current: "StopRequest | None" = None  # the innermost that lasts

    def __init__(self, agree: Callable[[bool], bool] | None = None) -> None:
        self._agree = agree
        self._heard = self._deferred = False
        self._alone = agree is None

    def __enter__(self) -> "StopRequest":
        self._outer, StopRequest.current = StopRequest.current, self
        self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *fault: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
        StopRequest.current = self._outer

    @property
    def requested(self) -> bool:
        """Whether a process was asked to stop."""
        return self._agree(self._heard) if self._agree else self._heard

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

    @contextmanager
    def cuttable(self) -> Iterator[None]:
        """A stretch within a deferred one in which ``Stopped`` is raised all the same."""
        try:
            self._deferred = False
            self._raise_where_due()
            yield
        finally:
            self._deferred = True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A stretch in which this process works while no other waits to be told the same; not within another."""
        try:
            self._alone = True
            self._raise_where_due()
            yield
        finally:
            self._alone = self._agree is None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
        self._raise_where_due()

    def _raise_where_due(self) -> None:
        if self._heard and self._alone and not self._deferred:
            raise Stopped


def alone() -> AbstractContextManager[None]:
    """A stretch in which a stop is raised at once where several agree on it: for what passes it on to the others."""
    return StopRequest.current.alone() if StopRequest.current else nullcontext()
