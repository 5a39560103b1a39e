"""Tells what a run would need and cost on N devices, from the real training step, without data, weights or devices.

    python -m clinicclip.plan --config=configs/n_g_dtcg.py --devices=8 --price=1.20

The step is compiled for N simulated CPU devices; no array is made. N is set before JAX starts.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from clinicclip import assemble, cli, train
from clinicclip import config as config_files
from clinicclip.data import packing, pipeline
from clinicclip.devices import DEVICES, Device, Floor, floor
from clinicclip.errors import UserError
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import abstract, sharding
from clinicclip.training.abstract import Memory
from clinicclip.training.arithmetic import step_flops
from clinicclip.training.compiled import Collective, collectives

MOST_DEVICES = 512
TOKENS = 73  # of a report on average: Open-I's 2,345 distinct reports in BERT's uncased vocabulary
STUDIES = 222_758  # of the training split published with MIMIC-CXR-JPG 2.0.0
GROWTH = 4  # a second, traced batch is so many times the compiled one


def parser() -> cli.Parser:
    """The command line."""
    p = cli.Parser(
        program="plan",
        description="Memory, arithmetic, traffic, time floor and price of a run on N devices, before there are any.",
        example="python -m clinicclip.plan --config=configs/n_g_dtcg.py --devices=8 --kind=v5e,h100 --price=1.20",
        overrides=True,
    )
    p.add_argument("--config", required=True, metavar="FILE[:ARG]", help="a file of configs/, e.g. configs/dt_c.py")
    p.add_argument(
        "--devices",
        required=True,
        type=partial(cli.count, least=1, most=MOST_DEVICES),
        metavar="N",
        help=f"how many, 1 to {MOST_DEVICES}",
    )
    p.add_argument(
        "--kind", type=_kinds, default=tuple(DEVICES), metavar="KIND[,KIND]", help=f"of {', '.join(DEVICES)}; all"
    )
    p.add_argument("--batch_size", type=partial(cli.count, least=1), metavar="B", help="global; the config's")
    p.add_argument("--price", type=_price, metavar="DOLLARS", help="of one device for one hour")
    p.add_argument("--tokens", type=partial(cli.count, least=3), default=TOKENS, help="of a report on average")
    p.add_argument("--studies", type=partial(cli.count, least=1), default=STUDIES, help="of the training split")
    return p


def main(args: argparse.Namespace) -> int:
    """Measures and prints."""
    config = config_files.load(args.config, args.overrides)
    config.batch_size = args.batch_size or config.batch_size
    assemble.check(config)
    sharding.microbatches(config.batch_size, config.microbatch, args.devices)
    config.total_steps = config.total_steps or max(1, config.epochs * (args.studies // config.batch_size))
    assemble.resolve_widths(config, config.data.vocab_size)
    simulate(args.devices)
    plan = measure(config, args.tokens)
    print("\n".join(report(config, plan, args)))
    return 0


def simulate(devices: int) -> None:
    """Makes JAX start with so many CPU devices, and compile without the passes that change no buffer or exchange."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_disable_most_optimizations", True)


class Growth(NamedTuple):
    """Bytes of a device's temporaries as the global batch grows, to be read off two batches."""

    gradients: float
    towers: tuple[float, float]  # at no study, and for each study of the batch
    loss: tuple[float, float]  # for each study, and for each pair of studies

    def at(self, studies: int) -> float:
        """Temporaries of a batch."""
        (base, each), (alone, pair) = self.towers, self.loss
        return self.gradients + base + studies * (each + alone + studies * pair)


class Plan(NamedTuple):
    """What was measured: bytes and operations of one device and step."""

    devices: int
    memory: Memory
    flops: dict[str, float]
    collectives: list[Collective]
    growth: Growth
    parameters: int  # numbers of the model, not bytes


def measure(config: ConfigDict, tokens: int) -> Plan:
    """Compiles the step of a resolved configuration for all devices there are."""
    mesh = sharding.make_mesh()
    model = ClinicCLIP(assemble.model_spec(config))
    state = abstract.state(model, assemble.optimizer(config))
    batch = batch_of(config, tokens, config.batch_size, mesh.size)
    compiled = abstract.compile_step(train.make_step(config, model, mesh), state, batch)
    loss, memory = assemble.loss_spec(config), abstract.memory(compiled, state, batch)
    flops = step_flops(model.spec, loss, batch, recomputed=0 < config.microbatch < config.batch_size // mesh.size)
    return Plan(
        devices=mesh.size,
        memory=memory,
        flops={part: count / mesh.size for part, count in flops.items()},
        collectives=collectives(compiled.as_text()),
        growth=growth(config, tokens, model, state.params, memory, mesh),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    )


def batch_of(config: ConfigDict, tokens: int, studies: int, devices: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch."""
    groups = sharding.text_groups(studies, config.microbatch, devices)
    spec, width = assemble.train_spec(config), config.model.feature_dim
    shapes = pipeline.batch_shapes(spec, studies=studies, groups=groups, tokens=tokens, feature_width=width)
    return abstract.batch(shapes)


def growth(
    config: ConfigDict,
    tokens: int,
    model: ClinicCLIP,
    params: object,
    memory: Memory,
    mesh: jax.sharding.Mesh,
) -> Growth:
    """How the temporaries grow: the towers' with what their backward pass needs, the loss's by compiling it alone.

    Beside both there are the gradients: half the optimiser's state, as AdamW keeps two numbers a parameter.
    """
    spec, batches = assemble.loss_spec(config), (config.batch_size, GROWTH * config.batch_size)

    def towers(studies: int) -> int:
        share = config.microbatch or studies // mesh.size
        piece = batch_of(config, tokens, share, 1)
        return abstract.saved(model, params, piece, spec)

    def loss(studies: int) -> int:
        return abstract.loss_temporaries(spec, mesh, config.model.dim, batch_of(config, tokens, studies, mesh.size))

    gradients = memory.optimiser / 2
    small, large = batches
    saved, losses = [towers(b) for b in batches], [loss(b) for b in batches]
    scale = max(0.0, memory.temporaries - gradients - losses[0]) / saved[0]
    each = (saved[1] - saved[0]) / (large - small)
    pair = (losses[1] / large - losses[0] / small) / (large - small)
    return Growth(
        gradients,
        (scale * (saved[0] - each * small), scale * each),
        (losses[0] / small - pair * small, max(0.0, pair)),
    )


def largest(config: ConfigDict, plan: Plan, capacity: float) -> int:
    """The largest global batch whose memory fits so many bytes a device; 0 when none does."""
    unit = plan.devices * max(1, config.microbatch)
    memory = plan.memory
    inputs = memory.batch / config.batch_size

    def fits(times: int) -> bool:
        studies = times * unit
        return memory.parameters + memory.optimiser + inputs * studies + plan.growth.at(studies) <= capacity

    low, high = 0, 1
    while fits(high) and high < 2**30:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * unit


def report(config: ConfigDict, plan: Plan, args: argparse.Namespace) -> Iterator[str]:
    """The lines that are printed."""
    share = config.batch_size // plan.devices
    cut = f" in microbatches of {config.microbatch}" if config.microbatch else ""
    yield f"{args.config}: {config.total_steps:,} steps of {config.batch_size:,} studies on {plan.devices} devices,"
    yield f"{share} a device{cut}; {plan.parameters / 1e6:.1f} M parameters, compute in {config.model.dtype}"
    yield from memory_lines(plan.memory)
    yield from flops_lines(plan.flops)
    yield from collective_lines(plan.collectives)
    yield from device_lines(config, plan, args)
    yield ""
    yield from assumptions(config, args)


def memory_lines(memory: Memory) -> Iterator[str]:
    """Bytes a device holds."""
    told = {
        "parameters": (memory.parameters, "exact: float32, as the step lays them out over the devices"),
        "optimiser state": (memory.optimiser, "exact"),
        "batch": (memory.batch, "shapes [a]"),
        "temporaries of the step": (memory.temporaries, "CPU compile [b]: gradients, saved activations"),
    }
    yield from _heading("Memory of a device", "GB")
    for name, (size, source) in told.items():
        yield f"  {name:<26}{size / 1e9:>14.3f}    {source}"
    yield f"  {'together':<26}{memory.total / 1e9:>14.3f}"


def flops_lines(flops: dict[str, float]) -> Iterator[str]:
    """Operations by part."""
    yield from _heading("Arithmetic of a step, one device", "TFLOP", "by formula [c], forward and backward")
    for name, count in flops.items():
        yield f"  {name:<26}{count / 1e12:>14.4f}"
    yield f"  {'together':<26}{sum(flops.values()) / 1e12:>14.4f}"


def collective_lines(found: Sequence[Collective]) -> Iterator[str]:
    """Exchanges by kind and type."""
    yield from _heading("Exchanged in a step, one device", "MB", f"{'MB sent':>8}    arrays  largest, CPU compile [b]")
    rows = []
    for kind, dtype in sorted({(c.kind, c.array.dtype) for c in found if c.devices > 1}):
        same = [c for c in found if (c.kind, c.array.dtype) == (kind, dtype)]
        rows.append((sum(c.bytes for c in same), sum(c.sent for c in same), kind, dtype, same))
    for size, sent, kind, dtype, same in sorted(rows, key=lambda row: -row[1]):
        big, times = max((c.array for c in same), key=lambda array: array.bytes), sum(c.count for c in same)
        yield f"  {f'{kind} {dtype}':<26}{size / 1e6:>14.2f}{sent / 1e6:>12.2f}{times:>10}  {big}"
    if not rows:
        yield "  nothing: one device"


def device_lines(config: ConfigDict, plan: Plan, args: argparse.Namespace) -> Iterator[str]:
    """Floor, largest batch, hours and price on each kind of device."""
    yield from _heading("At published peaks [d], milliseconds a step", "")
    price = f"{'price':>12}" if args.price is not None else ""
    yield f"  {'':<15}{'compute':>9}{'memory':>9}{'links':>9}{'floor':>9}{'studies/s':>11}{'fits':>6}{'most':>9}{'hours':>9}{price}"
    for kind in args.kind:
        device = DEVICES[kind]
        least = floor_of(device, plan)
        times = "".join(f"{1e3 * seconds:>9.2f}" for seconds in (*least, least.step))
        fits = "yes" if plan.memory.total <= device.memory else "no"
        hours = config.total_steps * least.step / 3600
        cost = "" if args.price is None else f"{'$' + format(hours * plan.devices * args.price, ',.2f'):>12}"
        rate = config.batch_size / least.step
        yield f"  {device.title:<15}{times}{rate:>11,.0f}{fits:>6}{largest(config, plan, device.memory):>9,}{hours:>9.2f}{cost}"


def floor_of(device: Device, plan: Plan) -> Floor:
    """The floor on one kind of device: the state is read and written once, the batch read."""
    memory = plan.memory
    touched = 2 * (memory.parameters + memory.optimiser) + memory.batch
    sent = sum(exchange.sent for exchange in plan.collectives)
    return floor(device, flops=sum(plan.flops.values()), touched=touched, sent=sent, devices=plan.devices)


def assumptions(config: ConfigDict, args: argparse.Namespace) -> Iterator[str]:
    """What the numbers rest on."""
    yield f"[a] Assumed: {args.tokens} tokens a report, packed to {packing.FILL:.0%} of {config.data.text_length}-token rows."
    yield "[b] From a compile for CPU: a TPU or GPU fuses more, keeps bfloat16 where a CPU widens it, and may"
    yield "    turn an all-reduce into reduce-scatter and all-gather. Temporaries are the likeliest to be less."
    yield "[c] Matrix products only. The loss is float32, which runs slower than the bfloat16 peak counted."
    yield "[d] compute = arithmetic at the dense bfloat16 peak; memory = state once there and back; links = MB sent"
    yield "    at the full one-way rate; floor = the longest of them. A real step takes several times as long."
    yield "    most = the largest global batch, read off the growth of saved activations and the loss: about."
    if config.total_steps == config.epochs * (args.studies // config.batch_size):
        yield f"    hours = at the floor, {config.epochs} epochs of {args.studies:,} studies (assumed; --studies=N)."
    else:
        yield "    hours = at the floor."


def _heading(title: str, unit: str, more: str = "") -> Iterator[str]:
    yield ""
    yield f"{title:<28}{unit:>14}    {more}".rstrip()


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(map(cli.one_of(DEVICES), text.split(",")))


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0.0 <= price < float("inf"):
        raise argparse.ArgumentTypeError(f"expected dollars, 0 or more, not {text!r}")
    return price


if __name__ == "__main__":
    cli.run(main, parser())
