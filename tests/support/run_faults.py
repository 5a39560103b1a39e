"""Faults of settings, files and folders of a small run, and the judge of how a program ends on each."""

import contextlib
import importlib
import io
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import benches
import numpy as np
from PIL import Image

from clinicclip import cli, train
from clinicclip.data import builder

PATIENCE = 60  # seconds that a program may take to tell a fault
ENDINGS = ("stopped", "went on", "silent", "unnamed", "traceback", "late")
CONFIG = "configs/n_g_dtcg.py:demo"
Plant = Callable[[Path, random.Random], None]


class Fault(NamedTuple):
    """One thing that is wrong, the call that meets it, and names of which one must be told."""

    place: str
    kind: str
    program: str
    argv: tuple[str, ...]  # "{root}" is the folder in which the fault is planted
    names: tuple[str, ...]
    plant: Plant = lambda root, chance: None
    goes_on: bool = False  # the program may name it and go on
    most: int = resource.RLIM_INFINITY  # bytes of a file: beyond, it is as if the disk were full


class Told(NamedTuple):
    """How a program ended on a fault, and what it said."""

    how: str
    words: str

    @property
    def handled(self) -> bool:
        """Whether the user knows what is wrong, or nothing is."""
        return self.how in ENDINGS[:2]


class Accepted(BaseException):
    """Training would have begun."""


class Late(BaseException):
    """Time is up."""


def make(root: Path, *, trained: bool = True) -> Path:
    """Prepared data, a run of them and its export where it shall be trained, and two radiographs, all whole."""
    options = {"level": "easy", "studies": 160, "size": 64}
    builder.write("phantom", root / "data", options=options, say=lambda line: None)
    if trained:
        with contextlib.redirect_stdout(io.StringIO()):
            code = cli.call(train.main, train.parser(), [word.format(root=root) for word in training(total_steps=4)])
        assert code == 0
        (root / "run" / "export").rename(root / "export")
    (root / "images").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    (root / "texts.txt").write_text("No pleural effusion.\n")
    return root


def judge(fault: Fault, whole: Path, folder: Path, chance: random.Random) -> Told:
    """Plants the fault in a copy of what is whole, and calls the program."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    fault.plant(folder, chance)
    module = importlib.import_module(f"clinicclip.{fault.program}")
    out, err = io.StringIO(), io.StringIO()
    begin, train.make_step = train.make_step, _accept
    usual = signal.signal(signal.SIGALRM, _late)
    signal.alarm(PATIENCE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (fault.most, before[1]))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.call(module.main, module.parser(), [word.format(root=folder) for word in fault.argv])
    except Accepted:
        code = 0
    except Late:
        return Told("late", f"not ended after {PATIENCE} s")
    except Exception:
        return Told("traceback", traceback.format_exc()[-600:])
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGALRM, usual)
        train.make_step = begin
    return _judged(fault, code, out.getvalue(), err.getvalue())


def _judged(fault: Fault, code: int, out: str, err: str) -> Told:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if code == 0 or (fault.goes_on and code == 1 and not lines):
        named = fault.goes_on and any(name in out + err for name in fault.names)
        return Told("went on" if named else "silent", out[-200:] + err[-200:])
    if code not in (1, 2) or len(lines) != 1 or "Traceback" in err:
        return Told("traceback", f"code {code}: {err[-600:]}")
    return Told("stopped" if any(name in err for name in fault.names) else "unnamed", err)


def _accept(*parts: Any) -> None:
    raise Accepted


def _late(number: int, frame: Any) -> None:
    raise Late


def training(*more: str, where: str = "run", **changed: Any) -> tuple[str, ...]:
    """A line of `train` on the data in the root."""
    settings = benches.load("faults").SETTINGS | {"evaluate_every": 0} | changed
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    return (f"--config={CONFIG}", "--data_dir={root}/data", f"--workdir={{root}}/{where}", *flags, *more)
