"""The allocator's settings: they take where the C library is glibc, and nothing is touched elsewhere."""

import platform
import subprocess
import sys

import pytest

from clinicclip import host

# Settings last as long as the process, so they are tried in one of their own. After a first round, blocks of a size
# that malloc would map afresh every time must come back without a page fault.
ROUNDS = """
import ctypes, resource
from clinicclip import host
taken = host.tune_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(1 << 27)
    libc.memset(block, 1, 1 << 27)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(taken, faults(), faults())
"""


def test_freed_blocks_come_back_without_page_faults():
    done = subprocess.run([sys.executable, "-c", ROUNDS], capture_output=True, text=True, check=True)
    taken, first, second = done.stdout.split()
    assert taken == str(platform.libc_ver()[0] == "glibc")
    if taken == "True":
        assert int(second) < int(first) / 10


@pytest.mark.parametrize(("system", "library"), [("Darwin", ""), ("Linux", ""), ("Windows", "")])
def test_other_systems_are_left_alone(monkeypatch, system, library):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, ""))
    assert host.tune_allocator() is False
