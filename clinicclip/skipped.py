"""Studies that a run leaves out because their stored records cannot be read: named, counted, and bounded."""

from collections.abc import Mapping, Sequence
from typing import Any

from clinicclip.data.records import CorruptRecord
from clinicclip.data.sources import Source
from clinicclip.errors import UserError
from clinicclip.training.metrics import FAULT, MetricWriter, NoWriter
from clinicclip.training.progress import say

TOTAL, IN_PASS = "skipped", "skipped_in_pass"  # beside a checkpoint: of the run, and of its pass over the data
SHOWN = 8  # records named in a line


class Skipped:
    """Counts what a run of ``batch_size`` studies a step skips, on top of the counts in ``facts``.

    A record comes up once in a pass over the data, so more than ``limit`` in a pass are as many corrupt records.
    """

    def __init__(
        self, writer: MetricWriter | NoWriter, source: Source, limit: int, batch_size: int, facts: Mapping[str, Any]
    ) -> None:
        self._writer, self._source, self._limit, self._batch_size = writer, source, limit, batch_size
        self._total, self._in_pass = (int(facts.get(key, 0)) for key in (TOTAL, IN_PASS))

    @property
    def facts(self) -> dict[str, int]:
        """The counts so far, to go on from."""
        return {TOTAL: self._total, IN_PASS: self._in_pass}

    def add(self, now: int, count: int, numbers: Sequence[int]) -> int:
        """Takes the ``count`` and the record numbers skipped in the batch of step ``now`` (from 1); returns the total.

        Raises:
            UserError: more than the limit in this pass over the data.
        """
        first, last = (studies // len(self._source) for studies in self._studies(now))
        if last > first:
            self._in_pass = 0
        self._total += count
        self._in_pass += count
        if count:
            names = [self._name(number) for number in numbers]
            shown = ", ".join(names[:SHOWN]) + (f" and {count - SHOWN} more" if count > SHOWN else "")
            say(f"step {now}: left out, as they cannot be read: {shown}")
            if self._in_pass > self._limit:
                self._stop(now, names, shown)
        return self._total

    def _studies(self, now: int) -> tuple[int, int]:
        """Numbers, in the stream of all passes, of the last study before the batch of a step and of the last in it."""
        return max((now - 1) * self._batch_size - 1, 0), now * self._batch_size - 1

    def _name(self, number: int) -> str:
        try:
            return f"record {number} (image {self._source[number]['image_id']})"
        except CorruptRecord:
            return f"record {number}"

    def _stop(self, now: int, names: list[str], shown: str) -> None:
        self._writer.fault({"step": now, **self.facts, "records": names})
        raise UserError(
            f"step {now}: {self._in_pass} studies of this pass over the data cannot be read, more than "
            f"data.max_corrupt={self._limit}; the last are {shown}. Prepare the data again or set "
            f"--config.data.max_corrupt higher, and start again; {FAULT} holds the numbers"
        )
