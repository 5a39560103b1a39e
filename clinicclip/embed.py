"""Images or texts -> their embeddings, in parts of safetensors or parquet; after a kill the same command goes on."""

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import clinicclip
from clinicclip import cli, host, sources, vectors
from clinicclip.data.images import ImageFault
from clinicclip.errors import UsageError, UserError

EXAMPLE = """python -m clinicclip.embed radiographs/ --checkpoint=runs/n_g_dtcg-demo/export --output=embeddings
  python -m clinicclip.embed --texts=reports.jsonl --checkpoint=runs/n_g_dtcg-demo/export --output=embeddings-texts

OUTPUT holds embeddings.json, the settings, and part-NNNNN files; exit code 1: some images could not be read and are
named on the screen and in their part, all others are there."""


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="embed", description=__doc__, example=EXAMPLE)
    flags.add_argument("images", nargs="*", help="files (JPEG, PNG, DICOM), folders, lists of files (*.txt)")
    flags.add_argument("--texts", type=Path, metavar="FILE", help='one text a line, or *.jsonl with "text" and "id"')
    cli.add_model_flags(flags)
    flags.add_argument("--output", required=True, type=Path, help="folder of the embeddings")
    flags.add_argument("--format", type=cli.one_of(vectors.FORMATS), default=vectors.FORMATS[0], help="of the parts")
    flags.add_argument(
        "--part", type=functools.partial(cli.count, least=1), default=4096, help="images or texts a part (4096)"
    )
    return flags


def main(args: argparse.Namespace) -> int:
    """Embed part by part what is still to be embedded; name what could not be read."""
    if bool(args.images) == bool(args.texts):
        raise UsageError("name either images or --texts=FILE")
    from clinicclip import api  # jax and all, which --help does without

    host.tune_allocator()
    host.keep_compiled()
    names, texts = sources.texts(args.texts) if args.texts else ([], [])
    paths = sources.image_files(args.images) if args.images else []
    names = names or [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise UserError("some of the images or ids are named twice; name each once")
    model = api.load(args.checkpoint, pooling=args.pooling, force=args.force)
    for line in model.config.get(api.IMPORTED, ()):
        print(line, file=sys.stderr)
    settings = {"kind": "texts" if args.texts else "images", "count": len(names), "part": args.part}
    settings |= {"input_sha256": _digest([names, texts]), **model.describe()}
    store = vectors.Store(args.output, args.format, settings)
    try:
        with host.StopRequest():
            faults = _embed(model, store, names, texts or paths, args.part)
    except host.Stopped:
        print("stopped; what was embedded is kept, the same command goes on")
        return cli.PREEMPTED
    print(f"{args.output}: {len(names) - len(faults):,} of {len(names):,} {settings['kind']} embedded")
    for name, reason in faults.items():
        print(f"not embedded: {name}: {reason}", file=sys.stderr)
    return int(bool(faults))


def _embed(
    model: "clinicclip.ClinicCLIP", store: vectors.Store, names: Sequence[str], items: Sequence[str | Path], size: int
) -> dict[str, str]:
    """Makes the parts that are not there; what could not be read in any of them, by name."""
    faults: dict[str, str] = {}
    with tqdm(total=len(names), disable=None, unit=" embedded", smoothing=0.05) as bar:
        for number, first in enumerate(range(0, len(names), size)):
            these, rows = names[first : first + size], items[first : first + size]
            found = store.unreadable(number)
            if found is None:
                part = _part(these, _vectors(model, rows, bar), model.spec.dim)
                store.write(number, part)
                found = dict(part.unreadable)
            else:
                bar.update(len(these))
            faults |= found
    return faults


def _vectors(
    model: "clinicclip.ClinicCLIP", items: Sequence[str | Path], bar: tqdm
) -> Iterator[np.ndarray | ImageFault]:
    texts = [item for item in items if isinstance(item, str)]
    for row in iter(model.embed_texts(texts)) if texts else model.stream_images(items):
        bar.update()
        yield row


def _part(names: Sequence[str], rows: Iterator[np.ndarray | ImageFault], dim: int) -> vectors.Part:
    kept, embedded, faults = [], [], {}
    for name, row in zip(names, rows, strict=True):
        if isinstance(row, ImageFault):
            faults[name] = row.reason
        else:
            kept.append(name)
            embedded.append(row)
    return vectors.Part(kept, np.stack(embedded) if embedded else np.zeros((0, dim), np.float32), faults)


def _digest(content: Sequence[Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


if __name__ == "__main__":
    cli.run(main, parser())
