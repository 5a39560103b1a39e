"""How a run shows itself while it trains: the bar, lines of output, the records of the metric writer."""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from clinicclip.errors import UserError
from clinicclip.training.metrics import FAULT, MetricWriter, NoWriter


class Log:
    """Collects steps and writes some; looks at each result one step late, so that the device never waits for it.

    Rates count from the end of the first step of each stretch, so that neither compilation nor an evaluation
    between two steps enters them. ``peak``: operations a second of one device, where they are published. A step's
    operations are those of `training.arithmetic`, by formula, as XLA counts what a loop holds once; where there is no
    loop, XLA counts up to a tenth more. What ``microbatch`` and ``model.remat`` compute again counts as arithmetic, so
    that "mfu" is the use of the hardware.
    ``facts``: what a step that failed can be made again from, beside its records.
    """

    def __init__(
        self,
        writer: MetricWriter | NoWriter,
        bar: tqdm,
        batch_size: int,
        peak: float | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._writer, self._bar, self._batch_size, self._peak = writer, bar, batch_size, peak
        self._facts = dict(facts or {})
        self._compare: Callable[[Mapping[str, float]], Iterable[str]] | None = None
        self._pending: tuple[int, Mapping[str, jax.Array], Mapping[str, Any], float, bool] | None = None
        self.restart()

    def restart(self) -> None:
        """Forgets the time that went by: the next step opens a new stretch."""
        self._clock: float | None = None
        self._steps, self._waited, self._flops = 0, 0.0, 0.0

    def compare(self, lines: Callable[[Mapping[str, float]], Iterable[str]]) -> None:
        """Says, once times are measured, the lines that are made of them."""
        self._compare = lines

    def add(
        self,
        now: int,
        measured: Mapping[str, jax.Array],
        batch_facts: Mapping[str, Any],
        waited: float,
        *,
        flops: float,
        write: bool,
    ) -> None:
        """Takes the metrics of the step that made the count of steps ``now``.

        ``batch_facts`` hold the record ids ("id") and counts of the batch, which took ``waited`` seconds to come and
        each device ``flops`` operations to learn from.
        """
        self._waited += waited  # before the look at the last step, which may close the stretch the wait was in
        self.check()
        self._pending = (now, measured, batch_facts, flops, write)

    def check(self) -> None:
        """Looks at the step added last. Raises UserError with the record ids when its loss is not finite."""
        if self._pending is None:
            return
        now, measured, batch_facts, flops, write = self._pending
        self._pending = None
        if not bool(measured["finite"]):
            ids = [str(i) for i in np.ravel(batch_facts["id"])]
            seen = {k: repr(float(v)) for k, v in jax.device_get(dict(measured)).items()}
            self._writer.fault({"step": now, **self._facts, "records": ids, "metrics": seen})
            raise UserError(
                f"step {now}: loss or gradient is not finite; no parameter was changed by it. The same command "
                f"comes to it again from the newest checkpoint; {FAULT} holds its numbers. Records: {', '.join(ids)}"
            )
        if self._clock is None:
            self._clock, self._waited = time.perf_counter(), 0.0
        else:
            self._steps += 1
            self._flops += flops
        self._bar.update()
        if write:
            values = {k: float(v) for k, v in jax.device_get(dict(measured)).items() if k != "finite"}
            self._write(now, values | {k: float(v) for k, v in batch_facts.items() if k != "id"})

    def _write(self, now: int, values: dict[str, float]) -> None:
        assert self._clock is not None
        timing, shown = {}, ""
        if self._steps:
            seconds = max(time.perf_counter() - self._clock, 1e-9)
            reached = self._flops / seconds
            timing = {
                "studies_per_second": self._steps * self._batch_size / seconds,
                "seconds_per_step": seconds / self._steps,
                "data_wait_share": self._waited / seconds,
                "tflops_per_device": reached / 1e12,
                "peak_memory_gib": peak_memory() / 2**30,
            }
            shown = f"  {timing['studies_per_second']:.0f} studies/s"
            if self._peak:
                timing["mfu"] = reached / self._peak
                shown += f", {timing['mfu']:.0%} of the device's peak"
        self._writer.write(now, values, timing)
        line = f"loss {values['loss']:.3f}{shown}"
        self._bar.set_postfix_str(line)
        if self._bar.disable:
            say(f"step {now}: {line}" + (f", waiting for data {timing['data_wait_share']:.1%}" if timing else ""))
        if timing and self._compare:
            say("\n".join(self._compare(timing)))
            self._compare = None
        self._clock, self._steps, self._waited, self._flops = time.perf_counter(), 0, 0.0, 0.0


def peak_memory() -> int:
    """The most bytes that a device of this process held; of a CPU device, that the process did."""
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    return (
        max(each.get("peak_bytes_in_use", 0) for each in told)
        or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


def say(line: str) -> None:
    """A line for the person who watches, from the first process only."""
    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
