"""Tells what a run would need and cost on N devices, from the real training step, without data, weights or devices.

    python -m clinicclip.plan --config=configs/n_g_dtcg.py --devices=8 --price=1.20

The step is compiled for N simulated CPU devices; no array is made. N is set before JAX starts.
"""

import argparse
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clinicclip import assemble, cli, expected, losses, train
from clinicclip import config as config_files
from clinicclip.data import packing, pipeline
from clinicclip.devices import CPU, DEVICES, this_machine
from clinicclip.expected import Expected
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import abstract, sharding
from clinicclip.training.abstract import Growth, Memory, Sizes
from clinicclip.training.compiled import Collective
from clinicclip.training.progress import say
from clinicclip.training.step import TrainState

MOST_DEVICES = 512
TOKENS = 73  # of a report on average: Open-I's 2,345 distinct reports in BERT's uncased vocabulary
STUDIES = 222_758  # of the training split published with MIMIC-CXR-JPG 2.0.0
SPANS = {"d": 86400.0, "h": 3600.0, "s": 1.0, "ms": 1e-3}  # units of time, the largest first
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
        "--kind",
        type=_kinds,
        default=tuple(DEVICES),
        metavar="KIND[,KIND]",
        help=f"some of {', '.join(DEVICES)} (default all these), and {CPU}: this machine, measured",
    )
    p.add_argument("--batch_size", type=partial(cli.count, least=1), metavar="B", help="global (default the config's)")
    p.add_argument("--price", type=_price, metavar="DOLLARS", help="of one device for one hour")
    p.add_argument(
        "--tokens", type=partial(cli.count, least=3), default=TOKENS, help=f"of a report, on average ({TOKENS})"
    )
    p.add_argument(
        "--studies", type=partial(cli.count, least=1), default=STUDIES, help=f"of the training split ({STUDIES})"
    )
    return p


def main(args: argparse.Namespace) -> int:
    """Measures and prints."""
    config = config_files.load(args.config, args.overrides)
    config.batch_size = args.batch_size or config.batch_size
    sharding.microbatches(config.batch_size, config.microbatch, args.devices)
    simulate(args.devices)  # before anything asks how many devices there are
    assemble.check(config)
    args.epochs = not config.total_steps
    config.total_steps = config.total_steps or max(1, config.epochs * (args.studies // config.batch_size))
    assemble.resolve_widths(config, config.data.vocab_size)
    say(f"compiling the training step for {args.devices} simulated devices; a full-size model takes about a minute")
    plan = measure(config, args.tokens)
    print("\n".join(report(config, plan, args)))
    return 0


def simulate(devices: int) -> None:
    """Makes JAX start with so many CPU devices, and compile without the passes that change no buffer or exchange."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_disable_most_optimizations", True)


class Plan(NamedTuple):
    """What was measured."""

    step: Expected
    growth: Growth
    parameters: int  # numbers of the model, not bytes


def measure(config: ConfigDict, tokens: int) -> Plan:
    """Compiles the step of a resolved configuration for all devices there are."""
    mesh = sharding.make_mesh()
    model = ClinicCLIP(assemble.model_spec(config))
    state = abstract.state(model, assemble.optimizer(config), mesh, config.model.layout)
    batch = batch_of(config, tokens, config.batch_size, mesh.size)
    compiled = abstract.compile_step(train.make_step(config, model, mesh), state, batch)
    flops = train.arithmetic(config, model, batch, mesh.size)
    step = expected.of(compiled, state, batch, flops=flops, devices=mesh.size)
    return Plan(
        step=step,
        growth=growth(config, tokens, step.memory, state, mesh),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    )


def batch_of(config: ConfigDict, tokens: int, studies: int, devices: int) -> Sizes:
    """The shapes of a batch."""
    groups = sharding.text_groups(studies, config.microbatch, devices)
    spec = assemble.train_spec(config)
    widths = {"feature_width": config.model.feature_dim, "text_width": config.model.text.width}
    shapes = pipeline.batch_shapes(spec, studies=studies, groups=groups, tokens=tokens, **widths)
    return abstract.batch(shapes)


def growth(config: ConfigDict, tokens: int, memory: Memory, state: TrainState, mesh: Mesh) -> Growth:
    """How memory grows with the batch, from the compiled step and two batches of towers and loss apart."""
    spec, model = assemble.loss_spec(config), ClinicCLIP(assemble.model_spec(config))
    batches = config.batch_size, GROWTH * config.batch_size
    automatic = spec.implementation == "auto"
    if automatic and losses.choose(spec, config.batch_size, mesh.size) == "sharded":
        # Both batches in one form: "auto" may turn between them.
        spec = dataclasses.replace(spec, implementation="sharded")

    def saved(studies: int) -> int:
        share = config.microbatch or studies // mesh.size
        return abstract.saved(model, state.params, batch_of(config, tokens, share, 1), spec)

    def loss(studies: int) -> int:
        batch = batch_of(config, tokens, studies, mesh.size)
        return abstract.loss_temporaries(spec, mesh, config.model.dim, batch)

    small, large = batches
    grown = abstract.growth(memory, batches, (saved(small), saved(large)), (loss(small), loss(large)))
    return grown._replace(bound=losses.SHARDED_BYTES) if automatic else grown


def report(config: ConfigDict, plan: Plan, args: argparse.Namespace) -> Iterator[str]:
    """The lines that are printed."""
    step = plan.step
    cut = f" in microbatches of {config.microbatch}" if config.microbatch else ""
    share = f"{config.batch_size:,} studies ({config.batch_size // step.devices:,} a device{cut})"
    yield f"{args.config} on {step.devices} device{'s' * (step.devices > 1)}"
    yield f"{config.total_steps:,} steps of {share}; {plan.parameters / 1e6:.1f} M parameters"
    yield from memory_lines(step.memory, config.model.layout)
    yield from flops_lines(step.flops)
    yield from collective_lines(step.collectives)
    yield from device_lines(config, plan, args)
    yield ""
    yield from assumptions(config, args)


def memory_lines(memory: Memory, layout: str) -> Iterator[str]:
    """Bytes a device holds."""
    told = {
        "parameters": (memory.parameters, f"float32, {layout}"),
        "optimiser state": (memory.optimiser, "two moments a trained parameter"),
        "batch": (memory.batch, "[1]"),
        "temporaries": (memory.temporaries, "[2] gradients, activations kept for backward, scratch"),
        "together": (memory.total, ""),
    }
    yield from _heading("Memory of one device", "GB")
    for name, (size, source) in told.items():
        yield f"  {name:<26}{size / 1e9:>12.3f}   {source}".rstrip()


def flops_lines(flops: Mapping[str, float]) -> Iterator[str]:
    """Operations by part."""
    yield from _heading("Arithmetic of one device", "TFLOP", "[3] a step, forward and backward")
    for name, count in {**flops, "together": sum(flops.values())}.items():
        yield f"  {name:<26}{count / 1e12:>12.4f}"


def collective_lines(found: Sequence[Collective]) -> Iterator[str]:
    """Exchanges by kind and type, the busiest first."""
    found = [c for c in found if c.devices > 1]
    yield from _heading("Exchanged by one device", "MB", "MB sent    arrays   largest   [2] a step")
    kinds = sorted({(c.kind, c.array.dtype) for c in found})
    groups = [[c for c in found if (c.kind, c.array.dtype) == kind] for kind in kinds]
    for same in sorted(groups, key=lambda group: -sum(c.sent for c in group)):
        size, sent, times = (sum(values) for values in zip(*((c.bytes, c.sent, c.times) for c in same), strict=True))
        largest = max((c.array for c in same), key=lambda array: array.bytes)
        name = f"{same[0].kind} {largest.dtype}"
        cells = _figure(size / 1e6), _figure(sent / 1e6), f"{times:,}"
        yield _row(name, cells, (26, 12, 10, 10)) + f"   {largest}"
    if not found:
        yield f"  {'nothing':<26}{0:>12}"


def device_lines(config: ConfigDict, plan: Plan, args: argparse.Namespace) -> Iterator[str]:
    """Floor, largest batch, hours and price on each kind of device."""
    names = ("compute", "memory", "links", "floor", "studies/s", "fits", "largest batch", "run")
    yield from _heading("At their peaks", "", "[4] a step")
    priced = args.price is not None
    widths = (14, 9, 9, 9, 9, 10, 5, 14, 9, *([10] if priced else []))
    yield _row("", (*names, *(["price"] if priced else [])), widths)
    step = plan.step
    unit = step.devices * max(1, config.microbatch)
    for kind in args.kind:
        device = this_machine(step.devices) if kind == CPU else DEVICES[kind]
        least = step.floor(device)
        run = config.total_steps * least.step
        fits = "yes" if step.memory.total <= device.memory else "no"
        told = [_span(seconds) for seconds in (*least, least.step)]
        told += [
            _figure(config.batch_size / least.step),
            fits,
            f"{plan.growth.most(device.memory, unit):,}",
            _span(run),
        ]
        if priced:
            told.append(_dollars(run / 3600 * step.devices * args.price))
        yield _row(device.title, told, widths)


def assumptions(config: ConfigDict, args: argparse.Namespace) -> Iterator[str]:
    """What the numbers rest on."""
    length = config.data.text_length
    run = f"{config.total_steps:,} steps"
    if args.epochs:
        run += f" = {config.epochs} epochs of {args.studies:,} studies (assumed: --studies)"
    yield f"[1] assumed: {args.tokens} tokens a report (--tokens), rows of {length} tokens {packing.FILL:.0%} full"
    yield "[2] from a compile for CPU: a TPU or GPU fuses more and keeps bfloat16 where a CPU widens it, so"
    yield "    that it likely needs less; it may exchange all-reduces as reduce-scatter and all-gather; passes"
    yield "    that change no buffer or exchange are left out"
    yield "[3] by formula, matrix products alone; the loss is float32, slower than the peak it is set against"
    yield "[4] compute: at the published dense bfloat16 peak; memory: the state read and written once; links:"
    yield "    MB sent at the full one-way rate; floor: the longest of the three; a real step takes longer"
    yield "    largest batch: within about a tenth, by the growth of what is saved for backward and of the loss"
    if CPU in args.kind:
        yield "    this CPU: rates measured now in float32, shared by the devices; links are copies in memory"
    yield f"    run{' and price' if args.price is not None else ''}: {run}, at the floor"


def _heading(title: str, unit: str, more: str = "") -> Iterator[str]:
    yield ""
    yield f"{title:<28}{unit:>12}   {more}".rstrip()


def _row(title: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    """A line of a table, with a blank before every cell however wide."""
    told = (f" {cell:>{width - 1}}" for cell, width in zip(cells, widths[1:], strict=True))
    return f"  {title:<{widths[0]}}" + "".join(told)


def _figure(value: float) -> str:
    """A number of 0 or more to four significant digits, or all those before the point."""
    decimals = 3 - math.floor(math.log10(value)) if value else 0
    return f"{value:,.{min(max(decimals, 0), 6)}f}"


def _span(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in SPANS.items() if seconds >= size), ("us", 1e-6))
    return f"{_figure(seconds / size)} {unit}"


def _dollars(price: float) -> str:
    if price >= 1e6:
        return f"${_figure(price / 1e6)} M"
    return f"${price:,.2f}" if price < 1000 else f"${price:,.0f}"


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(map(cli.one_of((*DEVICES, CPU)), text.split(",")))


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
