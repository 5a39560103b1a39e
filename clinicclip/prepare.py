"""A public release, a folder of pairs or the synthetic phantom -> checked, split, ready-to-train records."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinicclip import cli
from clinicclip.data import builder, images, releases
from clinicclip.data.manifest import BEYOND_LIMIT, DROPPED, USED
from clinicclip.errors import UsageError

EXAMPLE = """python -m clinicclip.prepare mimic_cxr --source=DIR --reports=ZIP --output=data/mimic_cxr --workers=16
  python -m clinicclip.prepare openi --source=DIR --output=data/openi --workers=4
  python -m clinicclip.prepare folder --source=DIR --output=data/mine
  python -m clinicclip.prepare phantom --level=easy --studies=2000 --size=128 --output=data/phantom

folder: DIR/pairs.jsonl holds one {"image": path, "text": report, "patient": id} a line, and may give
  "study", "split" (train, validation, test), "labels" ({CheXpert finding: 1, 0 or -1}), "view", "sex".
mimic_cxr: DIR is the download of MIMIC-CXR-JPG; --reports names mimic-cxr-reports.zip (or the folder it was unpacked
  to) where it is not in DIR; --labels=chexpert, negbio or text says whose training labels to take."""


def parser() -> cli.Parser:
    """The command line of this program."""
    result = cli.Parser(program="prepare", description=__doc__ or "", example=EXAMPLE)
    add = result.add_argument
    known = sorted(releases.READERS)
    add("release", type=cli.one_of(known), help=f"what to read: {', '.join(known)}")
    add("--source", type=Path, help="folder of the unpacked release")
    add("--output", type=Path, required=True, help="folder to write; a killed run continues there")
    add(
        "--limit",
        type=cli.count,
        default=0,
        metavar="N",
        help="use the first N image-report pairs only (0 = all)",
    )
    workers = functools.partial(cli.count, most=256)
    add("--workers", type=workers, default=0, metavar="K", help="processes (0 = this one alone)")
    add("--dry_run", action="store_true", help="say what would be written and dropped; write nothing")
    add(
        "--shorter_side",
        type=functools.partial(cli.count, least=16),
        default=images.SHORTER_SIDE,
        metavar="PIXELS",
        help="of stored images",
    )
    add("--seed", type=cli.count, default=0, help="of altered reports and of the phantom")
    for name, (default, owners) in _options().items():
        kind = type(default)
        add(
            f"--{name}",
            type=kind,
            metavar=kind.__name__.upper(),
            help=f"{', '.join(owners)} only" + f" ({default})" * (default != ""),
        )
    return result


def main(args: argparse.Namespace) -> int:
    """Prepares the release and prints the account."""
    reader = releases.READERS[args.release]
    given = {name: getattr(args, name) for name in _options() if getattr(args, name) is not None}
    for name in given:
        if name not in reader.OPTIONS:
            raise UsageError(f"--{name} is not a setting of {args.release}")
    if bool(args.source) == reader.GENERATED:
        raise UsageError(f"{args.release} {'takes no' if reader.GENERATED else 'needs'} --source")
    manifest = builder.write(
        args.release,
        args.output,
        source=args.source,
        options=dict(reader.OPTIONS) | given,
        limit=args.limit,
        workers=args.workers,
        dry_run=args.dry_run,
        shorter_side=args.shorter_side,
        seed=args.seed,
    )
    verb = "would hold" if args.dry_run else "holds"
    print(f"{args.output} {verb} {manifest['title']}\n{account(manifest)}\n  licence: {manifest['licence']}")
    if manifest["dropped"] and not args.dry_run:
        print(f"  every report and image left out is named in {args.output / DROPPED}")
    return 0


def account(manifest: Mapping[str, Any]) -> str:
    """The table of splits and of what was dropped for which reason, for a terminal."""
    rows = [("split", "records", "patients")]
    rows += [(name, f"{n['records']:,}", f"{n['patients']:,}") for name, n in manifest["splits"].items()]
    total = {unit: sum(n[unit] for n in manifest["splits"].values()) for unit in rows[0][1:]}
    rows.append(("total", f"{total['records']:,}", f"{total['patients']:,}"))
    lines = ["  " + name.ljust(12) + "".join(cell.rjust(10) for cell in cells) for name, *cells in rows]
    for kind, found in manifest["source"].items():
        lines.append(f"  {found:,} {kind} found{_published(manifest['published'].get(kind), found)}")
        if kind not in manifest:
            continue
        counts = manifest[kind]
        lines[-1] += f": {counts[USED]:,} used"
        lines += [f"    {n:>8,} {_words(reason)}" for reason, n in counts.items() if reason != USED]
    if manifest["image_flags"]:
        lines.append("  images used as they are, but look at them (image_flags):")
        lines += [f"    {n:>8,} {flag}" for flag, n in manifest["image_flags"].items()]
    return "\n".join(lines)


def _published(stated: int | None, found: int) -> str:
    if stated is None:
        return ""
    return ", as published" if stated == found else f" of the {stated:,} published"


def _words(reason: str) -> str:
    return "not read (--limit)" if reason == BEYOND_LIMIT else reason


def _options() -> dict[str, tuple[Any, list[str]]]:
    """{setting of a reader: (default, releases that know it)}."""
    options: dict[str, tuple[Any, list[str]]] = {}
    for name, reader in releases.READERS.items():
        for key, default in reader.OPTIONS.items():
            options.setdefault(key, (default, []))[1].append(name)
    return options


if __name__ == "__main__":
    cli.run(main, parser())
