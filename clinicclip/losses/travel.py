"""Every block of studies meets every other: a device's own at home, those of the other devices on a tour of the ring.

Each device keeps its studies; one block of them after the other travels. What a meeting says of a block depends on
which of the two is the rows, but half the work does not: so each pair meets once, both ways, and a block need go only
half way round. What is said of those at home stays; what is said of a visitor travels with it and goes home at the end.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

State = dict[str, Any]  # what has been said of a block, by name


@dataclass(frozen=True)
class Tour:
    """What happens when two blocks meet, and the mesh axis round which they travel (inside of ``shard_map``)."""

    meet: Callable[[PyTree, PyTree, bool], tuple[State, State]]  # (one, other, both ways) -> of one, of the other
    merge: Callable[[State, State], State]  # the second may lack names
    axis: str

    def go(self, side: PyTree, nothing: State, most: int) -> State:
        """``nothing`` with all that is said of each study of ``side``; leaves [b, ...], in blocks of at most ``most``.

        A block that is k hops from home meets all blocks of the device there, both ways; but half way round an even
        ring the devices visit one another, and each takes its own way.
        """
        devices, share = jax.lax.axis_size(self.axis), jax.tree.leaves(side)[0].shape[0]
        # What fills up the last block must be masked in ``side``: whatever is said of it is cut off again.
        side, here = cut((side, nothing), most)
        nothing = _at(here, 0)
        blocks = range(jax.tree.leaves(side)[0].shape[0])
        # A block with itself has all its pairs, in both directions, at once.
        here = self._at_home(side, here, [(number, number) for number in blocks], both=False)
        here = self._at_home(side, here, list(itertools.combinations(blocks, 2)), both=True)

        def trip(here: State, number: Array) -> tuple[State, None]:
            start = self._move(_at(side, number), 1), here, nothing
            (visitor, here, there), _ = jax.lax.scan(hop, start, length=devices // 2 - 1)
            here, there = self._receive(visitor, side, here, there, both=devices % 2 == 1)
            return self._add(here, self._move(there, -(devices // 2)), number), None

        def hop(state: tuple[PyTree, State, State], _: None) -> tuple[tuple[PyTree, State, State], None]:
            visitor, here, there = state
            # What travels unchanged is sent before the work, so that the two can overlap.
            following = self._move(visitor, 1)
            here, there = self._receive(visitor, side, here, there, both=True)
            return (following, here, self._move(there, 1)), None

        if devices > 1:
            here, _ = jax.lax.scan(trip, here, jnp.array(blocks))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:share], here)

    def _at_home(self, side: PyTree, here: State, pairs: list[tuple[int, int]], *, both: bool) -> State:
        """The device's own blocks meet, pair by pair."""

        def pair(here: State, places: Array) -> tuple[State, None]:
            one, other = places
            of_one, of_other = self.meet(_at(side, one), _at(side, other), both)
            return self._add(self._add(here, of_one, one), of_other, other), None

        return jax.lax.scan(pair, here, jnp.array(pairs))[0] if pairs else here

    def _receive(self, visitor: PyTree, side: PyTree, here: State, there: State, *, both: bool) -> tuple[State, State]:
        """All blocks at home meet a visitor."""

        def visit(state: tuple[State, State], number: Array) -> tuple[tuple[State, State], None]:
            here, there = state
            of_host, of_visitor = self.meet(_at(side, number), visitor, both)
            return (self._add(here, of_host, number), self.merge(there, of_visitor)), None

        return jax.lax.scan(visit, (here, there), jnp.arange(jax.tree.leaves(side)[0].shape[0]))[0]

    def _add(self, state: State, said: State, number: Array) -> State:
        """Of all blocks, this one with what is said of it."""
        new = self.merge({name: _at(state[name], number) for name in said}, said)

        def put(whole: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_index_in_dim(whole, part, number, 0)

        return state | {name: jax.tree.map(put, state[name], part) for name, part in new.items()}

    def _move(self, tree: PyTree, by: int) -> PyTree:
        devices = jax.lax.axis_size(self.axis)
        return jax.lax.ppermute(tree, self.axis, [(device, (device + by) % devices) for device in range(devices)])


def cut(tree: PyTree, most: int) -> PyTree:
    """[b, ...] -> [blocks, block, ...] in the fewest blocks of at most ``most``; zeros fill up the last."""
    share = jax.tree.leaves(tree)[0].shape[0]
    blocks = math.ceil(share / most)
    block = math.ceil(share / blocks)

    def in_blocks(array: Array) -> Array:
        padding = [(0, blocks * block - share)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(blocks, block, *array.shape[1:])

    return jax.tree.map(in_blocks, tree)


def _at(tree: PyTree, index: Array | int) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), tree)
