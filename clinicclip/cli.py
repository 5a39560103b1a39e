"""The one wrapper all programs go through: how arguments are read and how a program ends.

Exit codes: 0 the work is complete; 1 a fault of data, files or settings, told in one line; 2 a command line that
cannot be understood; 75 stopped early on request, everything saved, and 76 another process of the run went away: start
the same command again.
"""

import argparse
import errno
import json
import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from clinicclip.errors import PREEMPTED, UsageError, UserError, nearest
from clinicclip.models.sizes import POOLINGS

CONFIG_OVERRIDE = "--config."
STORE = re.compile(r"(?:^|[=:,])((?!https?:)\w+://)")  # in an argument: a place that is no folder
LOOP_CLOSED = "Event loop is closed"
STORAGE_FAULTS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EIO,
    errno.ESTALE,
)


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations, whose faults are one line with the nearest known name.

    ``program`` is the name of a module of this package, or a script. With ``overrides=True`` the flags
    ``--config.KEY=VALUE`` are collected, in order, as ``args.overrides``. Places in object stores are refused but for
    the flags of ``stores``.
    """

    def __init__(
        self, *, program: str, description: str, example: str, overrides: bool = False, stores: Collection[str] = ()
    ) -> None:
        super().__init__(
            prog=f"python {program}" if program.endswith(".py") else f"python -m clinicclip.{program}",
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._collects_overrides = overrides
        self._stores = stores

    def read(self, argv: list[str]) -> argparse.Namespace:
        """The parsed arguments. Raises UsageError for anything unknown."""
        overrides = [a for a in argv if a.startswith(CONFIG_OVERRIDE)] if self._collects_overrides else []
        for word in argv:  # before what is missing is told: a misspelt flag is the likely reason
            if (
                word.startswith("--")
                and word not in overrides
                and word.split("=")[0] not in self._option_string_actions
            ):
                self.error(self._complaint(word))
            if word.split("=")[0] not in self._stores:
                _refuse_store(word)
        args, unknown = self.parse_known_args([a for a in argv if a not in overrides])
        if unknown:
            self.error(self._complaint(unknown[0]))
        if self._collects_overrides:
            args.overrides = [_key_value(a) for a in overrides]
        return args

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _complaint(self, word: str) -> str:
        if not word.startswith("-"):
            return f"unexpected argument {word!r}: flags are written --name=value"
        flag = word.split("=")[0]
        return f"unknown flag {flag}{nearest(flag, self._option_string_actions)}"


def _refuse_store(word: str) -> None:
    """Raises UsageError for a place that would be taken for a folder called ``gs:``."""
    if found := STORE.search(word):
        raise UsageError(
            f"{word}: {found[1]} is read for the prepared data of train alone; name a folder here, or, for several "
            "machines, of a file system that all see"
        )


def _key_value(flag: str) -> tuple[str, str]:
    key, equals, value = flag.removeprefix(CONFIG_OVERRIDE).partition("=")
    if not equals or not key:
        raise UsageError(f"{flag}: an override is written --config.KEY=VALUE")
    return key, value


def add_model_flags(flags: argparse.ArgumentParser, note: str = "", required: bool = True) -> None:
    """The flags of a program that uses a model."""
    places = f"WORKDIR, WORKDIR@STEP, an exported folder, or weights of others{note}"
    flags.add_argument("--checkpoint", required=required, help=places)
    flags.add_argument(
        "--pooling", choices=POOLINGS, default="", help="of texts; default: as in training, else by the pooler"
    )
    flags.add_argument(
        "--force", action="store_true", help="load weights although they are given other than they were trained with"
    )


def count(text: str, least: int = 0, most: int | float = math.inf) -> int:
    """The argparse type of a whole number from ``least`` to ``most``."""
    if not text.isdecimal() or not least <= int(text) <= most:
        bound = f"{least} or more" if most == math.inf else f"{least} to {most}"
        raise argparse.ArgumentTypeError(f"expected a whole number, {bound}, not {text!r}")
    return int(text)


def one_of(known: Collection[str]) -> Callable[[str], str]:
    """The argparse type of a name among the known ones."""

    def name(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(sorted(known))}{nearest(text, known)}")
        return text

    return name


def stoppable() -> None:
    """From now on a SIGTERM ends this process with 75, unless a `host.StopRequest` is there to hear it.

    For a program whose command, where it ends at any moment, goes on when it is given again.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(PREEMPTED))


def measured(name: str, value: float, unit: str, goal: float, detail: Mapping[str, object], *, met: bool) -> int:
    """Prints what a program of bench/ measured as its last line, of JSON; the exit code, 1 where a goal was missed."""
    print(json.dumps({"name": name, "value": value, "unit": unit, "goal": goal, "detail": detail}))
    return 0 if met else 1


def run(main: Callable[[argparse.Namespace], int | None], parser: Parser) -> NoReturn:
    """Runs a program's ``main`` on the command line and exits with the code its ending stands for."""
    sys.exit(call(main, parser, sys.argv[1:]))


def call(main: Callable[[argparse.Namespace], int | None], parser: Parser, argv: list[str]) -> int:
    """Runs a program's ``main`` on ``argv`` and returns its exit code; faults of the user's print one line."""
    # Libraries log through absl, with tracebacks, what they also raise; a fault is told once, below.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    threading.excepthook = _tell_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_callback
    try:
        code = main(parser.read(argv)) or 0
        sys.stdout.flush()  # here, where a full disk behind it is told as one
        return code
    except UsageError as fault:
        return _fail(fault, 2)
    except UserError as fault:
        return _fail(fault, 1, fault.table)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away; there is nobody left to tell
        _drop_output()
        return 1
    except OSError as fault:
        if fault.errno not in STORAGE_FAULTS:
            raise
        if not fault.filename:
            _drop_output()
        where = f" at {fault.filename}" if fault.filename else ""
        return _fail(f"storage: {fault.strerror}{where}; free space or choose another folder, then run again", 1)


def _drop_output() -> None:
    """What standard output still holds is written nowhere, since it would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_thread(args: threading.ExceptHookArgs) -> None:
    """A disk that a thread cannot write to, such as TensorBoard's, is a line; the program goes on or tells it, too."""
    fault = args.exc_value
    if isinstance(fault, OSError) and fault.errno in STORAGE_FAULTS:
        where = f" at {fault.filename}" if fault.filename else ""
        print(f"storage: {fault.strerror}{where} ({args.thread and type(args.thread).__name__})", file=sys.stderr)
    else:
        threading.__excepthook__(args)


def _tell_callback(args: Any) -> None:
    """Where a save failed, its other writes end later, and tensorstore tells of each that asyncio's loop is closed."""
    if not (isinstance(args.exc_value, RuntimeError) and str(args.exc_value) == LOOP_CLOSED):
        sys.__unraisablehook__(args)


def _fail(message: object, code: int, table: Sequence[str] = ()) -> int:
    told = [f"error: {' '.join(str(message).split())}", *(f"  {line}" for line in table)]
    print("\n".join(told), file=sys.stderr, flush=True)
    return code
