"""An export -> its repositories on a hub, private unless told otherwise. Nothing else here publishes anything."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import clinicclip
from clinicclip import cli
from clinicclip.errors import UserError, library_says

EXAMPLE = """python -m clinicclip.export --checkpoint=runs/n_g_dtcg-demo --output=exports/demo --hub=ORG/NAME
  python -m clinicclip.push exports/demo --dry_run
  python -m clinicclip.push exports/demo

What is sent binds you to the terms of the data it was learnt from; they are printed first. The hub's token is that of
`hf auth login`, or HF_TOKEN."""


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="push", description=__doc__, example=EXAMPLE)
    flags.add_argument("folder", type=Path, help="an export written with --hub=ORG/NAME, which says where it goes")
    flags.add_argument("--public", action="store_true", help="make new repositories that everybody can read")
    flags.add_argument("--dry_run", action="store_true", help="say what would be sent and where; ask nobody")
    return flags


def main(args: argparse.Namespace) -> int:
    """Says what goes where, then sends it."""
    from clinicclip.exporting.dialects import TEXT, text_id  # jax and all, which --help does without
    from clinicclip.exporting.folder import whole
    from clinicclip.exporting.meta import Meta
    from clinicclip.models.torch_names import OPEN_CLIP

    meta = Meta.read(args.folder)
    names = whole(args.folder, meta)
    if not meta.hub:
        raise UserError(f"{args.folder}: was written for no hub: export it again with --hub=ORG/NAME")
    parts = {meta.hub: (args.folder, names)}
    if OPEN_CLIP in meta.dialects:  # which finds the configuration of its text tower by an id of its own
        parts[text_id(meta.hub)] = (args.folder / TEXT, ["config.json"])
    print(f"terms of the data: {meta.origin.data_licence}")
    for name, (folder, files) in parts.items():
        size = sum((folder / file).stat().st_size for file in files)
        print(f"{name}: {len(files)} files of {folder}, {size / 1e6:,.2f} MB, {'public' if args.public else 'private'}")
        print("\n".join(f"  {file}" for file in files))
    if args.dry_run:
        print("dry run: nothing was sent")
        return 0
    send(parts, f"{meta.origin.name}, {meta.origin.steps:,} steps", private=not args.public)
    return 0


def send(parts: Mapping[str, tuple[Path, Sequence[str]]], message: str, *, private: bool) -> None:
    """Commits files of a folder to each repository, made where it is not there; one that is stays as open as it is.

    Raises UserError without a token, or with what the hub or the network says.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if token is None:
        raise UserError(f"{next(iter(parts))}: no token of the hub is here: run `hf auth login`, or set HF_TOKEN")
    client, message = huggingface_hub.HfApi(token=token), f"clinicclip {clinicclip.__version__}: {message}"
    for name, (folder, files) in parts.items():
        with library_says(f"{name}: the hub did not take it; nothing here was changed, push again"):
            place = client.create_repo(name, private=private, exist_ok=True)
            client.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=message)
        print(f"sent: {place}")


if __name__ == "__main__":
    cli.run(main, parser())
