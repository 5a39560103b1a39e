"""Faults of disks, and of machines that should work as one."""

import contextlib
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from run_faults import STRUCK, WORLD, Fault, Host, Strike, training

from clinicclip import preflight, train
from clinicclip.errors import UserError
from clinicclip.training import checkpoint, processes

RUN, EXPORT = "--checkpoint={root}/run", "--checkpoint={root}/export"
SETS = ("--data=phantom:{root}/data", "--suite=pair_strict", "--draws=2")
PHANTOM = [f"--config.data.phantom.{key}={value}" for key, value in WORLD.items()]
PLACES = {
    "a disk without room": ("size=4k", "{root}/disk"),
    "a disk that takes no more files": ("nr_inodes=1", "{root}/disk"),
    "a read-only disk": ("ro", "{root}/disk"),
    "a place that takes no folder": ("", "/proc"),
    "a place beneath a file": ("", "{root}/texts.txt"),
}
ROOM = "size=300m"  # as much as a run asks for before it starts
LONG = {"total_steps": 400, "checkpoint_every": 3}  # for a fault to come in its midst
SHORT = {"total_steps": 8, "checkpoint_every": 1}
MOMENTS = {  # what is then in the folder of a run
    "while it is set up": "tokenizer",
    "before its first step": "config.json",
    "while it saves": "checkpoints/*tmp*",
    "while it reports": "report",
}
HURRIED = {processes.JOIN_SECONDS: "3"}
TRAIN, DOCTOR = training(where="new"), ("host", "{root}")
TOGETHER = training(where="new", heartbeat_timeout=5, **LONG)


def of_storage() -> Iterator[Fault]:
    """Disks that are full, and places where nothing can be written; then those that become so while a run trains."""
    for name, (options, place) in PLACES.items():
        for program, argv in {
            "train": training(f"--workdir={place}/o"),
            "evaluate": (RUN, *SETS, f"--output={place}/o"),
            "export": (RUN, f"--output={place}/o"),
            "embed": ("{root}/images", EXPORT, f"--output={place}/o"),
            "prepare": ("phantom", "--studies=40", f"--output={place}/o"),
            "doctor": ("data", "{root}/data", f"--output={place}/o"),
            "finetune": (EXPORT, "--data_dir={root}/data", "--shares=1", "--seeds=1", f"--output={place}/o"),
            "reproduce": ("--data=phantom:{root}/data", *PHANTOM, f"--output={place}/o"),
        }.items():
            if options.startswith("size") and program in ("finetune", "reproduce"):
                continue  # they train before they need more room
            yield Fault("storage", f"{program} to {name}", program, argv, (place,), disk=options)
    argv = training("--workdir={root}/disk/o", **LONG)
    for name, blow in (("fills", _fill), ("loses the run's folder", _vanish)):
        for records in (1, 5):
            strike = _after(records, "disk/o", blow)
            kind = f"the disk {name} after {records} records"
            yield Fault("storage", kind, "train", argv, ("{root}/disk/o",), trains=True, strike=strike, disk=ROOM)
    argv = training("--workdir={root}/disk/o", **SHORT)
    slow, names = (Host(patch=_slow),), ("{root}/disk/o/checkpoints is slow",)
    yield Fault("storage", "the disk is slow", "train", argv, names, goes_on=True, trains=True, hosts=slow, disk=ROOM)


def of_hosts() -> Iterator[Fault]:
    """Processes that do not come, are not alike, or go away."""
    yield from itertools.chain(_missing(), _unlike(), _dead())


def _missing() -> Iterator[Fault]:
    here = Host(variables=HURRIED)
    for (program, argv), (kind, hosts, name) in itertools.product(
        {"train": TRAIN, "doctor": DOCTOR}.items(),
        (
            ("the second is missing", (here, None), "process 1 of 2 did not come"),
            ("the first is missing", (None, here), "process 0 did not answer process 1 of 2"),
            ("two are missing", (here, None, here, None), "processes 1, 3 of 4 did not come"),
            ("two have one number", (here, here, _placed(JAX_PROCESS_ID="1")), "two processes are started as number 1"),
            ("one knows of more", (here, _placed(JAX_NUM_PROCESSES="3")), "process 1 is started as one of 3"),
            ("one has no number", (here, _placed(JAX_PROCESS_ID="x")), ""),
        ),
    ):
        names = (name,) if name else ("JAX_PROCESS_ID=x", "process 1 of 2 did not come")
        yield Fault("hosts", f"{kind}, {program}", program, argv, names, hosts=hosts)


def _unlike() -> Iterator[Fault]:
    for (program, argv), (kind, host, name) in itertools.product(
        {"train": TRAIN, "doctor": DOCTOR}.items(),
        (
            ("other code", Host(patch=_older), "  clinicclip"),
            ("another jax", Host(patch=_other_jax), "  jax"),
            ("a clock ahead", Host(patch=_ahead), "  clock"),
            ("more devices", Host(variables={"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}), "  devices"),
        ),
    ):
        yield Fault("hosts", f"{kind}, {program}", program, argv, (name,), hosts=(Host(), host))
    for kind, words, name in (
        ("other settings", ("--config.seed=9",), "  config seed"),
        ("other data", ("--data_dir={root}/other",), "  data"),
        ("no data", ("--data_dir={root}/none",), "  data"),
        ("a read-only folder", ("--workdir=/proc/o",), "  run folder"),
    ):
        hosts = (Host(), Host(words))
        yield Fault("hosts", f"{kind}, train", "train", TRAIN, (name,), lambda root, chance: _other(root), hosts=hosts)


def _dead() -> Iterator[Fault]:
    falls = Host(falls=True)
    for number, records, sent in itertools.product((0, 1), (1, 4), (signal.SIGKILL, signal.SIGSTOP)):
        hosts = tuple(falls if index == number else Host() for index in range(2))
        strike = _after(records, "new", lambda root, pids, number=number, sent=sent: os.kill(pids[number], sent))
        kind = f"process {number} gets {sent.name} after {records} records"
        yield Fault("hosts", kind, "train", TOGETHER, (f"process {number}",), trains=True, hosts=hosts, strike=strike)
    for number, (moment, pattern) in itertools.product((0, 1), MOMENTS.items()):
        hosts = tuple(falls if index == number else Host() for index in range(2))
        strike = _once(pattern, lambda root, pids, number=number: os.kill(pids[number], signal.SIGKILL))
        argv = training(where="new", heartbeat_timeout=5, **SHORT)
        kind = f"process {number} gets SIGKILL {moment}"
        yield Fault("hosts", kind, "train", argv, (f"process {number}",), trains=True, hosts=hosts, strike=strike)
    for number, patch in itertools.product((0, 1), (_fails, _breaks)):
        hosts = tuple(Host(patch=patch, falls=patch is _breaks) if index == number else Host() for index in range(2))
        names = (f"process {number}", "no more studies")
        kind = f"process {number} {patch.__name__.strip('_')} alone"
        yield Fault("hosts", kind, "train", TOGETHER, names, trains=True, hosts=hosts, strike=_struck)


def _placed(**variables: str) -> Host:
    return Host(variables={**HURRIED, **variables})


def _struck(root: Path, pids: Sequence[int]) -> bool:
    return (root / "struck").exists()


def _once(pattern: str, blow: Callable[[Path, Sequence[int]], None]) -> Strike:
    """Strikes once the folder of a run holds such a file."""

    def strike(root: Path, pids: Sequence[int]) -> bool:
        due = any((root / "new").glob(pattern))
        if due:
            blow(root, pids)
        return due

    return strike


def _after(records: int, workdir: str, blow: Strike) -> Strike:
    """Strikes once a run has written so many records."""

    def strike(root: Path, pids: Sequence[int]) -> bool:
        path = root / workdir / "metrics.jsonl"
        due = path.exists() and path.read_bytes().count(b"\n") >= records
        if due:
            blow(root, pids)
        return due

    return strike


def _fill(root: Path, pids: Sequence[int]) -> bool:
    with (root / "disk" / "filler").open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return True


def _vanish(root: Path, pids: Sequence[int]) -> bool:
    shutil.rmtree(root / "disk" / "o", ignore_errors=True)
    return True


def _other(root: Path) -> None:
    manifest = shutil.copytree(root / "data", root / "other") / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")


def _older() -> None:
    preflight.code_digest = lambda: "0" * 12


def _other_jax() -> None:
    version = preflight.metadata.version
    preflight.metadata.version = lambda name: "0.0.1" if name == "jax" else version(name)


def _ahead() -> None:
    now = time.time
    time.time = lambda: now() + 60


def _slow() -> None:
    """A disk that takes its time to read back what was just written, once."""
    sums, once = checkpoint._sums, iter([2 * checkpoint.SLOW])
    checkpoint._sums = lambda step: (time.sleep(next(once, 0.0)), sums(step))[1]


def _fails() -> None:
    """A fault that one process alone meets, and can tell."""
    _at_step(4, UserError("no more studies here"))  # while step 3 is being saved


def _breaks() -> None:
    """One that nobody foresaw."""
    _at_step(4, KeyError("study"))


def _at_step(count: int, fault: Exception) -> None:
    place, left = train.sharding.place, [count]

    def placed(*parts: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            Path(os.environ[STRUCK]).touch()
            raise fault
        return place(*parts)

    train.sharding.place = placed
