"""A checkpoint or export -> zero-shot, retrieval, negation, probe and grounding metrics with intervals, as a report.

Or two of its results: how far they are apart, and why.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from clinicclip import api, cli, explain, files, host, scoring, tabular
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import comparing, prompts, report, sets, stored, suites
from clinicclip.evals.base import EvalSet

EXAMPLE = """python -m clinicclip.evaluate --checkpoint=runs/dt_c --data=openi:data/openi --output=report
  python -m clinicclip.evaluate --compare=runs/dt/report,runs/dt_c/report --output=comparison
  python -m clinicclip.evaluate --explain=report,theirs --output=explanation"""


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="evaluate", description=__doc__, example=EXAMPLE)
    cli.add_model_flags(flags, " (others are read in torch where it is installed)", required=False)
    flags.add_argument("--data", help="NAME:DIR[@SPLIT],... of prepared folders; NAME heads the metrics")
    flags.add_argument("--output", required=True, type=Path, help="folder of the report")
    flags.add_argument("--compare", metavar="A,B", help="two result folders: how far B is from A, and tests, instead")
    flags.add_argument("--explain", metavar="A,B", help="two result folders: what makes B differ from A, instead")
    usual = f"among {', '.join(suites.SUITES)}; default: all that fit a set but {', '.join(suites.LEARNING)}"
    flags.add_argument("--suite", default="", help=usual)
    flags.add_argument("--split", default="", help="default: what the run held out, else the folder's test split")
    flags.add_argument("--train_split", default="", help="what probes learn from; default: the run's or folder's")
    flags.add_argument(
        "--validation_split", default="", help="what thresholds are chosen on; default: the run's or folder's"
    )
    flags.add_argument(
        "--prompts", default="reports", help=f"prompt set: {', '.join(prompts.NAMES)}, or a JSON file of their form"
    )
    flags.add_argument(
        "--allow_overlap", action="store_true", help="score patients the model was trained on all the same"
    )
    flags.add_argument("--findings", default="", help="findings of the zero-shot macro mean; default: all coded ones")
    flags.add_argument("--limit", type=cli.count, default=0, help="studies a set; 0 = all")
    flags.add_argument(
        "--draws", type=functools.partial(cli.count, least=1), default=1000, help="bootstrap draws by patient"
    )
    flags.add_argument(
        "--cache", type=Path, help="folder of embeddings, found again by whatever reads the same (OUTPUT/embeddings)"
    )
    flags.add_argument("--seed", type=cli.count, default=0, help="of bootstrap, altered texts and control images")
    return flags


def main(args: argparse.Namespace) -> int:
    """Evaluates a checkpoint, or holds two evaluations side by side."""
    if args.compare and args.explain:
        raise UsageError("--compare and --explain are two questions: ask one at a time")
    if args.compare:
        return compare(*_pair("--compare", args.compare), args.output)
    if args.explain:
        return explain.explain(*_pair("--explain", args.explain), args.output)
    for flag in ("checkpoint", "data"):
        if not getattr(args, flag):
            raise UsageError(f"--{flag} is missing (see python -m clinicclip.evaluate --help)")
    return evaluate(args)


def evaluate(args: argparse.Namespace) -> int:
    """Embed each set once, run the suites, write the report, print its summary."""
    host.keep_compiled()
    chosen, findings = _names(args.suite) or suites.USUAL, _names(args.findings)
    suites.check_names(chosen, findings)
    places = scoring.places(args.data)
    prompts.PromptSet.load(args.prompts)
    model = api.load_any(args.checkpoint, pooling=args.pooling, force=args.force)
    for line in model.config.get(api.IMPORTED, ()):
        print(line, flush=True)
    setting = scoring.Setting(
        checkpoint=scoring.absolute(args.checkpoint),
        data={name: _place(args, name, where, model, chosen) for name, where in places.items()},
        suites=chosen,
        findings=findings,
        prompts=args.prompts if args.prompts in prompts.NAMES else str(Path(args.prompts).resolve()),
        draws=args.draws,
        seed=args.seed,
    )
    opened = []
    for found in scoring.open_sets(setting, model):
        print("\n".join((*_told(found), *_without(found.measured, chosen, named=bool(args.suite)))), flush=True)
        opened.append(found)
    evaluation = scoring.score(setting, model, opened, args.cache or args.output / "embeddings")
    scoring.publish(evaluation, args.output, setting, model.describe())
    print("\n".join(report.summary_lines(evaluation)))
    print(f"\nreport: {args.output / 'report.html'}")
    return 0


def compare(first: Path, second: Path, output: Path) -> int:
    """Writes every difference as compare.csv, those a reader looks at first as compare.md, and prints these."""
    sides = stored.read(first), stored.read(second)
    every = comparing.compare(*sides)
    if not every:
        raise UserError(f"{first} and {second} share no number of one data set: evaluate both on the same --data names")
    heading, table = comparing.heading(*sides, every), comparing.table(every)
    files.make_folder(output)
    files.write_whole(output / "compare.csv", tabular.comma_separated([asdict(one) for one in every]))
    files.write_whole(output / "compare.md", "\n\n".join(heading) + "\n\n" + "\n".join(tabular.markdown(table)))
    print("\n".join([*heading, "", *tabular.aligned(table), "", f"all {len(every)} numbers: {output / 'compare.csv'}"]))
    return 0


def _pair(flag: str, text: str) -> tuple[Path, Path]:
    names = _names(text)
    if len(names) != 2:
        raise UsageError(f"{flag}={text}: expected two result folders, A,B")
    return Path(names[0]), Path(names[1])


def _place(
    args: argparse.Namespace, name: str, where: scoring.Where, model: scoring.Model, chosen: Sequence[str]
) -> scoring.Place:
    """Which splits of a folder are scored, learnt from and chosen by. Raises UserError for what was trained on."""
    folder = where.folder
    split = where.split or args.split or sets.held_out_split(folder, model.config)
    _refuse_overlap(name, split, sets.overlap(folder, split, model.config, model.trained_on), args.allow_overlap)
    if kinship := sets.kinship(folder, model.config):
        print(f"warning: {name}: {kinship} (no id tells): these may be no held-out numbers", file=sys.stderr)
    users = {"train": suites.LEARNING, "validation": suites.CHOOSING}
    others = {
        role: getattr(args, f"{role}_split") or sets.other_split(folder, role, split, model.config)
        for role, using in users.items()
        if set(using) & set(chosen)
    }
    return scoring.Place(str(folder.resolve()), split, args.limit, digest=scoring.data_digest(folder), **others)


def _without(measured: EvalSet, chosen: Sequence[str], *, named: bool) -> Iterator[str]:
    """Which suites a set is scored without. Raises UsageError where one that was named does not fit it."""
    fitting = suites.fitting(measured, chosen)
    unfit = ", ".join(name for name in chosen if name not in fitting)
    if unfit and named:
        raise UsageError(f"{measured.name} has no reports, as {unfit} take: choose among {', '.join(suites.OF_IMAGES)}")
    if unfit:
        yield f"{measured.name}: no reports, so without {unfit}"


def _told(found: scoring.Opened) -> Iterator[str]:
    measured = found.measured
    yield f"{measured.name}: {len(measured)} studies of split {measured.split}"
    if measured.coarse:
        yield f"note: {measured.name}: {measured.coarse}"
    for role, other in found.beside._asdict().items():
        if other:
            yield f"{measured.name}: {len(other)} studies of split {other.split} for {role}"


def _refuse_overlap(name: str, split: str, overlap: str, allowed: bool) -> None:
    if not overlap:
        return
    told = f"{name}, split {split}: this model was trained on {overlap}"
    if not allowed:
        raise UserError(f"{told}; choose another --split, or add --allow_overlap to score them all the same")
    print(f"note: {told}; these are not held-out numbers")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


if __name__ == "__main__":
    cli.run(main, parser())
