"""The machine: allocator settings take where the C library is glibc; a wish to stop is heard where nothing is lost."""

import platform
import signal
import subprocess
import sys

import pytest

from clinicclip import cli, host

# A process that a SIGTERM meets where it begins to import jax.
STOPPED_BY_JAX = """
import runpy, signal, sys
class Finder:
    def find_spec(self, name, *where):
        if name == "jax":
            signal.raise_signal(signal.SIGTERM)
sys.meta_path.insert(0, Finder())
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
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


def test_a_stop_is_raised_at_once_or_waits_for_the_end_of_a_deferred_stretch():
    before = signal.getsignal(signal.SIGTERM)
    with host.StopRequest(), pytest.raises(host.Stopped):
        signal.raise_signal(signal.SIGTERM)
    done = []
    with host.StopRequest() as stop, pytest.raises(host.Stopped), stop.deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append(stop.requested)
    assert done == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("words", [["clinicclip.train"], ["clinicclip", "train"]])
def test_a_stop_while_train_is_imported_says_start_me_again(words: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-c", STOPPED_BY_JAX, *words], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (cli.PREEMPTED, b"")


def test_without_a_request_nothing_is_raised():
    with host.StopRequest() as stop:
        with stop.deferred():
            pass
        assert not stop.requested


def test_among_several_a_stop_is_raised_at_once_in_what_a_process_does_alone_and_where_it_begins_to():
    done = []
    with host.StopRequest(lambda own: own) as stop:
        with pytest.raises(host.Stopped), host.alone():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(host.Stopped), host.alone():
            done.append("begun")
        with pytest.raises(host.Stopped), stop.deferred(), host.alone():
            done.append("deferred")
    with host.alone():
        done.append("without a request")
    assert done == ["deferred", "without a request"]


def test_among_several_a_request_counts_only_where_all_look():
    asked = []

    def agree(own: bool) -> bool:
        asked.append(own)
        return len(asked) == 2

    with host.StopRequest(agree) as stop, pytest.raises(host.Stopped), stop.deferred():
        signal.raise_signal(signal.SIGTERM)
        assert not stop.requested
    assert asked == [True, True]
    with host.StopRequest(lambda own: own):
        signal.raise_signal(signal.SIGTERM)
