"""A checkpoint -> a folder that transformers and open_clip load without this package."""

import argparse
import json
from pathlib import Path
from typing import Any

from clinicclip import api, cli
from clinicclip.exporting import parity
from clinicclip.models.clip import DTYPES

EXAMPLE = "python -m clinicclip.export --checkpoint=runs/n_g_dtcg-demo --output=exports/demo"


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="export", description=__doc__, example=EXAMPLE)
    cli.add_model_flags(flags)
    flags.add_argument("--output", required=True, type=Path, help="folder to write; an earlier export is replaced")
    flags.add_argument(
        "--dtype", type=cli.one_of(DTYPES), default=DTYPES[0], help=f"of the weights: {', '.join(DTYPES)}"
    )
    return flags


def main(args: argparse.Namespace) -> int:
    """Write the export, then say what is in it and whether PyTorch agreed."""
    model = api.load(args.checkpoint, force=args.force)
    results = _results(args.checkpoint, model.describe()["parameters_sha256"])
    model.export(args.output, results, dtype=args.dtype)
    for file in sorted(path for path in args.output.rglob("*") if path.is_file()):
        print(f"{file.stat().st_size / 1e6:10.2f} MB  {file.relative_to(args.output)}")
    print(f"to publish it, if the terms of its data allow: hf upload ORG/NAME {args.output}")
    report = args.output / parity.REPORT
    if not report.is_file():
        print(
            "no parity.json: equality was not measured, nothing here reads the folder (pip install 'clinicclip[torch]')"
        )
        return 0
    for library, found in json.loads(report.read_text())["max_abs_difference"].items():
        print(
            f"{library} {found[library]} against JAX, largest difference: "
            f"image {found['image']:.1e}, text {found['text']:.1e}"
        )
    return 0


def _results(checkpoint: str, parameters: str) -> list[dict[str, Any]]:
    """The run's own test numbers, if they were measured with exactly these parameters."""
    path = Path(checkpoint.partition("@")[0]) / "report" / "results.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    return [row for row in rows if row["parameters_sha256"] == parameters]


if __name__ == "__main__":
    cli.run(main, parser())
