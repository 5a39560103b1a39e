"""What the loss exchanges and holds on each device as devices are added, from 8 to 512, the share of each the same.

The loss is that of `bench/loss.py`: three soft-label streams, the negated reports of all, embeddings of 512. It is
compiled, never run; floats are read from the compiled program, what loops repeat counted as often as they do. A gather
counts as the whole array it makes, a reduce-scatter as the one it takes, both passes together.

    python bench/scaling.py [--quick]

The last line is JSON; its value is the ring's floats a study of the global batch over sharded's, on the most devices.
"""

import argparse
import json
import os
from collections import Counter
from typing import Any

from loss import MIB, Case, apart, build
from tqdm import tqdm

from clinicclip import cli

GOAL = 1.35
SHARE = 128  # studies a device, met in blocks of as many
FORMS = ("sharded", "ring")
DEVICES = tuple(2**k for k in range(3, 10))
KINDS = ("collective-permute", "all-gather", "reduce-scatter", "all-reduce")


def measure(case: Case) -> dict[str, Any]:
    """Floats exchanged a study by kind, and MiB a device: arguments, temporaries, and what is exchanged."""
    from clinicclip.training.compiled import collectives

    program = build(case)
    exchanged: Counter[str] = Counter()
    for each in collectives(program.compiled.as_text()):
        exchanged[each.kind] += each.bytes
    return {
        "floats": {kind: count / 4 / case.studies for kind, count in exchanged.items()},
        "exchanged": exchanged.total() / MIB,
        "held": program.held,
        "temporaries": program.temporaries,
    }


def parser() -> cli.Parser:
    """The command line."""
    parser = cli.Parser(
        program="bench/scaling.py", description=__doc__.split("\n")[0], example="python bench/scaling.py"
    )
    parser.prog = "python bench/scaling.py"
    parser.add_argument("--quick", action="store_true", help="8, 64 and 512 devices only")
    return parser


def main(args: argparse.Namespace) -> int:
    """Compile every case, print a table and one JSON line."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    cases = [Case(form, SHARE * d, d) for form in FORMS for d in DEVICES[:: 3 if args.quick else 1]]
    found = {}
    for case in tqdm(cases, desc="compiling", disable=None):
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={case.devices}"
        found[case] = apart(measure, case)
    print(f"{'':8}{'':>8}{'':>9}  floats a study of the global batch{'':23}MiB a device")
    heads = ("permuted", "gathered", "scattered", "reduced", "all")
    print(f"{'form':8}{'devices':>8}{'studies':>9}" + "".join(f"{head:>11}" for head in heads), end="")
    print("".join(f"{head:>13}" for head in ("exchanged", "arguments", "temporaries")))
    for case, row in found.items():
        floats = [*(row["floats"].get(kind, 0.0) for kind in KINDS), sum(row["floats"].values())]
        print(f"{case.form:8}{case.devices:8,}{case.studies:9,}" + "".join(f"{cell:11,.1f}" for cell in floats), end="")
        print("".join(f"{row[key]:13,.0f}" for key in ("exchanged", "held", "temporaries")))
    totals = {(case.form, case.devices): sum(row["floats"].values()) for case, row in found.items()}
    value = totals["ring", DEVICES[-1]] / totals["sharded", DEVICES[-1]]
    growth = totals["ring", DEVICES[-1]] / totals["ring", DEVICES[0]]
    print(
        f"\nring / sharded on {DEVICES[-1]} devices {value:.3f}; ring on {DEVICES[-1]} / on {DEVICES[0]} {growth:.4f}"
    )
    rows = [
        {"form": case.form, "devices": case.devices, "studies": case.studies}
        | {key: round(row[key], 1) for key in ("exchanged", "held", "temporaries")}
        | {"floats": round(sum(row["floats"].values()), 1)}
        for case, row in found.items()
    ]
    detail = {"growth": round(growth, 4), "rows": rows}
    print(json.dumps({"name": "scaling", "value": round(value, 4), "unit": "ratio", "goal": GOAL, "detail": detail}))
    return 0


if __name__ == "__main__":
    cli.run(main, parser())
