"""What a compiled program says of itself: the collectives it runs and the buffers it makes, read from its HLO text.

Computations are walked from the entry through calls, fusions, branches and loops; what a loop holds counts as often
as its known trip count, which XLA's own cost analysis leaves out.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")
# Opcodes that name what they run by these attributes; reducers of other opcodes work on single numbers.
CALLS = {
    "call": ("to_apply",),
    "fusion": ("calls",),
    "async-start": ("calls",),
    "while": ("body", "condition"),
    "conditional": ("branch_computations", "true_computation", "false_computation"),
}
ALIASES = ("parameter", "tuple", "get-tuple-element", "bitcast", "optimization-barrier")

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")


class Array(NamedTuple):
    """Element type, as HLO writes it, and shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def bytes(self) -> int:
        """Size without padding."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.shape) * (int(bits[0]) if bits else 8) // 8


class Collective(NamedTuple):
    """One array that ``devices`` devices exchange ``times`` times in a run of the program."""

    kind: str
    array: Array  # the whole one: gathered, or before it is scattered
    devices: int
    times: int

    @property
    def bytes(self) -> int:
        """Size of the whole array, all times together."""
        return self.times * self.array.bytes

    @property
    def sent(self) -> float:
        """The least that each device sends: a permutation all it has, a reduction its parts there and back."""
        share = 1.0 if self.kind == "collective-permute" else 1.0 - 1.0 / self.devices
        return self.bytes * share * (2.0 if self.kind == "all-reduce" else 1.0)


class Buffer(NamedTuple):
    """One array that an instruction leaves in memory, and the computation it does so in."""

    array: Array
    name: str
    opcode: str
    computation: str


class Instruction(NamedTuple):
    """A line of HLO: ``result`` is the text of its type, ``rest`` its operands and attributes."""

    name: str
    result: str
    opcode: str
    rest: str


class Module(NamedTuple):
    """Computations by name, each its instructions by name."""

    entry: str
    devices: int
    computations: Mapping[str, Mapping[str, Instruction]]


def collectives(hlo: str) -> list[Collective]:
    """Every exchange between devices in one run of the program, equal ones added up.

    All branches of a conditional count. Raises ValueError for one in a loop whose trip count is not known.
    """
    module = parse(hlo)
    counts: Counter[tuple[str, Array, int]] = Counter()
    for computation, instruction, times in _runs(module, module.entry, 1, fusions=True):
        kind = instruction.opcode.removesuffix("-done")
        if kind not in COLLECTIVES:
            continue
        if times is None:
            raise ValueError(f"{instruction.name}: in a loop whose trip count is not known")
        begun = instruction
        if instruction.opcode != kind:  # the result is whole only when it is done, the group is told at the start
            begun = module.computations[computation][_operand(instruction)]
        devices = _group(begun.rest, module.devices)
        for array in arrays(instruction.result):
            whole = array
            if kind == "reduce-scatter":
                whole = array._replace(shape=(array.shape[0] * devices, *array.shape[1:]))
            counts[kind, whole, devices] += times
    return [Collective(*what, often) for what, often in counts.items()]


def buffers(hlo: str) -> list[Buffer]:
    """Every array the program writes to memory; what stays inside a fusion is none, nor is another's alias."""
    module = parse(hlo)
    found = []
    for computation, instruction, _ in _runs(module, module.entry, 1, fusions=False):
        if instruction.opcode not in ALIASES:
            made = (instruction.name, instruction.opcode, computation)
            found += [Buffer(array, *made) for array in arrays(instruction.result)]
    return found


def arrays(result: str) -> list[Array]:
    """The arrays of a type, those of a tuple one by one."""
    return [
        Array(dtype, tuple(int(size) for size in sizes.split(",") if size)) for dtype, sizes in _ARRAY.findall(result)
    ]


def parse(hlo: str) -> Module:
    """The computations of an HLO text. Raises ValueError when it has no entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, lines = "", {}
    for line in hlo.splitlines():
        if found := _INSTRUCTION.match(line):
            lines[found[1]] = Instruction(*found.groups())
        elif found := _HEADER.match(line):
            computations[found[2]] = lines = {}
            entry = found[2] if found[1] else entry
    if not entry:
        raise ValueError("no ENTRY computation: not the text of a compiled module")
    partitions = re.search(r"num_partitions=(\d+)", hlo[: hlo.index("\n")])
    return Module(entry, int(partitions[1]) if partitions else 1, computations)


def _runs(
    module: Module, computation: str, times: int | None, *, fusions: bool
) -> Iterator[tuple[str, Instruction, int | None]]:
    """Every instruction that runs, the computation it is in and how often it does; None = not known."""
    for instruction in module.computations[computation].values():
        yield computation, instruction, times
        if instruction.opcode == "fusion" and not fusions:
            continue
        for name in _called(instruction):
            yield from _runs(module, name, _times(instruction, times), fusions=fusions)


def _called(instruction: Instruction) -> Iterator[str]:
    for attribute in CALLS.get(instruction.opcode, ()):
        if found := re.search(rf"\b{attribute}=\{{?([^,}}\s]+(?:, %[^,}}\s]+)*)", instruction.rest):
            yield from (name.strip().lstrip("%") for name in found[1].split(","))


def _times(instruction: Instruction, times: int | None) -> int | None:
    if instruction.opcode != "while" or times is None:
        return times
    trips = re.search(r'"?known_trip_count"?[:=]\{"?n"?:"?(\d+)', instruction.rest)
    return times * int(trips[1]) if trips else None


def _operand(instruction: Instruction) -> str:
    found = re.search(r"%?([\w.\-]+)[,)]", instruction.rest)
    assert found is not None
    return found[1]


def _group(rest: str, everyone: int) -> int:
    """How many devices exchange with one another: the size of the first group."""
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else everyone
