"""Images and a model -> zero-shot similarities by finding, as CSV or JSON lines."""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from clinicclip import cli, host, sources
from clinicclip.data import schema
from clinicclip.data.images import ImageFault
from clinicclip.errors import UsageError
from clinicclip.evals import prompts

EXAMPLE = """python -m clinicclip.predict radiograph.png study.dcm --checkpoint=runs/n_g_dtcg-demo/export
  python -m clinicclip.predict folder/ --checkpoint=DIR --findings=edema,pleural_effusion --output=json > scores.jsonl

positive = cosine of the image to prompts that affirm the finding; pair = that minus the cosine to prompts that deny it.
Similarities are no probabilities: they rank images by a finding, and compare within one model alone.
Exit code 1: some images could not be read and are named on the screen, all others are scored.
Research use only; not a medical device."""
OUTPUTS = ("csv", "json")
Row = Callable[[str, prompts.Scores], None]


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="predict", description=__doc__, example=EXAMPLE)
    flags.add_argument("images", nargs="+", help="files (JPEG, PNG, DICOM), folders, lists of files (*.txt)")
    cli.add_model_flags(flags)
    flags.add_argument(
        "--findings", default=",".join(schema.CHEXPERT), help=f"default: CheXpert's 14; of {', '.join(schema.FINDINGS)}"
    )
    flags.add_argument("--output", type=cli.one_of(OUTPUTS), default=OUTPUTS[0], help="csv, or json: a record a line")
    return flags


def main(args: argparse.Namespace) -> int:
    """Score image by image as they are read; name what could not be read."""
    findings = tuple(filter(None, (name.strip() for name in args.findings.split(","))))
    for name in findings:
        if name not in schema.INDEX:
            raise UsageError(f"--findings: {prompts.unknown(name)}")
    from clinicclip import api  # jax and all, which --help does without

    host.tune_allocator()
    host.keep_compiled()
    paths = sources.image_files(args.images)
    model = api.load(args.checkpoint, pooling=args.pooling, force=args.force)
    for line in model.config.get(api.IMPORTED, ()):
        print(line, file=sys.stderr)
    sides = prompts.embed_all(findings, model.embed_texts)
    write = WRITERS[args.output](findings)
    unread = 0
    for path, row in zip(paths, model.stream_images(paths), strict=True):
        if isinstance(row, ImageFault):
            unread += 1
            print(f"not scored: {path}: {row.reason}", file=sys.stderr)
        else:
            write(str(path), prompts.scores(row[None], sides))
    if unread:
        print(f"{unread} of {len(paths)} images could not be read", file=sys.stderr)
    return int(unread > 0)


def _csv(findings: Sequence[str]) -> Row:
    """One line an image and finding."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "finding", *prompts.Scores._fields])

    def write(name: str, scores: prompts.Scores) -> None:
        columns = np.concatenate(scores).T
        writer.writerows([name, finding, *_rounded(row)] for finding, row in zip(findings, columns, strict=True))

    return write


def _json(findings: Sequence[str]) -> Row:
    """One record an image."""

    def write(name: str, scores: prompts.Scores) -> None:
        rules = zip(prompts.Scores._fields, scores, strict=True)
        by_rule = {rule: dict(zip(findings, _rounded(row[0]), strict=True)) for rule, row in rules}
        print(json.dumps({"image": name, **by_rule}), flush=True)

    return write


def _rounded(row: Float[np.ndarray, " k"]) -> list[float]:
    return [round(value, 6) for value in row.tolist()]


WRITERS = {"csv": _csv, "json": _json}

if __name__ == "__main__":
    cli.run(main, parser())
