"""Prepared data, an export, or this machine -> what would spoil an evaluation or a run, and what to know beforehand."""

import argparse
import functools
from pathlib import Path

import jax

from clinicclip import cli, files, preflight, tabular
from clinicclip.checks import page, prepared, weights
from clinicclip.checks.base import Examination
from clinicclip.errors import UsageError
from clinicclip.exporting import parity, recheck
from clinicclip.training import processes
from clinicclip.training.roll_call import Note

EXAMPLE = """python -m clinicclip.doctor data data/openi --output=doctor
  python -m clinicclip.doctor data data/train,data/test --tokenizer=FOLDER
  python -m clinicclip.doctor checkpoint runs/n_g_dtcg-demo/export
  python -m clinicclip.doctor host /scratch/runs

exit code 1: something was found that spoils an evaluation (a patient or an image on both sides; a stage of an export,
from its preprocessing to its embeddings, that is not what its weights were written with); or, of a host, keeps it from
training. Started in several processes as train is, host examines whether they would train together."""
HOST = "host"
RUNS = "runs"  # where train puts them


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="doctor", description=__doc__ or "", example=EXAMPLE)
    known = [*EXAMINERS, HOST]
    flags.add_argument(
        "what", type=cli.one_of(known), help="what to examine: data, prepared by clinicclip.prepare; checkpoint; host"
    )
    place = "data: DIR[,DIR...], examined together; checkpoint: an export; host: where runs shall be written (runs)"
    flags.add_argument("place", nargs="?", default="", help=place)
    flags.add_argument("--output", type=Path, default=Path("doctor"), help="folder of doctor.md and .json (doctor)")
    flags.add_argument("--train", default="", help="training splits, joined by +; default: train, or all")
    flags.add_argument("--tokenizer", default="", metavar="FOLDER", help="default: a vocabulary of these reports")
    length = functools.partial(cli.count, least=3)
    flags.add_argument("--text_length", type=length, default=256, help="tokens that the text tower reads (256)")
    flags.add_argument("--theta", type=_share, default=0.5, help="least soft label that counts as alike (0.5)")
    return flags


def main(args: argparse.Namespace) -> int:
    """Examines, writes the page, prints what was found; 1 when an evaluation would be spoilt."""
    if args.what == HOST:
        return examine_host(Path(args.place or RUNS))
    if not args.place:
        raise UsageError(f"name the place to examine: doctor {args.what} DIR")
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


def examine_host(workdir: Path) -> int:
    """Prints what this machine is; 1 when it could not train. Several processes must agree, or UserError tells how."""
    noted = preflight.note(workdir)
    notes: list[Note] = []
    processes.join(noted, notes.extend)
    rows = preflight.facts(noted)
    if processes.first():
        print("\n".join(tabular.aligned(rows)), flush=True)
    if len(notes) > 1:
        preflight.require(notes)
        preflight.require_same_devices([each["host"] for each in notes])
    return int(any(verdict == preflight.PROBLEM for _, verdict, _ in rows))


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
