"""Several processes as one run: how they join, what they tell each other, who goes first, how they share work.

Every function must be called by all processes, in the same order. With a single process all of it costs nothing.
"""

import functools
import itertools
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from clinicclip import host
from clinicclip.errors import UserError
from clinicclip.training import lost
from clinicclip.training.roll_call import Note, roll_call

T = TypeVar("T")
ADDRESS, COUNT, INDEX = VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
LAUNCHED = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # how many processes srun or mpirun started
NOTE = 4096  # bytes that a process tells the others at a time
PIECE = 2000  # characters of a longer note; a note has room for so many, half of them in need of a backslash
LONGEST_FAULT = 300  # characters; a note has room for so many, whatever they are
PATIENCE = 15  # seconds that a process which ends waits for the others, before all are ended
JOIN_SECONDS = "CLINICCLIP_JOIN_SECONDS"  # how long all may take to come together
JOIN_WAIT = 300  # without it
MARGIN = 30  # seconds behind which jax gives up too
_turns = itertools.count()


def join(
    note: Note | None = None, agree: Callable[[list[Note]], None] = lambda notes: None, heartbeat: int = lost.HEARTBEAT
) -> None:
    """Makes this process one of several that train together, where the environment says so; else does nothing.

    It says so by JAX_COORDINATOR_ADDRESS (HOST:PORT, a free port of process 0's machine), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID (from 0), the same command being started in each. Under srun, Open MPI or on a TPU slice of
    Kubernetes with several hosts, none of the three is needed: jax reads what the launcher set, and gives each process
    that srun or Open MPI starts one GPU. It must be called before anything asks jax for a device.

    All must come within CLINICCLIP_JOIN_SECONDS (300). From then on each ends with code 76 and a line that names
    another which is gone, or ends alone, within about ``heartbeat`` seconds.

    Args:
        note: what this process has to say; travels as JSON, with its machine's name as "host".
        agree: is called with the notes of all, in their order, and raises what keeps them from going on. Each note has
            "clock" added, seconds at one moment.

    Raises:
        UserError: only some of the variables are set, one cannot be what it is, or a process did not come, which is
            named where the three are set.
        Exception: whatever ``agree`` raised.
    """
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not given and not _launched():
        return agree([(note or {}) | {"clock": 0.0}])
    wait = _join_wait()
    note = {"host": platform.node(), **(note or {})}
    place = _place(given)
    notes: list[Note] = []
    if place:
        count, index = place["num_processes"], place["process_id"]
        notes += roll_call(given[ADDRESS], count=count, index=index, note=note, patience=wait)
        agree(notes)
    hosts = [other["host"] for other in notes]
    lost.listen(hosts)
    _initialize(place, wait, heartbeat)
    if not place:
        everywhere(lambda: None)  # so that all look at their clocks at one moment
        clocks = everywhere(time.time)
        notes += [other | {"clock": clock} for other, clock in zip(_in_pieces(note), clocks, strict=True)]
        hosts += [other["host"] for other in notes]
        agree(notes)


def _initialize(place: dict[str, Any], wait: int, heartbeat: int) -> None:
    # Its SIGTERM handler would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    # Where somebody is missing, jax would abort this process with its inner state for a message.
    impatience = threading.Timer(wait, _give_up, [wait])
    impatience.daemon = True
    impatience.start()
    try:
        jax.distributed.initialize(
            **place,
            initialization_timeout=wait + MARGIN,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=PATIENCE,
        )
    except ValueError as fault:
        raise UserError(
            f"several processes were started, but jax cannot join them ({fault}): set {', '.join(VARIABLES)}"
        ) from None
    finally:
        impatience.cancel()


def _give_up(wait: int) -> NoReturn:
    """Ends the process from a thread, as the main one is held up by jax."""
    print(f"error: not all processes came within {wait} s: see which did not start", file=sys.stderr, flush=True)
    os._exit(1)


def _join_wait() -> int:
    text = os.environ.get(JOIN_SECONDS, str(JOIN_WAIT))
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{JOIN_SECONDS}={text}: expected a whole number of seconds")
    return int(text)


def _place(given: dict[str, str]) -> dict[str, Any]:
    """The arguments of jax's ``initialize``; none where it shall find them by itself."""
    if not given:
        return {}
    if len(given) < len(VARIABLES):
        missing = ", ".join(name for name in VARIABLES if name not in given)
        raise UserError(f"{' and '.join(given)} set without {missing}: set all three to train in several processes")
    if not (given[COUNT].isdecimal() and given[INDEX].isdecimal() and int(given[INDEX]) < int(given[COUNT])):
        raise UserError(f"{COUNT}={given[COUNT]}, {INDEX}={given[INDEX]}: expected whole numbers, the second smaller")
    if not given[ADDRESS].rpartition(":")[2].isdecimal():
        raise UserError(f"{ADDRESS}={given[ADDRESS]}: expected HOST:PORT")
    return {
        "coordinator_address": given[ADDRESS],
        "num_processes": int(given[COUNT]),
        "process_id": int(given[INDEX]),
        "cluster_detection_method": "deactivate",
    }


def _launched() -> bool:
    counts = [os.environ.get(name, "") for name in LAUNCHED]
    return any(c.isdecimal() and int(c) > 1 for c in counts) or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def first() -> bool:
    """Whether this is process 0, which alone writes files and speaks."""
    return jax.process_index() == 0


def everywhere(work: Callable[[], T]) -> list[T]:
    """What ``work`` returns in each process, in their order; a fault in one is raised in all, so that none waits on.

    So is a stop, at once, unless it is deferred. Values travel as JSON and are small. ``work`` must not itself wait for
    other processes.

    Raises:
        UserError: ``work`` failed in another process; the line is that of the first such process.
        Exception: whatever ``work`` raised here.
    """
    if jax.process_count() == 1:
        return [work()]
    here: BaseException | None = None
    try:
        with host.alone():
            note: dict[str, Any] = {"value": work()}
    except host.Stopped as stop:
        here, note = stop, {"stopped": True}
    except Exception as fault:
        here = fault
        line = str(fault) if isinstance(fault, UserError) else f"process {jax.process_index()}: {type(fault).__name__}"
        note = {"fault": line[:LONGEST_FAULT]}
    notes = _exchange(note)
    if here is not None:
        raise here
    for other in notes:
        if "fault" in other:
            raise UserError(other["fault"])
    if any("stopped" in other for other in notes):
        raise host.Stopped
    return [other["value"] for other in notes]


def _exchange(note: dict[str, Any]) -> list[dict[str, Any]]:
    turn = next(_turns)
    packed = json.dumps({**note, "turn": turn}).encode()
    if len(packed) > NOTE:
        raise ValueError(f"a note of {len(packed)} bytes exceeds {NOTE}")
    gathered = multihost_utils.process_allgather(np.frombuffer(packed.ljust(NOTE), np.uint8))
    notes = [json.loads(row.tobytes()) for row in gathered]
    if any(other["turn"] != turn for other in notes):
        raise RuntimeError(f"processes do not go the same way: {notes}")
    return notes


def _in_pieces(note: Note) -> list[Note]:
    """The notes of all, however long."""
    text = json.dumps(note)
    count = max(everywhere(lambda: -(-len(text) // PIECE)))
    cuts = [slice(at * PIECE, (at + 1) * PIECE) for at in range(count)]
    pieces = [everywhere(functools.partial(text.__getitem__, cut)) for cut in cuts]
    return [json.loads("".join(own)) for own in zip(*pieces, strict=True)]


def anywhere(own: bool) -> bool:
    """Whether ``own`` is true in any process."""
    return any(everywhere(lambda: own))


def on_first(work: Callable[[], T]) -> T | None:
    """What ``work`` returns in process 0, which does it while the others wait; None in those. As `everywhere`."""
    made: list[T] = []
    everywhere(lambda: made.append(work()) if first() else None)
    return made[0] if made else None


def in_turn(work: Callable[[], T]) -> T:
    """What ``work`` returns here, done by process 0 first, so that the others find what it wrote. As `everywhere`."""
    made: list[T] = []
    on_first(lambda: made.append(work()))
    return locally(lambda: made[0] if made else work())


def locally(work: Callable[[], T]) -> T:
    """What ``work`` returns here, whatever it is. As `everywhere`."""
    made: list[T] = []
    everywhere(lambda: made.append(work()))
    return made[0]


def shared(embed: Callable[[Any], T]) -> Callable[[Any], T]:
    """``embed``, whose arrays have a row an item, shared out: each process does an equal part, all get the whole.

    Where the rows do not divide, the last one is repeated to fill the parts up and dropped again.
    """

    def whole(items: np.ndarray | Sequence[str]) -> T:
        share = -(-len(items) // jax.process_count())
        rows = np.minimum(np.arange(share) + share * jax.process_index(), len(items) - 1)
        part = items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]
        gathered = multihost_utils.process_allgather(locally(lambda: embed(part)), tiled=True)
        return jax.tree.map(lambda array: array[: len(items)], gathered)

    return embed if jax.process_count() == 1 else whole
