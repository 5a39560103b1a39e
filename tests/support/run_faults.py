"""Faults of settings, files, folders, disks and machines of a small run, and the judge of how programs end on each."""

import importlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import benches
import forked
import local
import numpy as np
from PIL import Image

from clinicclip import cli, train
from clinicclip.__main__ import PROGRAMS
from clinicclip.data import builder
from clinicclip.errors import LOST

PATIENCE = 60.0  # seconds that a program may take to tell a fault
ENDINGS = ("stopped", "went on", "silent", "unnamed", "traceback", "late")
WORLD = {"level": "easy", "studies": 160, "size": 64}  # of the prepared data
STRUCK = "FAULT_STRUCK"  # environment: the file that a patched process makes when it does what is wrong
CONFIG = "configs/n_g_dtcg.py:demo"
INNER = re.compile(r"^Traceback|^[EF]\d{4} |^terminate called", re.MULTILINE)  # what only programmers can read
Plant = Callable[[Path, random.Random], None]
Strike = Callable[[Path, Sequence[int]], bool]  # of the root and the processes: whether it has been done


class Host(NamedTuple):
    """What one of several processes has of its own."""

    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    patch: Callable[[], None] = lambda: None  # as if its machine were another
    falls: bool = False  # its end is the fault, and it tells nothing


class Fault(NamedTuple):
    """One thing that is wrong, the call that meets it, and names of which one must be told."""

    place: str
    kind: str
    program: str
    argv: tuple[str, ...]  # "{root}" is the folder in which the fault is planted
    names: tuple[str, ...]  # in full, as words of their own; one is enough
    plant: Plant = lambda root, chance: None
    goes_on: bool = False  # the program may name it and go on
    trains: bool = False  # for real: else a run that would begin to train has not told the fault
    hosts: tuple[Host | None, ...] = (Host(),)  # the processes; None: one that does not come
    strike: Strike = lambda root, processes: True  # tried until it has been done
    disk: str = ""  # options of a small disk at "{root}/disk"


class Told(NamedTuple):
    """How a program ended on a fault, what it said, and the seconds since it was started or struck."""

    how: str
    words: str
    seconds: float = 0.0

    @property
    def handled(self) -> bool:
        """Whether the user knows what is wrong, or nothing is."""
        return self.how in ENDINGS[:2]


class Accepted(BaseException):
    """Training would have begun."""


def needs_run(fault: Fault) -> bool:
    """Whether it is a matter of a run or an export that must be there."""
    return fault.place in ("run", "export") or any("{root}/run" in w or "/export" in w for w in fault.argv)


def load() -> None:
    """Imports all programs: what is forked need not."""
    for name in PROGRAMS:
        importlib.import_module(f"clinicclip.{name}")


def make(root: Path, *, trained: bool = True) -> Path:
    """Prepared data, a run of them and its export where it shall be trained, and two radiographs, all whole."""
    works: list[Callable[[], int]] = [partial(_prepare, root)]  # which leaves threads behind: nothing forks after that
    if trained:
        works.append(partial(_call, Fault("", "", "train", training(total_steps=4), (), trains=True), root, Host(), {}))
    for work in works:
        (ended,), _ = forked.run([work], root.with_name("made"), 10 * PATIENCE)
        assert ended.code == 0, ended
    if trained:
        (root / "run" / "export").rename(root / "export")
    (root / "images").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    (root / "texts.txt").write_text("No pleural effusion.\n")
    return root


def _prepare(root: Path) -> int:
    builder.write("phantom", root / "data", options=WORLD, say=lambda line: None)
    return 0


def judge(fault: Fault, whole: Path, folder: Path, chance: random.Random) -> Told:
    """Plants the fault in a copy of what is whole, and calls the program."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    fault = fault._replace(names=tuple(name.replace("{root}", str(folder)) for name in fault.names))
    fault.plant(folder, chance)
    here = [host for host in fault.hosts if host is not None]
    with _disk(folder / "disk", fault.disk):
        said = folder.with_name("said")
        fallen = [host.falls for host in here]
        ends, seconds = forked.run(_works(fault, folder), said, PATIENCE, partial(fault.strike, folder), fallen)
    verdicts = [judged(fault, end) for end, host in zip(ends, here, strict=True) if not host.falls]
    return max(verdicts, key=lambda told: ENDINGS.index(told.how))._replace(seconds=seconds)


def judged(fault: Fault, end: forked.Ended) -> Told:
    """What a process made of the fault, by its exit code and by what it said."""
    code, out, err = end
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if code is None:
        return Told("late", f"not ended after {PATIENCE:.0f} s: {err[-600:]}")
    if code not in (0, 1, 2, LOST) or len(lines) > 1 or INNER.search(err):
        return Told("traceback", f"code {code}: {err[-600:]}")
    named = any(_names(name, out + err) for name in fault.names)
    if code == 0 or not lines:
        return Told("went on" if named and fault.goes_on else "silent", out[-200:] + err[-200:])
    return Told("stopped" if named else "unnamed", err)


def _names(name: str, words: str) -> bool:
    """Whether the words hold the name, and not as a part of another."""
    return bool(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words))


def _works(fault: Fault, root: Path) -> list[Callable[[], int] | None]:
    """What each of its processes does."""
    port = local.free_port()
    places = [local.place(port, len(fault.hosts), index) for index in range(len(fault.hosts))]
    return [host and partial(_call, fault, root, host, place) for host, place in zip(fault.hosts, places, strict=True)]


def _call(fault: Fault, root: Path, host: Host, place: Mapping[str, str]) -> int:
    """Calls the program, in a process of its own."""
    os.environ.update({**place, **host.variables, STRUCK: str(root / "struck")})
    host.patch()
    if not fault.trains:
        train.make_step = _accept
    module = importlib.import_module(f"clinicclip.{fault.program}")
    words = [word.replace("{root}", str(root)) for word in (*fault.argv, *host.words)]
    try:
        return cli.call(module.main, module.parser(), words)
    except Accepted:
        return 0


def _accept(*parts: Any) -> NoReturn:
    raise Accepted


@contextmanager
def _disk(place: Path, options: str) -> Iterator[None]:
    """A disk of its own in memory while a ``with`` lasts, where options are given."""
    if not options:
        yield
        return
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def training(*more: str, where: str = "run", **changed: Any) -> tuple[str, ...]:
    """A line of `train` on the data in the root."""
    settings = benches.load("faults").SETTINGS | {"evaluate_every": 0} | changed
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    return (f"--config={CONFIG}", "--data_dir={root}/data", f"--workdir={{root}}/{where}", *flags, *more)
