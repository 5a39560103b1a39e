"""What the compiled step says of a step beforehand, and, in a run, how that compares with what is measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from clinicclip import tabular
from clinicclip.devices import Device, Floor, floor
from clinicclip.training import abstract
from clinicclip.training.abstract import Memory, Sizes
from clinicclip.training.compiled import Collective, collectives
from clinicclip.training.step import TrainState


class Expected(NamedTuple):
    """Bytes and operations of one device in a step."""

    devices: int
    memory: Memory
    flops: Mapping[str, float]  # by part and by formula
    collectives: Sequence[Collective]
    counted: float  # operations as the compiler counts them: what a loop holds counts once

    def floor(self, device: Device) -> Floor:
        """The floor on one kind of device: the state is read and written once, the batch read."""
        touched = 2.0 * (self.memory.parameters + self.memory.optimiser) + self.memory.batch
        sent = sum((exchange.sent for exchange in self.collectives), 0.0)
        return floor(device, flops=sum(self.flops.values()), touched=touched, sent=sent, devices=self.devices)


def of(
    compiled: jax.stages.Compiled, state: TrainState, batch: Sizes, *, flops: Mapping[str, float], devices: int
) -> Expected:
    """What a step that was compiled for these shapes says."""
    analysis: Any = compiled.cost_analysis() or {}
    return Expected(
        devices=devices,
        memory=abstract.memory(compiled, state, batch),
        flops=flops,
        collectives=collectives(compiled.as_text() or ""),
        counted=float(analysis.get("flops", 0.0)),
    )


def beside(expected: Expected, timing: Mapping[str, float], device: Device | None) -> Iterator[str]:
    """The lines that a run prints once: planned against measured, of one device and one step.

    ``timing`` is what `training.progress.Log` measured; without a ``device`` whose peaks are known, time has no plan.
    """
    memory, flops = expected.memory, sum(expected.flops.values())
    rows = [["one device, one step", "planned", "measured", ""]]
    taken = f"{timing['seconds_per_step']:.4g} s"
    if device:
        least = f"{expected.floor(device).step:.4g} s"
        rows.append(["time", least, taken, f"planned: the floor at the peaks of {device.title}"])
    else:
        rows.append(["time", "-", taken, "no peaks are published of this device; plan --kind=cpu measures a CPU's"])
    parts = ", ".join(f"{name} {size / 2**30:.3f}" for name, size in memory._asdict().items())
    rows.append(
        ["GiB of memory", f"{memory.total / 2**30:.3f}", f"{timing['peak_memory_gib']:.3f}", f"planned: {parts}"]
    )
    rows.append(
        ["TFLOP", f"{flops / 1e12:.4g}", f"{expected.counted / 1e12:.4g}", "by formula; as compiled, a loop once"]
    )
    return iter(tabular.aligned(rows))
