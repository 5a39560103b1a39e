"""What jaxlib tells of a process that is gone becomes one line that names it."""

import os

import pytest

from clinicclip.errors import LOST, UserError
from clinicclip.training import lost

BEFORE = "E1201 14:43:23 857 coordination_service_agent.cc:289] Polled an error from coordination service.\n"
HEAD = "F1201 14:43:23 857 client.h:80] Terminating process because the JAX distributed service detected fatal errors. "
BARRIER = (
    "INTERNAL: Shutdown barrier has failed.\n# of tasks that reached the barrier: 1/3.\nThe first task at the barrier: "
)
TOLD = {
    "UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1\nThe tasks have crashed.\n": [1],
    "(stopped sending heartbeats):\n/job:jax_worker/replica:0/task:3\n/job:jax_worker/replica:0/task:12\nThe ": [3, 12],
    "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted\n": [0],
    'RPC:\n:UNKNOWN:Error received from peer  {grpc_status:14, grpc_message:"Socket closed"}\n': [0],
    "DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.coordination.CoordinationService/Heartbeat\n*** Check": [0],
    f"{BARRIER}2. Some timed out task names:\n0\n1\n": [2],
    f"{BARRIER}/job:jax_worker/replica:0/task:2. Some timed out task names:\n0\n": [2],
    "INTERNAL: something new\n": [],
}


@pytest.mark.parametrize("told", TOLD)
def test_who_is_gone_is_read_off_what_jaxlib_tells(told: str) -> None:
    assert lost.lost(HEAD + told) == TOLD[told]


def test_a_line_names_processes_with_their_machines_or_what_was_told() -> None:
    hosts = [f"m{index}" for index in range(4)]
    assert lost.line("", [1, 3], hosts).startswith(
        "process 1 of 4 (m1) and process 3 of 4 (m3) went away: see in its log"
    )
    stack = f"{lost.STACK}: ***\n    @ 0x7f2abf8\n"
    assert lost.line(f"INTERNAL: something\n new\n{stack}", [], hosts).startswith(
        "the run fell apart (INTERNAL: something new)"
    )


@pytest.mark.parametrize(("fault", "waits"), [(RuntimeError("gloo: closed"), True), (UserError("connection"), False)])
def test_what_a_lost_process_may_have_raised_waits_to_be_named_and_a_users_fault_does_not(
    fault: Exception, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    left: list[bool] = []
    monkeypatch.setattr(lost, "_leave", lambda: left.append(True))
    monkeypatch.setattr(lost.atexit, "register", lambda join: join())
    monkeypatch.setattr(lost.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(lost.time, "sleep", waited.append)
    with pytest.raises(type(fault)), lost.bound(25):
        raise fault
    assert waited == ([25 + lost.MARGIN] if waits else [])
    assert left == [True]


def test_who_writes_more_than_the_pipe_holds_does_not_wait() -> None:
    source, sink = lost.pipe()
    assert 2**16 <= os.write(sink, bytes(2 * lost.ROOM)) <= lost.ROOM
    with pytest.raises(BlockingIOError):
        os.write(sink, b"more")
    os.close(source)
    os.close(sink)


class Ended(Exception):
    """Where the process would have ended."""


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (f"a warning\n{BEFORE}{HEAD}{next(iter(TOLD))}*** stack\n", "a warning\nerror: process 1 of 3 (b) went away"),
        (f"{HEAD}{BARRIER}0. Some timed out\n", ""),  # that is this process, which has told why
        (f"{BEFORE}another warning\n", f"{BEFORE}another warning\n"),
        ("F1201 14:43:23 857 another.cc:3] Check failed\n", "F1201 14:43:23 857 another.cc:3] Check failed\n"),
    ],
)
def test_the_words_of_jaxlib_give_way_to_ours_and_others_pass(
    words: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(code: int) -> None:
        raise Ended(code)

    source, sink = os.pipe()
    screen, shown = os.pipe()
    monkeypatch.setattr(lost, "_screen", shown)
    monkeypatch.setattr(lost, "PAUSE", 0.05)
    monkeypatch.setattr(os, "_exit", ended)
    os.write(sink, words.encode())
    os.close(sink)
    if "went away" in seen or not seen:
        with pytest.raises(Ended, match=str(LOST if seen else 1)):
            lost._pass_on(source, ["a", "b", "c"])
    else:
        lost._pass_on(source, ["a", "b", "c"])
    os.close(shown)
    with os.fdopen(screen) as told:
        assert told.read().partition(": see")[0] == seen
