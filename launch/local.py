#!/usr/bin/env python3
"""Starts a command in several processes on this machine, as one run; again whenever it can go on.

    python launch/local.py --processes=2 -- python -m clinicclip.train --config=configs/n_g_dtcg.py:demo
    python launch/local.py --processes=2 --dry_run -- python -m clinicclip.doctor host

Each process gets the environment of this one, with JAX_COORDINATOR_ADDRESS (a free port, open to this machine only),
JAX_NUM_PROCESSES and JAX_PROCESS_ID. On CPUs, XLA_FLAGS=--xla_force_host_platform_device_count=K gives each K devices;
a single process sees all GPUs of a machine already.

Exit code 75 means "stopped as asked and saved, start me again", 76 "another process of the run was lost", and all are
started again at once, unless the launcher itself was asked to stop: SIGTERM, SIGHUP and Ctrl-C reach all as SIGTERM (a
second one kills), and it ends with 75 as they do. Where one process ends, the others have --grace seconds to end too,
then they are killed. Any other code but 0 is a failure: the launcher names who ended how and exits with the first such
code, 128 + N for signal N; but SIGKILL is none where others end with 76. The same command goes on from what was saved.

Data and run folder: tested on a local file system only. --data_dir=gs://... or s3://... is copied to the user's cache
(tested with one process and stand-ins for the stores, bench/stores.py); run folders there are refused.
Secrets go into the environment, never into the command.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

AGAIN, LOST = 75, 76
GRACE = 60.0  # seconds; a run that has lost a process takes half as long to say so and to end
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TICK = 0.05  # seconds between two looks at the processes


def main(words: Sequence[str] | None = None) -> int:
    """Reads the command line and sees the command through; returns its exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--processes", type=int, required=True, metavar="N", help="how many processes")
    flags.add_argument("--grace", type=float, default=GRACE, help=f"seconds for the others when one ends ({GRACE:.0f})")
    flags.add_argument("--max_restarts", type=int, default=100, help="times that all are started again (100)")
    flags.add_argument("--dry_run", action="store_true", help="print the commands and run none")
    flags.add_argument("command", nargs=argparse.REMAINDER, help="behind --: what to run in each")
    args = flags.parse_args(words)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command or args.processes < 1:
        flags.error("expected --processes of 1 or more, and a command behind --")
    if args.dry_run:
        print("\n".join(described(command, args.processes)))
        return 0
    return see_through(command, args.processes, grace=args.grace, max_restarts=args.max_restarts)


def described(command: Sequence[str], processes: int) -> list[str]:
    """The lines that a shell would need to start each process."""
    port = free_port()
    placed = [[f"{k}={v}" for k, v in place(port, processes, index).items()] for index in range(processes)]
    return [" ".join([*own, shlex.join(command)]) for own in placed]


def see_through(command: Sequence[str], processes: int, *, grace: float = GRACE, max_restarts: int = 100) -> int:
    """Runs the command in so many processes, again whenever it ends with 75 or 76; returns the exit code."""
    with heard_signals() as heard:
        for attempt in range(1, max_restarts + 2):
            started = start(command, processes)
            code = overall(await_all(started, grace, heard=heard))
            how = {0: "", AGAIN: "stopped and saved", LOST: "lost a process"}.get(code, "failed")
            if code not in (0, AGAIN):
                how += (
                    f"; processes ended with {', '.join(f'{i}: {each.returncode}' for i, each in enumerate(started))}"
                )
            if how:
                print(f"launch: start {attempt} {how}", file=sys.stderr, flush=True)
            if code not in (AGAIN, LOST) or heard:
                break
    return code


def start(
    command: Sequence[str],
    processes: int,
    *,
    environment: Mapping[str, str] = os.environ,
    placed: Callable[[int, int, int], dict[str, str]] | None = None,
    outputs: Path | None = None,
) -> list[subprocess.Popen]:
    """Starts the processes, which a Ctrl-C at the terminal does not reach: `await_all` passes it on.

    Args:
        placed: what tells a process its place, of port, count and index; `place` by default.
        outputs: folder for INDEX.out and INDEX.err; by default they go where those of this process go.
    """
    port, started = free_port(), []
    for index in range(processes):
        variables = {**environment, **(placed or place)(port, processes, index)}
        files = [(outputs / f"{index}.{kind}").open("w") if outputs else None for kind in ("out", "err")]
        started.append(
            subprocess.Popen(command, env=variables, stdout=files[0], stderr=files[1], start_new_session=True)
        )
        for file in filter(None, files):
            file.close()
    return started


def place(port: int, processes: int, index: int) -> dict[str, str]:
    """What makes a process one of several; nothing for one alone."""
    address = f"127.0.0.1:{port}"
    return (
        {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_COORDINATOR_BIND_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(index),
        }
        if processes > 1
        else {}
    )


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def await_all(
    started: Sequence[subprocess.Popen], grace: float, timeout: float = float("inf"), heard: Sequence[int] = ()
) -> list[int]:
    """The codes of all in the order in which they ended; negative is the signal that killed it.

    Those that have not ended ``grace`` seconds after another, or ``timeout`` seconds from now, are killed. The first of
    the signals that are ``heard`` goes to all as SIGTERM, the second kills them.
    """
    end, ended, told = time.monotonic() + timeout, list[int](), False
    left = list(started)
    try:
        while left and time.monotonic() < end and len(heard) < 2:
            if heard and not told:
                _terminate(left)
                told = True
            over = [process for process in left if process.poll() is not None]
            if over and not ended:
                end = min(end, time.monotonic() + grace)
            ended += [process.returncode for process in over]
            left = [process for process in left if process not in over]
            time.sleep(TICK if left else 0)
    finally:
        for process in left:
            process.kill()
        ended += [process.wait() for process in left]
    return ended


def _terminate(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()


def overall(codes: Sequence[int]) -> int:
    """One exit code for those of all, in the order in which they ended: the first failure, else 76, 75 or 0."""
    lost = (LOST, -signal.SIGKILL) if LOST in codes else ()
    failed = [code for code in codes if code not in (0, AGAIN, *lost)]
    if failed:
        return failed[0] if failed[0] > 0 else 128 - failed[0]
    return next((code for code in (LOST, AGAIN) if code in codes), 0)


@contextmanager
def heard_signals() -> Iterator[list[int]]:
    """The signals to stop that come while this lasts, in a list that grows; none ends this process."""
    heard: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: heard.append(number)) for number in STOPS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
