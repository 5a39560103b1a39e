"""Every study meets every study, itself included, once as a row and once as a column, on any number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from clinicclip.losses.travel import Tour
from clinicclip.training.sharding import make_mesh


def meet(one: dict, other: dict, both: bool) -> tuple[dict, dict]:
    """Of each row, which columns it met; of each column, which rows."""

    def one_way(rows: dict, columns: dict) -> tuple[dict, dict]:
        met = [side["known"][:, None] * jax.nn.one_hot(side["place"], rows["of"].shape[1]) for side in (columns, rows)]
        counts = (jnp.tile(side.sum(0), (len(met[0]), 1)) for side in met)
        return tuple({name: count} for name, count in zip(("columns", "rows"), counts, strict=True))

    of_one, of_other = one_way(one, other)
    if both:
        more_of_other, more_of_one = one_way(other, one)
        of_one, of_other = of_one | more_of_one, of_other | more_of_other
    return of_one, of_other


def merge(one: dict, other: dict) -> dict:
    return one | {name: one[name] + part if name in one else part for name, part in other.items()}


@pytest.mark.parametrize("devices", range(1, 9))
def test_all_meet_all_once_in_either_role(devices: int) -> None:
    share, block = 5, 2  # blocks of 2, the last with one masked study
    studies = share * devices
    side = {
        "place": jnp.arange(studies),
        "known": jnp.ones(studies),
        "of": jnp.zeros((studies, studies)),
    }
    nothing = {name: jnp.zeros((studies, studies)) for name in ("columns", "rows")}
    split = PartitionSpec("data")
    go = partial(Tour(meet, merge, "data").go, most=block)
    mesh = make_mesh(jax.devices()[:devices])
    met = jax.jit(jax.shard_map(go, mesh=mesh, in_specs=(split, split), out_specs=split))(side, nothing)
    for role in ("columns", "rows"):
        np.testing.assert_array_equal(met[role], np.ones((studies, studies)), err_msg=role)
