"""A public release, a folder of pairs or the synthetic phantom -> checked, split, ready-to-train records."""

import argparse
import functools
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinicclip import account, cli
from clinicclip.data import beam, builder, images, radgraph, releases
from clinicclip.data.generators import llm, templates
from clinicclip.data.generators.endpoint import DATA_USE, KEY_VARIABLE, Endpoint
from clinicclip.data.manifest import DROPPED
from clinicclip.errors import UsageError

GENERATORS = (templates.TRAIN.name, llm.NAME)
EXAMPLE = """python -m clinicclip.prepare mimic_cxr --source=DIR --reports=ZIP --output=data/mimic_cxr --workers=16
  python -m clinicclip.prepare openi --source=DIR --output=data/openi --workers=4
  python -m clinicclip.prepare ms_cxr --source=DIR --images=DIR_OF_MIMIC_CXR_JPG --output=data/ms_cxr
  python -m clinicclip.prepare folder --source=DIR --output=data/mine
  python -m clinicclip.prepare openi --source=DIR --output=data/openi-llm --generator=llm \\
      --base_url=http://127.0.0.1:8000/v1 --model=NAME --concurrency=16
  python -m clinicclip.prepare mimic_cxr --source=DIR --output=data/mimic_cxr --radgraph=MIMIC-CXR_graphs.json
  python -m clinicclip.prepare openi --source=DIR --output=data/openi --features=models/Bio_ClinicalBERT
  python -m clinicclip.prepare mimic_cxr --source=DIR --output=DIR --runner=FlinkRunner \\
      --beam_options='--flink_master=HOST:8081 --environment_type=LOOPBACK'
  python -m clinicclip.prepare phantom --level=easy --studies=2000 --size=128 --output=data/phantom

folder: DIR/pairs.jsonl holds one {"image": path, "text": report, "patient": id} a line, and may give
  "study", "split" (train, validation, test), "labels" ({CheXpert finding: 1, 0 or -1}), "view", "sex" (F, M, O).
mimic_cxr: DIR is the download of MIMIC-CXR-JPG; --reports names mimic-cxr-reports.zip (or the folder it was unpacked
  to) where it is not in DIR; --labels=chexpert, negbio, text or a CheXbert table says whose training labels to take.
openi: views are those of projections.csv (image,uid,view) or indiana_projections.csv in DIR, else of the headers of
  NLMCXR_dcm's files; NLMCXR_png's files do not say theirs, so that without a table they need --views=all.
rsna, siim_acr, padchest: all images are for testing. --split=hash makes train, validation and test by patient, of rsna
  with RSNA's pneumonia-challenge-dataset-mappings_2018.json in DIR. Without it, and of siim_acr, nobody knows whose an
  image is: --split=image makes them by image, where a person may be in several.
ms_cxr, cxr_align: DIR holds the released table or JSON; --images names the download of MIMIC-CXR-JPG.
--labeller=chexbert.pth reads labels by CheXbert; vocab.txt of bert-base-uncased beside it, or --labeller_tokenizer.
--features works on data prepared before, too: give the same command again with it."""

RULES = "rules"


def parser() -> cli.Parser:
    """The command line of this program."""
    result = cli.Parser(program="prepare", description=__doc__ or "", example=EXAMPLE, stores=("--beam_options",))
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
    add(
        "--runner",
        type=cli.one_of(beam.RUNNERS),
        metavar="NAME",
        help="let Apache Beam make the shards, on workers that mount the disk of source and output under the same "
        f"paths (buckets are not read): {', '.join(beam.RUNNERS)}",
    )
    add("--beam_options", default="", metavar="'...'", help="for the runner: '--project=P --region=R ...'")
    add("--dry_run", action="store_true", help="say what would be written and dropped; write nothing")
    add(
        "--shorter_side",
        type=functools.partial(cli.count, least=16),
        default=images.SHORTER_SIDE,
        metavar="PIXELS",
        help="of stored images",
    )
    add("--seed", type=cli.count, default=0, help="of altered reports and of the phantom")
    _add_generator(add)
    _add_annotations(add)
    for name, (default, owners) in _options().items():
        kind = type(default)
        add(
            f"--{name}",
            type=kind,
            metavar=kind.__name__.upper(),
            help=f"{', '.join(owners)} only" + f" ({default})" * (default != ""),
        )
    return result


def _add_generator(add: Callable[..., Any]) -> None:
    """The flags that say who writes the negated reports."""
    add(
        "--generator",
        type=cli.one_of(GENERATORS),
        default=GENERATORS[0],
        help=f"who writes negated reports: {' or '.join(GENERATORS)} (a language model, asked at --base_url)",
    )
    server = "of an OpenAI-compatible server on this machine, http://127.0.0.1:PORT/v1"
    add("--base_url", metavar="URL", help=f"{server}; a key, if it wants one, is read from ${KEY_VARIABLE}")
    add("--model", default="", metavar="NAME", help="of the server; not needed where it offers only one")
    at_once = functools.partial(cli.count, least=1, most=256)
    add("--concurrency", type=at_once, default=8, metavar="N", help="questions to the server at a time (8)")
    add("--answers", type=Path, metavar="FILE", help="keep the model's answers there, for other preparations to reuse")
    add("--allow_remote", action="store_true", help=f"let --base_url be another machine: {DATA_USE}")


def _add_annotations(add: Callable[..., Any]) -> None:
    """The flags that name what other files and models say of the reports."""
    add("--radgraph", type=Path, metavar="FILE", help="RadGraph's JSON: graphs of studies named as its entries are")
    add(
        "--labeller",
        default=RULES,
        metavar="rules|FILE",
        help="what reads the training labels: rules, or CheXbert (chexbert.pth or .safetensors; impressions alone)",
    )
    add(
        "--labeller_tokenizer",
        type=Path,
        metavar="FOLDER",
        help="vocabulary of bert-base-uncased (beside CheXbert's file)",
    )
    add("--features", metavar="tfidf|FOLDER", help="also store frozen features: of TF-IDF, or of the BERT in FOLDER")
    add("--train", default="train", metavar="SPLIT", help="what tfidf is fitted on: the runs' data.train (train)")
    add(
        "--feature_dim",
        type=functools.partial(cli.count, least=1),
        default=128,
        metavar="N",
        help="width of tfidf: the runs' model.feature_dim (128)",
    )


def main(args: argparse.Namespace) -> int:
    """Prepares the release and prints the account."""
    reader = releases.READERS[args.release]
    given = {name: getattr(args, name) for name in _options() if getattr(args, name) is not None}
    for name in given:
        if name not in reader.OPTIONS:
            raise UsageError(f"--{name} is not a setting of {args.release}")
    if bool(args.source) == reader.GENERATED:
        raise UsageError(f"{args.release} {'takes no' if reader.GENERATED else 'needs'} --source")
    model = _model(args)
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
        joins=_joins(args),
        model=model,
        runner=_runner(args),
    )
    verb = "would hold" if args.dry_run else "holds"
    print(f"{args.output} {verb}\n{account.told(manifest)}")
    if manifest["dropped"] and not args.dry_run:
        print(f"  every report and image left out is named in {args.output / DROPPED}")
    if args.features and args.dry_run:
        print(f"  frozen features ({args.features}) would be stored beside the shards; a dry run does not compute them")
    elif args.features:
        from clinicclip import annotate, host  # jax, which preparing alone does without

        host.tune_allocator()
        settings = {"train": args.train, "dim": args.feature_dim, "seed": args.seed}
        print(f"  frozen features: {annotate.store(args.output, manifest, args.features, **settings)}")
    return 0


def _model(args: argparse.Namespace) -> llm.Model | None:
    """The language model that the flags name, if any. Raises UsageError for flags that do not go together."""
    if args.generator != llm.NAME:
        if args.base_url or args.model or args.answers or args.allow_remote:
            raise UsageError("--base_url, --model, --answers and --allow_remote belong to --generator=llm")
        return None
    if not args.base_url:
        raise UsageError("--generator=llm needs --base_url, such as http://127.0.0.1:8000/v1")
    if args.dry_run:
        raise UsageError("--dry_run asks no language model: leave out --generator=llm")
    endpoint = Endpoint(args.base_url, allow_remote=args.allow_remote)
    if endpoint.remote:
        print(f"warning: {DATA_USE}", file=sys.stderr)
    return llm.Model(endpoint, args.model, args.concurrency, args.answers)


def _runner(args: argparse.Namespace) -> beam.Runner | None:
    """What runs the pipeline, if one is asked for. Raises UsageError for flags that do not go together."""
    if not args.runner:
        if args.beam_options:
            raise UsageError("--beam_options belongs to --runner")
        return None
    if args.dry_run or args.generator == llm.NAME:
        flag = "--dry_run" if args.dry_run else f"--generator={llm.NAME}"
        raise UsageError(f"--runner makes shards on other workers: leave out {flag}")
    try:
        options = shlex.split(args.beam_options)
    except ValueError as fault:
        raise UsageError(f"--beam_options: {fault}") from None
    if args.runner == "DirectRunner" and args.workers:
        options = [f"--direct_num_workers={args.workers}", "--direct_running_mode=multi_processing", *options]
    return beam.Runner(args.runner, tuple(options))


def _joins(args: argparse.Namespace) -> list[builder.Join]:
    """What is added to the studies from elsewhere."""
    joins: list[builder.Join] = []
    labelled = args.labeller != RULES
    for flag, given in (("radgraph", args.radgraph), ("labeller", labelled)):
        if given and not args.source:
            raise UsageError(f"--{flag}: {args.release} is generated with graphs and labels of its own")
        if given and not releases.READERS[args.release].HAS_REPORTS:
            raise UsageError(f"--{flag}: {args.release} has no reports")
    if args.labeller_tokenizer and not labelled:
        raise UsageError("--labeller_tokenizer belongs to --labeller=FILE")
    if args.radgraph:
        joins.append(radgraph.Join(args.radgraph))
    if labelled:
        from clinicclip import host, labeller  # jax, which preparing alone does without

        host.tune_allocator()
        joins.append(labeller.Join(Path(args.labeller), args.labeller_tokenizer))
    return joins


def _options() -> dict[str, tuple[Any, list[str]]]:
    """{setting of a reader: (default, releases that know it)}."""
    options: dict[str, tuple[Any, list[str]]] = {}
    for name, reader in releases.READERS.items():
        for key, default in reader.OPTIONS.items():
            options.setdefault(key, (default, []))[1].append(name)
    return options


if __name__ == "__main__":
    cli.run(main, parser())
