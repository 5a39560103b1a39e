"""Which library reads a folder, told by its files."""

import json
from pathlib import Path

from clinicclip.errors import UserError
from clinicclip.guests.base import INSTALL, Reader, installed
from clinicclip.guests.by_open_clip import CONFIG, ByOpenAI, ByOpenClip
from clinicclip.guests.by_transformers import ByTransformers

READERS: dict[str, type[ByOpenClip] | type[ByTransformers]] = {
    "open_clip": ByOpenClip,
    "transformers": ByTransformers,
    "chexzero": ByOpenAI,
}


def find(folder: Path) -> str:
    """The layout of a folder out of `READERS`, or "" for none of them."""
    if (folder / CONFIG).is_file():
        return "open_clip"
    if _is_dual_encoder(folder / "config.json"):
        return "transformers"
    return "chexzero" if len(list(folder.glob("*.pt"))) == 1 else ""


def lacking(layout: str) -> str:
    """What is not installed of what reads a layout, with how to install it; "" where all is there."""
    modules = ("torch", READERS[layout].library)
    return ", ".join(f"{module} ({INSTALL[module]})" for module in modules if not installed(module))


def open_reader(layout: str, folder: Path) -> Reader:
    """The folder as its library reads it. Raises UserError when it cannot, with what the library says."""
    try:
        return READERS[layout](folder)
    except UserError:
        raise
    except Exception as fault:  # whatever a library raises on a folder that lacks something
        said = " ".join(str(fault).split())[:200]
        raise UserError(f"{folder}: {layout} cannot read it ({type(fault).__name__}: {said})") from None


def _is_dual_encoder(path: Path) -> bool:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"text_config", "vision_config"} <= config.keys()
