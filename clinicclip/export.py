"""A checkpoint -> a folder that transformers and open_clip load without this package."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from clinicclip import api, cli, files
from clinicclip.errors import UserError
from clinicclip.exporting import parity
from clinicclip.models.clip import DTYPES

EXAMPLE = "python -m clinicclip.export --checkpoint=runs/n_g_dtcg-demo --output=exports/demo"
SAME = ("parameters_sha256", "tokenizer", "pooling", "forced")  # of results and model, or they are of another
TOLD = {"metric", "value", "ci_low", "ci_high", "n", "data", "split"}  # on the card


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="export", description=__doc__, example=EXAMPLE)
    cli.add_model_flags(flags)
    flags.add_argument(
        "--output", required=True, type=Path, help="folder to write; an earlier export and its card are replaced"
    )
    flags.add_argument(
        "--dtype", type=cli.one_of(DTYPES), default=DTYPES[0], help=f"of the weights: {', '.join(DTYPES)}"
    )
    flags.add_argument("--hub", type=hub_id, metavar="ORG/NAME", help="where `push` will publish it: nothing is sent")
    return flags


def hub_id(text: str) -> str:
    """The argparse type of ORG/NAME."""
    try:
        validate_repo_id(text)
    except HFValidationError as fault:
        raise argparse.ArgumentTypeError(f"{text!r} is no hub id: {str(fault).splitlines()[0]}") from None
    if "/" not in text:
        raise argparse.ArgumentTypeError(f"expected ORG/NAME, not {text!r}")
    return text


def main(args: argparse.Namespace) -> int:
    """Write the export, then say what is in it and whether PyTorch agreed."""
    model = api.load(args.checkpoint, pooling=args.pooling, force=args.force)
    for line in model.config.get(api.IMPORTED, ()):
        print(line, file=sys.stderr)
    results = _results(args.checkpoint, model.describe())
    model.export(args.output, results, dtype=args.dtype, hub=args.hub or "")
    for file in sorted(path for path in args.output.rglob("*") if path.is_file()):
        print(f"{file.stat().st_size / 1e6:10.2f} MB  {file.relative_to(args.output)}")
    if args.hub:
        print(f"to publish it, if the terms of its data allow: python -m clinicclip.push {args.output}")
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


def _results(checkpoint: str, model: Mapping[str, str]) -> list[dict[str, Any]]:
    """The run's own test numbers, if they are of exactly these parameters, given texts and images as the model is."""
    path = Path(files.at(checkpoint)[0]) / "report" / "results.json"
    if not path.is_file():
        return []
    try:
        rows = [dict(row) for row in json.loads(files.content(path))]
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged (no list of results): evaluate again, or remove it") from None
    own = [row for row in rows if all(row.get(key) == model.get(key) for key in SAME)]
    if not all(row.keys() >= TOLD for row in own):
        raise UserError(f"{path} is damaged (a result lacks one of {', '.join(sorted(TOLD))}): evaluate again")
    return own


if __name__ == "__main__":
    cli.run(main, parser())
