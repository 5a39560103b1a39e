"""Published peaks of accelerators, measured ones of this machine, and the time below which none can run a step.

The sources are the makers' pages; a torus' and a switch's bidirectional rates are halved, as a device sends one way.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

GIB = 2**30
CPU = "cpu"  # beside the names of `DEVICES`: this machine


class Device(NamedTuple):
    """Peaks of one device, in operations and bytes a second, and bytes of memory."""

    title: str
    flops: float  # dense bfloat16 matrix products
    memory: float
    bandwidth: float  # of the memory
    link: float  # one way, all links of a device to others of its domain together
    domain: int  # devices joined by such links
    network: float  # one way, a device's share of its domain's connection to other domains; 0 = not given

    def rate(self, devices: int) -> float:
        """The most a device can send in a second among so many: what crosses between domains uses all their ports."""
        return self.link if devices <= self.domain else min(self.link, self.domain * self.network)


DEVICES = {
    # https://docs.cloud.google.com/tpu/docs/v5e: 400 GB/s bidirectional; 6.4 Tb/s of network a pod of 256.
    "v5e": Device("TPU v5e", 197e12, 16e9, 819e9, 200e9, 256, 6.4e12 / 8 / 256),
    # https://docs.cloud.google.com/tpu/docs/v4: all-reduce of 1.1 PB/s a pod of 4096, which is what all send together.
    "v4": Device("TPU v4", 275e12, 32 * GIB, 1200e9, 1.1e15 / 4096, 4096, 0.0),
    # https://docs.cloud.google.com/tpu/docs/v5p: 1200 GB/s bidirectional; largest slice 6144.
    "v5p": Device("TPU v5p", 459e12, 95e9, 2765e9, 600e9, 6144, 0.0),
    # https://www.nvidia.com/en-us/data-center/h100/, SXM: half of 1979 TFLOPS with sparsity; NVLink 900 GB/s.
    # https://docs.nvidia.com/dgx-basepod/, core components: eight to a system, a 400 Gb/s ConnectX-7 port each.
    "h100": Device("H100 SXM 80 GB", 989e12, 80e9, 3350e9, 450e9, 8, 400e9 / 8),
    # https://www.nvidia.com/en-us/data-center/a100/, SXM 80 GB; NVLink 600 GB/s.
    # https://docs.nvidia.com/dgx/dgxa100-user-guide/: eight to a system, a 200 Gb/s adapter each.
    "a100": Device("A100 SXM 80 GB", 312e12, 80e9, 2039e9, 300e9, 8, 200e9 / 8),
}


# How jax calls them, in front of what tells variants apart.
KINDS = {
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5p": "v5p",
    "TPU v5": "v5p",
    "TPU v4": "v4",
    "NVIDIA H100": "h100",
    "NVIDIA A100": "a100",
}


def known(kind: str) -> Device | None:
    """The peaks of what jax calls ``kind``; None where no page is cited for it."""
    return next((DEVICES[name] for start, name in KINDS.items() if kind.startswith(start)), None)


def this_machine(devices: int) -> Device:
    """One of so many devices that share this machine: its rates measured now, in float32, and divided by them.

    What devices send to one another is a copy in memory.
    """
    one, two = np.ones((2, 1024, 1024), np.float32)
    large, copy = np.ones((2, 2**26), np.float32)
    flops = 2 * 1024**3 / _fastest(lambda: np.matmul(one, two))
    bandwidth = 2 * large.nbytes / _fastest(lambda: np.copyto(copy, large))  # read and written
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    flops, bandwidth, held = (rate / devices for rate in (flops, bandwidth, memory))
    return Device("this CPU", flops, held, bandwidth, bandwidth / 2, devices, 0.0)


def _fastest(work: Callable[[], object], times: int = 20) -> float:
    """The fewest seconds it took."""
    began = [time.perf_counter()]
    for _ in range(times):
        work()
        began.append(time.perf_counter())
    return float(np.diff(began).min())


class Floor(NamedTuple):
    """Seconds of a step at a device's peaks."""

    arithmetic: float
    memory: float
    links: float

    @property
    def step(self) -> float:
        """The longest of the three: they overlap at best."""
        return max(self)


def floor(device: Device, *, flops: float, touched: float, sent: float, devices: int) -> Floor:
    """The floor of a step that computes, moves to or from memory, and sends so much on each of so many devices."""
    return Floor(flops / device.flops, touched / device.bandwidth, sent / device.rate(devices))
