"""Which library reads a place, told by its files: by configuration, or by the names and shapes of the arrays in it."""

import importlib
from pathlib import Path

from clinicclip import files
from clinicclip.errors import library_says
from clinicclip.guests import openai
from clinicclip.guests.base import INSTALL, Reader, installed
from clinicclip.guests.by_open_clip import CONFIG, ByOpenAI, ByOpenClip, weight_file
from clinicclip.guests.by_transformers import ByTransformers

READERS: dict[str, type[ByOpenClip] | type[ByTransformers]] = {
    "open_clip": ByOpenClip,
    "transformers": ByTransformers,
    "chexzero": ByOpenAI,
}


def find(place: Path) -> str:
    """The layout of a folder or weight file out of `READERS`, or "" for none of them.

    PyTorch's own files are looked into where PyTorch is installed. Raises UserError for a damaged configuration.
    """
    if (place / CONFIG).is_file():
        return "open_clip"
    if {"text_config", "vision_config"} <= files.read_object(place / "config.json").keys():
        return "transformers"
    return "chexzero" if (path := weight_file(place)) and openai.recognised(_shapes(path)) else ""


def lacking(layout: str) -> str:
    """What is not installed of what reads a layout, with how to install it; "" where all is there."""
    modules = ("torch", READERS[layout].library)
    return ", ".join(f"{module} ({INSTALL[module]})" for module in modules if not installed(module))


def open_reader(layout: str, place: Path) -> Reader:
    """The place as its library reads it. Raises UserError when it cannot, with what the library says."""
    with library_says(f"{place}: {layout} cannot read it"):
        return READERS[layout](place)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in a file of PyTorch's, none where it is not installed or holds other things."""
    if not installed("torch"):
        return {}
    try:
        state = importlib.import_module("torch").load(path, map_location="meta", weights_only=True)
        return {str(name): tuple(array.shape) for name, array in state.items()}
    except Exception:
        return {}
