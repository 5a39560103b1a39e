"""A checkpoint or export -> zero-shot, retrieval and negation metrics with intervals, as a report."""

import argparse
import functools
from pathlib import Path

from clinicclip import api, cli
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import report, sets, suites
from clinicclip.evals.base import EmbedFns
from clinicclip.evals.truth import View

EXAMPLE = "python -m clinicclip.evaluate --checkpoint=runs/dt_c --data=openi:data/openi --output=report"


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="evaluate", description=__doc__, example=EXAMPLE)
    cli.add_model_flags(flags, "; or a CLIP folder of open_clip or transformers (needs torch)")
    flags.add_argument("--data", required=True, help="NAME:DIR[,NAME:DIR] of prepared folders; NAME heads the metrics")
    flags.add_argument("--output", required=True, type=Path, help="folder of the report")
    flags.add_argument("--suite", default=",".join(suites.SUITES), help=f"default: {','.join(suites.SUITES)}")
    flags.add_argument("--split", default="", help="default: what the run held out, else the folder's test split")
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
    places = _places(args.data)
    model = api.load_any(args.checkpoint, force=args.force)
    view = View(model.square, model.says)
    opened = []
    for name, folder in places.items():
        split = args.split or sets.held_out_split(folder, model.config)
        _refuse_overlap(name, split, sets.overlap(folder, split, model.config, model.trained_on), args.allow_overlap)
        opened.append(sets.open_set(name, folder, split, image_size=model.image_size, view=view, limit=args.limit))
        print(f"{name}: {len(opened[-1])} studies of split {split}", flush=True)
    embed = EmbedFns(model.embed_images, model.embed_texts)
    evaluation = suites.run_suites(embed, opened, chosen, findings=findings, draws=args.draws, seed=args.seed)
    report.write(evaluation, args.output, provenance=model.describe())
    print("\n".join(report.summary_lines(evaluation)))
    print(f"\nreport: {args.output / 'report.md'}")
    return 0


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
