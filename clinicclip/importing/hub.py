"""Where weights lie: a folder, a file, or a model of the Hugging Face hub, by id, in its own cache."""

import re
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from clinicclip.errors import UserError
from clinicclip.files import exists

# Two names, after : what lies in there and, after @, a revision. What begins with a dot or a slash is a path here.
ID = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<within>\w[\w./ +=-]*))?(@(?P<revision>[\w./-]+))?")
FORMS = "ORG/NAME, ORG/NAME:FILE, ORG/NAME:FOLDER, each with @REVISION behind it if need be"
LONGEST = 500  # characters
INDEX = ".index.json"
TEXTS = ("*.json", "*.txt")
SAFE, PICKLED = ("*.safetensors",), ("*.bin", "*.pt", "*.pth")
SUFFIXES = tuple(pattern[1:] for pattern in (*SAFE, *PICKLED))


def is_id(place: str) -> bool:
    """Whether a place reads as one of `FORMS` and is not there on this machine."""
    return len(place) <= LONGEST and ID.fullmatch(place) is not None and ".." not in place and not exists(Path(place))


def locate(place: str | Path) -> Path:
    """The local path of a place; a model of the hub is fetched into the hub's cache unless it is there.

    Its safetensors are preferred; files of PyTorch's own form are fetched where there are none. Of a file in there,
    nothing but that file and the texts beside it are fetched.
    Raises UserError when it is neither here nor on a hub that can be reached.
    """
    place = str(place)
    if exists(Path(place)):
        return Path(place)
    if not is_id(place):
        raise UserError(f"{place}: no such file or folder, and no hub id, which is written {FORMS}")
    found = _fetch(place, (*TEXTS, *SAFE))
    return found if found.is_file() or any(found.glob(SAFE[0])) else _fetch(place, (*TEXTS, *PICKLED))


def configs(name: str) -> Path:
    """The local path of a hub model's configuration files, fetched unless they are there. Raises UserError."""
    return _fetch(name, TEXTS)


def cached(place: str | Path) -> Path | None:
    """The local path of a place if its weights are on this machine; nothing is fetched."""
    place = str(place)
    if exists(Path(place)):
        return Path(place)
    if not is_id(place):
        return None
    try:
        found = _fetch(place, TEXTS, offline=True)
    except UserError:
        return None
    # The hub's client gives a folder as soon as any file of it is there, such as a configuration alone.
    return found if found.is_file() or any(path for kind in (*SAFE, *PICKLED) for path in found.glob(kind)) else None


def folder_of(path: Path) -> Path:
    """The folder itself, or the one a weight file lies in: where its configuration and tokenizer are."""
    return path if path.is_dir() else path.parent


def _fetch(place: str, patterns: tuple[str, ...], *, offline: bool = False) -> Path:
    """The folder or file that an id names; of its folder the files of these patterns, of a file it alone and texts."""
    read = ID.fullmatch(place)
    assert read is not None
    name, within = read["name"], PurePosixPath(read["within"] or ".")
    file = within.suffix in SUFFIXES or within.name.endswith(INDEX)
    folder = within.parent if file else within
    wanted = (*TEXTS, within.name, f"{within.name.removesuffix(INDEX).rpartition('.')[0]}-*") if file else patterns
    try:
        found = huggingface_hub.snapshot_download(
            name,
            revision=read["revision"],
            allow_patterns=[str(folder / pattern) for pattern in wanted],
            # A star is any number of folders to the hub; what they hold are other formats, heads and models.
            ignore_patterns=[str(folder / "*" / pattern) for pattern in (*SAFE, *PICKLED)],
            local_files_only=offline,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise UserError(
            f"{place}: no such folder here, and the hub did not give it ({reason}); fetch it where there is a network "
            f"with `hf download {name}`, or give a folder"
        ) from None
    if not exists(Path(found, within)):
        raise UserError(
            f"{place}: {name} came without {within}; look at its files, and fetch it where there is a network"
        )
    return Path(found, within)
