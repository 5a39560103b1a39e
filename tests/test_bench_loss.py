"""The memory that each form of the loss takes, compiled as bench/loss.py does and never run."""

import functools

import benches
import numpy as np
import pytest

from clinicclip import losses

bench = benches.load("loss")


@functools.cache
def mib(form: str, studies: int = 32768, devices: int = 8, graph: float = 0.0) -> dict[str, float]:
    """Temporaries and arguments of a device, for the full method with negated reports of all in blocks of 512."""
    return bench.size_of(bench.Case(form, studies, devices, graph=graph))


def test_the_ring_takes_a_thirtieth_of_sharded_and_at_most_four_times_its_arguments() -> None:
    ring, sharded = mib("ring"), mib("sharded")
    assert 0 < ring["temporaries"] <= bench.GOAL * sharded["temporaries"]
    assert ring["temporaries"] <= 4 * ring["held"]


def test_the_ring_grows_no_faster_than_the_batch() -> None:
    batches = 8192, 32768, 65536
    taken = [mib("ring", studies)["temporaries"] for studies in batches]
    assert np.polyfit(np.log(batches), np.log(taken), 1)[0] <= 1.1


def test_one_device_alone_works_in_blocks() -> None:
    assert 0 < mib("ring", devices=1)["temporaries"] <= 512


@pytest.mark.parametrize("graph", [0.0, 1.0])
def test_what_auto_reckons_for_sharded_is_what_it_takes(graph: float) -> None:
    matrices = losses.MATRICES + (losses.GRAPH_MATRICES if graph else 0)
    reckoned = 4 * matrices * (32768 // 8) * 32768 / 2**20
    assert 0.9 * reckoned <= mib("sharded", graph=graph)["temporaries"] <= reckoned
