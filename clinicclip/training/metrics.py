"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard events, without TensorFlow."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from clinicclip import files
from clinicclip.errors import UserError
from clinicclip.training.segments import Segments

FAULT = "fault.json"  # in the run's folder, once a loss was not finite
RECORDS = "metrics.jsonl"


class MetricWriter:
    """Writes one JSON record a step: deterministic ``metrics`` and, apart from them, ``timing``.

    A run that resumes at ``start_step`` first drops the records of later steps, which it is about to make again. Raises
    UserError where nothing can be written, whatever became of the folder.
    """

    def __init__(self, workdir: Path, start_step: int) -> None:
        self._folder = workdir
        self._records = Segments(workdir / RECORDS, start_step)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1, write_to_disk=True)
        self._events = self._board.file_writer.event_writer
        self._thread = self._events._worker  # which ends where it cannot write

    def write(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Records one step; ``timing`` holds what no two runs share."""
        record = {
            "step": step,
            "metrics": dict(metrics),
            "timing": {k: round(v, 4) for k, v in timing.items()},
        }
        with _told(self._folder):
            self._records.add(record)
            for name, value in (*metrics.items(), *timing.items()):
                if not self._thread.is_alive():  # one would wait for room in its queue
                    raise OSError(errno.EIO, os.strerror(errno.EIO), self._board.logdir)
                self._board.add_scalar(name, value, step)

    def fault(self, record: Mapping[str, Any]) -> None:
        """Stores beside the metrics what one needs to make a faulty step again."""
        with _told(self._folder):
            files.write_whole(self._folder / FAULT, json.dumps(record, indent=1))

    def close(self) -> None:
        """Flushes and closes what is open."""
        with _told(self._folder):
            try:
                self._board.close()
            except OSError:  # which would be tried and told again at the end of the process
                self._events._closed = True
                if self._thread.is_alive():
                    self._thread.stop()
                raise


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        place, why = fault.filename or folder, fault.strerror
        raise UserError(f"{place} cannot be written ({why}): see what became of the folder, then start again") from None


class NoWriter:
    """Stands in for a ``MetricWriter`` where another process writes."""

    def write(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Records nothing."""

    def fault(self, record: Mapping[str, Any]) -> None:
        """Stores nothing."""

    def close(self) -> None:
        """Has nothing to close."""
