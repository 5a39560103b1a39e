"""What a library that reads a CLIP folder is asked for."""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from clinicclip.errors import UserError

INSTALL = {
    "torch": "pip install 'clinicclip[torch]'",
    "transformers": "pip install 'clinicclip[torch]'",
    "open_clip": "pip install open_clip_torch",
}


@runtime_checkable
class Reader(Protocol):
    """A model in PyTorch with its own preprocessing and tokenizer, in float32 on the CPU."""

    library: str  # module
    says: str  # what it does to images, {} for ``image_size``; "" where the folder says it all
    image_size: int  # side of the images that `embed_pixels` takes, in pixels
    vocabulary: tuple[int, int]  # rows of the text tower, pieces of the tokenizer

    def pixels(self, pictures: Sequence[Any]) -> Float32[np.ndarray, "n 3 s s"]:
        """What the model sees of Pillow images."""
        ...

    def ids(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """Token ids, each text filled up to the longest the model takes."""
        ...

    def embed_pixels(self, pixels: Float32[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """Unit embeddings."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Unit embeddings."""
        ...


def installed(*modules: str) -> bool:
    """Whether all of these can be imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def version(module: str) -> str:
    """What a module says of itself."""
    return str(importlib.import_module(module).__version__)


def need(library: str) -> tuple[Any, Any]:
    """torch and a library for it. Raises UserError that says how to install what is missing."""
    for module in ("torch", library):
        if not installed(module):
            raise UserError(f"this checkpoint is read with {module}, which is not installed: {INSTALL[module]}")
    return importlib.import_module("torch"), importlib.import_module(library)


def unit(rows: Any) -> Float32[np.ndarray, "n d"]:
    """A torch tensor's rows at length one, as numpy."""
    return (rows.float() / rows.float().norm(dim=-1, keepdim=True)).numpy()
