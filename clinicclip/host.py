"""The machine a program runs on: settings made before the first array exists, and its wish that we stop."""

import ctypes
import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    With ``agree``, which makes one answer of those of all processes, nothing is raised at once, as that would leave
    the others waiting: the request counts where all processes look at ``requested``, and behind ``deferred``.
    """

    def __init__(self, agree: Callable[[bool], bool] | None = None) -> None:
        self._agree = agree
        self._heard = False
        self._at_once = agree is None

    def __enter__(self) -> "StopRequest":
        self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *fault: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @property
    def requested(self) -> bool:
        """Whether a process was asked to stop."""
        return self._agree(self._heard) if self._agree else self._heard

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A stretch that must not be cut: it looks at ``requested`` itself, and ``Stopped`` is raised behind it."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = self._agree is None
        if self.requested:
            raise Stopped

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
        if self._at_once:
            raise Stopped
