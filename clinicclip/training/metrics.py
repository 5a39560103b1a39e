"""What a run writes down as it goes: ``metrics.jsonl`` and TensorBoard events, without TensorFlow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from clinicclip import files
from clinicclip.training.segments import Segments

FAULT = "fault.json"  # in the run's folder, once a loss was not finite
RECORDS = "metrics.jsonl"


class MetricWriter:
    """Writes one JSON record a step: deterministic ``metrics`` and, apart from them, ``timing``.

    A run that resumes at ``start_step`` first drops the records of later steps, which it is about to make again.
    """

    def __init__(self, workdir: Path, start_step: int) -> None:
        self._folder = workdir
        self._records = Segments(workdir / RECORDS, start_step)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1, write_to_disk=True)

    def write(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Records one step; ``timing`` holds what no two runs share."""
        record = {
            "step": step,
            "metrics": dict(metrics),
            "timing": {k: round(v, 4) for k, v in timing.items()},
        }
        self._records.add(record)
        for name, value in (*metrics.items(), *timing.items()):
            self._board.add_scalar(name, value, step)

    def fault(self, record: Mapping[str, Any]) -> None:
        """Stores beside the metrics what one needs to make a faulty step again."""
        files.write_whole(self._folder / FAULT, json.dumps(record, indent=1))

    def close(self) -> None:
        """Flushes and closes what is open."""
        self._board.close()


class NoWriter:
    """Stands in for a ``MetricWriter`` where another process writes."""

    def write(self, step: int, metrics: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """Records nothing."""

    def fault(self, record: Mapping[str, Any]) -> None:
        """Stores nothing."""

    def close(self) -> None:
        """Has nothing to close."""
