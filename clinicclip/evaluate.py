"""A checkpoint or export -> zero-shot, retrieval, negation, probe and grounding metrics with intervals, as a report."""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinicclip import api, cli
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import prompts, report, sets, suites
from clinicclip.evals.base import EmbedFns, EvalSet

EXAMPLE = "python -m clinicclip.evaluate --checkpoint=runs/dt_c --data=openi:data/openi --output=report"


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="evaluate", description=__doc__, example=EXAMPLE)
    flags.add_argument("--checkpoint", required=True, help="WORKDIR, WORKDIR@STEP or an exported folder")
    flags.add_argument("--data", required=True, help="NAME:DIR[,NAME:DIR] of prepared folders; NAME heads the metrics")
    flags.add_argument("--output", required=True, type=Path, help="folder of the report")
    usual = f"among {', '.join(suites.SUITES)}; default: all but {', '.join(suites.LEARNING)}"
    flags.add_argument("--suite", default=",".join(suites.USUAL), help=usual)
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
    flags.add_argument("--seed", type=cli.count, default=0, help="of bootstrap, altered texts and control images")
    return flags


def main(args: argparse.Namespace) -> int:
    """Embed each set once, run the suites, write the report, print its summary."""
    chosen, findings = _names(args.suite), _names(args.findings)
    suites.check_names(chosen, findings)
    places, wording = _places(args.data), prompts.PromptSet.load(args.prompts)
    model = api.load(args.checkpoint)
    opened, beside = [], {}
    for name, folder in places.items():
        split = args.split or sets.held_out_split(folder, model.config)
        _refuse_overlap(name, split, sets.overlap(folder, split, model.config, model.trained_on), args.allow_overlap)
        opened.append(sets.open_set(name, folder, split, image_size=model.image_size, limit=args.limit))
        print(f"{name}: {len(opened[-1])} studies of split {split}", flush=True)
        if opened[-1].unread:
            print(f"{name}: left out, as their images cannot be read: {', '.join(opened[-1].unread)}", flush=True)
        beside[name] = _beside(args, folder, opened[-1], model.config, chosen)
    embed = EmbedFns(model.embed_images, model.embed_texts, model.embed_patches)
    evaluation = suites.run_suites(
        embed,
        opened,
        chosen,
        findings=findings,
        draws=args.draws,
        seed=args.seed,
        beside=beside,
        wording=wording,
    )
    report.write(evaluation, args.output, provenance=model.describe())
    print("\n".join(report.summary_lines(evaluation)))
    print(f"\nreport: {args.output / 'report.md'}")
    return 0


def _beside(
    args: argparse.Namespace, folder: Path, measured: EvalSet, config: Mapping, chosen: Sequence[str]
) -> suites.Beside:
    """The splits that the chosen suites learn from and choose by. Raises UserError when they share patients."""
    name, size = measured.name, measured.images.shape[1]
    users = {"train": suites.LEARNING, "validation": suites.CHOOSING}
    found: dict[str, EvalSet | None] = {}
    for role, using in users.items():
        asked = getattr(args, f"{role}_split")
        split = asked or sets.other_split(folder, role, measured.split, config)
        found[role] = None
        if not split or not set(using) & set(chosen):
            continue
        other = sets.open_set(name, folder, split, image_size=size, limit=args.limit)
        shared = len(set(other.patients) & set(measured.patients))
        if shared:
            raise UserError(
                f"{name}: {shared} patients are both in split {measured.split} and in {split}; choose another "
                f"--{role}_split"
            )
        print(f"{name}: {len(other)} studies of split {split} for {role}", flush=True)
        found[role] = other
    return suites.Beside(**found)


def _refuse_overlap(name: str, split: str, overlap: str, allowed: bool) -> None:
    if not overlap:
        return
    told = f"{name}, split {split}: this model was trained on {overlap}"
    if not allowed:
        raise UserError(f"{told}; choose another --split, or add --allow_overlap to score them all the same")
    print(f"note: {told}; these are not held-out numbers")


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _places(text: str) -> dict[str, Path]:
    places: dict[str, Path] = {}
    for item in _names(text):
        name, colon, folder = item.partition(":")
        if not (name and colon and folder):
            raise UsageError(f"--data={item}: expected NAME:DIR, such as openi:data/openi")
        if name in places:
            raise UsageError(f"--data names {name!r} twice; give each folder a name of its own")
        places[name] = Path(folder)
    return places


if __name__ == "__main__":
    cli.run(main, parser())
