"""Prepared data, or an export -> what would spoil an evaluation, what to look at, and what to know."""

import argparse
import functools
from pathlib import Path

import jax

from clinicclip import cli, files
from clinicclip.checks import page, prepared, weights
from clinicclip.checks.base import Examination
from clinicclip.errors import UsageError
from clinicclip.exporting import parity, recheck

EXAMPLE = """python -m clinicclip.doctor data data/openi --output=doctor
  python -m clinicclip.doctor data data/train,data/test --tokenizer=FOLDER
  python -m clinicclip.doctor checkpoint runs/n_g_dtcg-demo/export

exit code 1: something was found that spoils an evaluation (a patient or an image on both sides; a stage of an export,
from its preprocessing to its embeddings, that is not what its weights were written with)"""


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="doctor", description=__doc__ or "", example=EXAMPLE)
    flags.add_argument("what", type=cli.one_of(EXAMINERS), help="what to examine: data, or checkpoint")
    flags.add_argument("place", help="data: DIR[,DIR...] of prepared data, examined together; checkpoint: an export")
    flags.add_argument("--output", type=Path, default=Path("doctor"), help="folder of doctor.md and .json (doctor)")
    flags.add_argument("--train", default="", help="training splits, joined by +; default: train, or all")
    flags.add_argument("--tokenizer", default="", metavar="FOLDER", help="default: a vocabulary of these reports")
    length = functools.partial(cli.count, least=3)
    flags.add_argument("--text_length", type=length, default=256, help="tokens that the text tower reads (256)")
    flags.add_argument("--theta", type=_share, default=0.5, help="least soft label that counts as alike (0.5)")
    return flags


def main(args: argparse.Namespace) -> int:
    """Examines, writes the page, prints what was found; 1 when an evaluation would be spoilt."""
    jax.config.update("jax_platforms", "cpu")  # a look at data takes no accelerator from anybody
    examined = EXAMINERS[args.what](args)
    files.make_folder(args.output)
    page.write(args.output, examined)
    print("\n".join([*(f"{name}: {value}" for name, value in examined.what.items()), ""]))
    print("\n".join([*page.terminal(examined.findings), "", f"page: {args.output / page.PAGE}"]))
    return int(examined.spoilt)


def examine_data(args: argparse.Namespace) -> Examination:
    """Prepared folders, taken together. Raises UserError."""
    folders = [Path(folder) for folder in args.place.split(",")]
    if len(set(folders)) < len(folders):
        raise UsageError(f"{args.place} names a folder twice")
    return prepared.examine(
        folders, train=args.train, tokenizer=args.tokenizer, length=args.text_length, theta=args.theta
    )


def examine_checkpoint(args: argparse.Namespace) -> Examination:
    """An export, by everybody here who can read it. Raises UserError."""
    folder = Path(args.place)
    readers = [
        weights.Reader(reader, [weights.Stage(stage.name, stage.holds, stage.said) for stage in stages])
        for reader, stages in recheck.read_again(folder)
    ]
    return weights.examine(folder.name, readers, parity.absent(folder))


EXAMINERS = {"data": examine_data, "checkpoint": examine_checkpoint}


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, not {text!r}")
    return share


if __name__ == "__main__":
    cli.run(main, parser())
