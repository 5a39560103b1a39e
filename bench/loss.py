"""Memory and time of the loss's value and gradient in every form, by global batch, on 8 simulated devices and on 1.

The loss is that of the full method: soft labels from three streams (text and graph features of 512, 14 labels) and
negated reports, embeddings of 512, float32. Memory is what XLA says of the compiled program (temporaries a device);
nothing is allocated for it, so any batch can be asked about. Batches that fit are also run, each form in a process of
its own, for peak memory and time; at 8,192 on 8 devices the forms take turns in one process.

    python bench/loss.py [--quick] [--output=DIR]

The last line is JSON; its value is ring over sharded at 32,768 studies, blocks of 512, negated reports of all.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from clinicclip import cli, files

GOAL = 1 / 30
DEVICES = 8
WIDTH, LABELS, BLOCK = 512, 14, 512
FORMS = ("dense", "jit", "sharded", "ring")  # jit: the dense form, which XLA splits over the devices by itself
RUN = (1024, 2048, 4096, 8192)  # batches that fit whatever the form
MIB = 2**20


class Case(NamedTuple):
    """One loss to compile: form, global batch, devices, whose negated reports, graph alignment's weight."""

    form: str
    studies: int
    devices: int = DEVICES
    scope: str = "all"
    graph: float = 0.0

    @property
    def block(self) -> int:
        """Studies a side of the ring's tiles, no more than a device has."""
        return min(BLOCK, self.studies // self.devices)


class Program(NamedTuple):
    """A compiled value and gradient, and the shapes and places of its arguments."""

    compiled: Any
    arguments: tuple[Any, Any]

    @property
    def temporaries(self) -> float:
        """MiB a device."""
        return self.compiled.memory_analysis().temp_size_in_bytes / MIB

    @property
    def held(self) -> float:
        """MiB of arguments a device."""
        return self.compiled.memory_analysis().argument_size_in_bytes / MIB


def build(case: Case) -> Program:
    """Compile one case without allocating anything."""
    import jax
    import jax.numpy as jnp

    from clinicclip.losses import Inputs, LossSpec, dense, ring, sharded
    from clinicclip.training.sharding import by_study, make_mesh, replicated

    mesh = make_mesh(jax.devices()[: case.devices])
    streams = {"text": 1.0, "clinical": 1.0, "graph_stream": 1.0, "graph": case.graph}
    spec = LossSpec(alpha=0.5, theta=0.5, **streams, negation=1.0, neg_scope=case.scope, block=case.block)
    form: Callable = {
        "ring": partial(ring.loss, mesh=mesh),
        "sharded": partial(sharded.loss, mesh=mesh),
    }.get(case.form, dense.loss)

    def array(*axes: int, dtype: Any = jnp.float32) -> Any:
        place = by_study(mesh) if axes else replicated(mesh)
        return jax.ShapeDtypeStruct((case.studies, *axes[1:]) if axes else (), dtype, sharding=place)

    features = {name: array(0, WIDTH) for name in ("image", "text", "negated", "text_feature", "graph_feature")}
    masks = {f"{name}_valid": array(0, dtype=bool) for name in ("text", "labels", "graph", "negated")}
    scalars = {name: array() for name in ("logit_scale", "logit_bias")}
    graph = array(0, WIDTH) if case.graph else None
    inputs = Inputs(**features, **masks, **scalars, labels=array(0, LABELS), graph=graph)
    names = ["image", "text", "negated", "logit_scale", "logit_bias", *(["graph"] if case.graph else [])]
    moving = {name: getattr(inputs, name) for name in names}
    function = jax.value_and_grad(lambda moving, rest: form(rest._replace(**moving), spec)[0])
    return Program(jax.jit(function).lower(moving, inputs).compile(), (moving, inputs))


def arguments(program: Program) -> Any:
    """Random numbers for a program, on its devices."""
    import jax

    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> Any:
        if not leaf.shape:
            return jax.device_put(np.float32(np.log(10.0)), leaf.sharding)
        if leaf.dtype == bool:
            return jax.device_put(rng.random(leaf.shape) < 0.9, leaf.sharding)
        rows = rng.standard_normal(leaf.shape, dtype=np.float32)
        return jax.device_put(rows / np.linalg.norm(rows, axis=1, keepdims=True), leaf.sharding)

    return jax.tree.map(draw, program.arguments)


def timed(program: Program, given: Any) -> float:
    """Seconds of one evaluation."""
    import jax

    began = time.perf_counter()
    jax.block_until_ready(program.compiled(*given))
    return time.perf_counter() - began


def size_of(case: Case) -> dict[str, float]:
    """MiB of temporaries and of arguments a device."""
    program = build(case)
    return {"temporaries": program.temporaries, "held": program.held}


def cost_of(case: Case, repeats: int) -> dict[str, float]:
    """Median seconds, and MiB of peak memory of the whole process."""
    program = build(case)
    given = arguments(program)
    timed(program, given)
    seconds = np.median([timed(program, given) for _ in range(repeats)])
    return {"seconds": float(seconds), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def duel(cases: list[Case], repeats: int) -> dict[str, Any]:
    """Median seconds of each case, taking turns, and of the first over the fastest other in every round."""
    programs = [build(case) for case in cases]
    given = [arguments(program) for program in programs]
    for one, its in zip(programs, given, strict=True):
        timed(one, its)
    rounds = np.array([[timed(*side) for side in zip(programs, given, strict=True)] for _ in range(repeats)])
    medians = np.median(rounds, axis=0)
    ratio = medians[0] / medians[1:].min()
    paired = np.median(rounds[:, 0] / rounds[:, 1 + int(np.argmin(medians[1:]))])
    return {
        "ratio": float(ratio),
        "paired": float(paired),
        "seconds": dict(zip([case.form for case in cases], medians.round(3).tolist(), strict=True)),
    }


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """The function's answer from a process of its own, which sees the simulated devices."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def picture(sizes: dict[Case, dict[str, float]], path: Path) -> None:
    """Temporaries a device against the global batch, a line a form."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    colours = dict(zip(FORMS, ("#b08c2e", "#2f7f4f", "#1f77b4", "#c23b3b"), strict=True))
    for axis, devices in zip(axes, (1, DEVICES), strict=True):
        for form in FORMS:
            for scope, line in (("all", "-"), ("own", ":")):
                line_of = {
                    Case(form, studies, devices, scope): studies for studies in sorted({c.studies for c in sizes})
                }
                found = [(studies, sizes[c]["temporaries"]) for c, studies in line_of.items() if c in sizes]
                if found:
                    axis.plot(
                        *zip(*found, strict=True), line, color=colours[form], marker="o", ms=3, label=f"{form}, {scope}"
                    )
        axis.set(xscale="log", yscale="log", xlabel="global batch", title=f"{devices} device{'s' * (devices > 1)}")
        axis.set_xscale("log", base=2)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, title="form, negated reports", title_fontsize=8)
    axes[0].set_ylabel("temporaries a device (MiB)")
    figure.suptitle("Value and gradient of the loss (t + c + g, negation), d = 512, float32")
    figure.savefig(path, dpi=130)


def slope(sizes: dict[Case, dict[str, float]], form: str, first: int = 8192, last: int = 65536) -> float:
    """Log-log slope of the temporaries by a straight line over all batches from first to last."""
    points = [(c.studies, s["temporaries"]) for c, s in sizes.items() if c == Case(form, c.studies)]
    batch, memory = np.log(np.array([point for point in points if first <= point[0] <= last])).T
    return float(np.polyfit(batch, memory, 1)[0])


def parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        program="bench/loss.py", description=__doc__.split("\n")[0], example="python bench/loss.py --quick"
    )
    parser.prog = "python bench/loss.py"
    parser.add_argument("--quick", action="store_true", help="four batches, scope all, three runs")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the forms taking turns")
    parser.add_argument("--output", metavar="DIR", default="", help="where loss.png goes (default: nowhere)")
    return parser


def main(args: argparse.Namespace) -> int:
    """Compile every case, run those that fit, print tables and one JSON line."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    batches = (1024, 8192, 32768, 65536) if args.quick else tuple(2**k for k in range(10, 17))
    scopes = ("all",) if args.quick else ("all", "own")
    repeats = 3 if args.quick else args.repeats
    cases = [
        Case(form, studies, devices, scope)
        for devices in (DEVICES, 1)
        for scope in scopes
        for form in FORMS
        for studies in batches
        if (form in ("dense", "ring") or devices > 1) and (form != "dense" or devices == 1)
    ]
    cases += [Case("ring", 32768, graph=1.0), Case("sharded", 32768, graph=1.0)]
    sizes = {case: apart(size_of, case) for case in tqdm(cases, desc="compiling", disable=None)}
    print(f"{'temporaries a device, MiB':34}" + "".join(f"{studies:>10,}" for studies in batches))
    for form, devices, scope in sorted({(c.form, c.devices, c.scope) for c in cases}, key=lambda key: (-key[1], key)):
        row = [sizes.get(Case(form, studies, devices, scope)) for studies in batches]
        cells = "".join(f"{cell['temporaries']:10,.0f}" if cell else f"{'-':>10}" for cell in row)
        print(f"{f'{form}, {devices} device(s), {scope}':34}{cells}")
    ring, other = (sizes[Case(form, 32768)] for form in ("ring", "sharded"))
    with_graph = [sizes[Case(form, 32768, graph=1.0)]["temporaries"] for form in ("ring", "sharded")]
    value = ring["temporaries"] / other["temporaries"]
    detail: dict[str, Any] = {
        "ring_mib": ring["temporaries"],
        "sharded_mib": other["temporaries"],
        "ring_over_arguments": ring["temporaries"] / ring["held"],
        "ring_slope": slope(sizes, "ring"),
        "with_graph_mib": dict(zip(("ring", "sharded"), with_graph, strict=True)),
        "ring_one_device_mib": sizes[Case("ring", 32768, 1)]["temporaries"],
    }
    print(
        f"\nat 32,768 on 8 devices, all: ring / sharded {value:.4f}; ring / arguments "
        f"{detail['ring_over_arguments']:.2f}; "
        f"slope of ring from 8,192 to 65,536 {detail['ring_slope']:.2f}; with graph alignment "
        f"ring {with_graph[0]:,.0f}, sharded {with_graph[1]:,.0f} MiB"
    )
    sides = ("ring", DEVICES), ("sharded", DEVICES), ("jit", DEVICES), ("dense", 1), ("ring", 1)
    runs = [Case(form, studies, d) for studies in ((8192,) if args.quick else RUN) for form, d in sides]
    if not args.quick:
        runs += [Case(form, 8192, d, "own") for form, d in sides] + [Case("ring", 32768, 1), Case("ring", 16384)]
    print(f"\n{'run in a process of its own':34}{'peak MiB':>10}{'seconds':>10}")
    detail["runs"] = []
    for case in runs:
        cost = apart(cost_of, case, 1 if case.studies > 8192 else 2)
        detail["runs"].append(case._asdict() | cost)
        title = f"{case.form}, {case.devices} device(s), {case.scope}, {case.studies:,}"
        print(f"{title:34}{cost['peak']:10,.0f}{cost['seconds']:10.2f}", flush=True)
    turns = apart(duel, [Case(form, 8192) for form in ("ring", "sharded", "jit")], repeats)
    detail["turns"] = turns
    print(
        f"\ntaking turns at 8,192 on 8 devices: {turns['seconds']} s; ring / faster other {turns['ratio']:.2f} "
        f"(paired {turns['paired']:.2f})"
    )
    if args.output:
        files.make_folder(Path(args.output))
        picture(sizes, Path(args.output) / "loss.png")
    detail = json.loads(json.dumps(detail), parse_float=lambda text: round(float(text), 4))
    print(
        json.dumps(
            {"name": "loss", "value": round(value, 5), "unit": "ratio", "goal": round(GOAL, 5), "detail": detail}
        )
    )
    return 0


if __name__ == "__main__":
    cli.run(main, parser())
