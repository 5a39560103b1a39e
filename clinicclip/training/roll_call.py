"""The roll call: before processes join, each calls in at process 0 over TCP and hears what all of them had to say.

Where a process is missing, jax aborts the others after its own timeout and does not tell which one it was.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from clinicclip.errors import UserError

BIND = "JAX_COORDINATOR_BIND_ADDRESS"  # jax's name for where process 0 listens; without it, at all addresses
CALL = {"process", "of", "note", "time"}  # what a caller says
LONGEST = 2**20  # bytes of a message
MANNERS = 1.0  # seconds in which a caller must have said who it is
PAUSE = 0.2  # seconds between two tries to reach process 0
MARGIN = 5.0  # seconds that process 0 may need to answer when time is up

Note = dict[str, Any]


def roll_call(address: str, *, count: int, index: int, note: Note, patience: float) -> list[Note]:
    """The notes of all processes in their order, once all have called.

    Each has "clock" added: by how many seconds its clock is ahead of that of process 0. Notes travel as JSON. The port
    is free again afterwards.

    Args:
        address: HOST:PORT of process 0.
        patience: seconds to wait for the others.

    Raises:
        UserError: some did not come in time, naming them; two have one number, or another count; the port is taken.
    """
    call = {"process": index, "of": count, "note": note}
    answer = (_answer_all if index == 0 else _ask)(address, call, patience)
    if "fault" in answer:
        raise UserError(answer["fault"])
    return answer["notes"]


def spans(numbers: Sequence[int]) -> str:
    """Ascending whole numbers in few characters: ``0-5, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _answer_all(address: str, own: Note, patience: float) -> Note:
    """What process 0 does: hears all, and tells all the same."""
    notes = {0: own["note"] | {"clock": 0.0}}
    callers: list[socket.socket] = []
    end, fault = time.monotonic() + patience, ""
    with _listen(address) as door:
        while len(notes) < own["of"] and not fault:
            door.settimeout(max(end - time.monotonic(), 1e-3))
            try:
                caller, _ = door.accept()
            except TimeoutError:
                fault = _absent(notes, own["of"], patience)
                break
            call = _heard(caller, MANNERS)
            if not call or call.keys() != CALL:
                caller.close()  # nobody of ours
                continue
            callers.append(caller)
            fault = _odd(call, notes, own["of"])
            notes[call["process"]] = call["note"] | {"clock": call["time"] - time.time()}
    answer: Note = {"fault": fault} if fault else {"notes": [notes[index] for index in sorted(notes)]}
    for caller in callers:
        with caller:
            _say(caller, answer)
    return answer


def _ask(address: str, call: Note, patience: float) -> Note:
    """What the others do: call until process 0 answers."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left) as line:
                _say(line, call | {"time": time.time()})
                answer = _heard(line, left + MARGIN)
        except OSError:  # not there yet, or no such name yet
            answer = None
        if answer and ("notes" in answer or "fault" in answer):
            return answer
        time.sleep(PAUSE)
    return {
        "fault": f"process 0 did not answer process {call['process']} of {call['of']} at {address} within "
        f"{patience:.0f} s: see why it did not start, or whether this machine reaches that port; then start all again"
    }


def _listen(address: str) -> socket.socket:
    host, _, port = os.environ.get(BIND, f":{address.rpartition(':')[2]}").rpartition(":")
    host = host.strip("[]")
    everywhere = host in ("", "::") and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, dualstack_ipv6=everywhere)
    except OSError as fault:
        raise UserError(f"process 0 cannot listen at {host}:{port} ({fault.strerror}): choose another port") from None


def _absent(notes: dict[int, Note], count: int, patience: float) -> str:
    absent = [index for index in range(count) if index not in notes]
    noun = "process" if len(absent) == 1 else "processes"
    return (
        f"{noun} {spans(absent)} of {count} did not come within {patience:.0f} s: "
        "see in the log of its machine why it did not start, then start all again"
    )


def _odd(call: Note, notes: dict[int, Note], count: int) -> str:
    index = call["process"]
    if call["of"] != count:
        return f"process {index} is started as one of {call['of']}, process 0 as one of {count}: give all one count"
    return f"two processes are started as number {index}: give each its own" if index in notes else ""


def _say(line: socket.socket, message: Note) -> None:
    """Sends it; whoever went away meanwhile hears nothing."""
    try:
        line.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return


def _heard(line: socket.socket, patience: float) -> Note | None:
    """The message that comes within so many seconds; None where it is none."""
    line.settimeout(patience)
    try:
        message = json.loads(line.makefile("rb").readline(LONGEST))
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
