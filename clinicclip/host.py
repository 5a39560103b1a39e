"""Settings of the machine a program runs on, made before the first array exists."""

import ctypes
import platform

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
