"""Where weights lie: a folder, a file, or a model of the Hugging Face hub, by id, in its own cache."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from clinicclip.errors import UserError

# Two names and, after @, a revision. What begins with a dot or a slash is a path of this machine.
ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
TEXTS = ("*.json", "*.txt")
SAFE, PICKLED = ("*.safetensors",), ("*.bin", "*.pt", "*.pth")
NESTED = tuple(f"*/{pattern}" for pattern in (*SAFE, *PICKLED))  # other formats and heads have folders of their own


def is_id(place: str) -> bool:
    """Whether a place reads as ORG/NAME or ORG/NAME@REVISION and is not there on this machine."""
    return ID.fullmatch(place) is not None and ".." not in place and not Path(place).exists()


def locate(place: str | Path) -> Path:
    """The local path of a place; a model of the hub is fetched into the hub's cache unless it is there.

    Its safetensors are preferred; files of PyTorch's own form are fetched where there are none.
    Raises UserError when it is neither here nor on a hub that can be reached.
    """
    place = str(place)
    if Path(place).exists():
        return Path(place)
    if not is_id(place):
        raise UserError(
            f"{place}: no such file or folder, and no hub id, which is written ORG/NAME or ORG/NAME@REVISION"
        )
    folder = _fetch(place, (*TEXTS, *SAFE))
    return folder if any(folder.glob(SAFE[0])) else _fetch(place, (*TEXTS, *PICKLED))


def configs(name: str) -> Path:
    """The local path of a hub model's configuration files, fetched unless they are there. Raises UserError."""
    return _fetch(name, TEXTS)


def cached(place: str | Path) -> Path | None:
    """The local path of a place if its weights are on this machine; nothing is fetched."""
    place = str(place)
    if Path(place).exists():
        return Path(place)
    if not is_id(place):
        return None
    try:
        folder = _fetch(place, TEXTS, offline=True)
    except UserError:
        return None
    # The hub's client gives a folder as soon as any file of it is there, such as a configuration alone.
    return folder if any(path for kind in (*SAFE, *PICKLED) for path in folder.glob(kind)) else None


def folder_of(path: Path) -> Path:
    """The folder itself, or the one a weight file lies in: where its configuration and tokenizer are."""
    return path if path.is_dir() else path.parent


def _fetch(place: str, patterns: tuple[str, ...], *, offline: bool = False) -> Path:
    name, _, revision = place.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(patterns),
            ignore_patterns=list(NESTED),
            local_files_only=offline,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise UserError(
            f"{place}: no such folder here, and the hub did not give it ({reason}); fetch it where there is a network "
            f"with `hf download {name}`, or give a folder"
        ) from None
    return Path(found)
