"""What a model's weights were trained to be given: said in their own file, so that no other folder can say otherwise.

The metadata of every file of weights holds, under ``clinicclip``, JSON of `terms` and, under ``golden_sha256``, the
digest of the file with golden inputs and outputs beside it (`parity`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClipSpec

KEY, GOLDEN = "clinicclip", "golden_sha256"
PREPROCESSOR = "preprocessor_config.json"
WORDS = {
    "image_size": "image size",
    "mean": "mean of the images",
    "std": "standard deviation of the images",
    "resize": "way to resize images",
    "interpolation": "interpolation of images",
    "tokenizer": "tokenizer",
    "text_length": "text length",
    "pooling": "text pooling",
}


def terms(spec: ClipSpec, tokenizer: Tokenizer, text_length: int) -> dict[str, Any]:
    """What is done to images and texts before the towers, and how the text tower is read."""
    return {
        "image_size": spec.image.image_size,
        "mean": list(IMAGE_MEAN),
        "std": list(IMAGE_STD),
        "resize": "squash",
        "interpolation": "bicubic",
        "tokenizer": _digest({name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}),
        "text_length": text_length,
        "pooling": spec.text.pooling,
    }


def preprocessor(folder: Path) -> dict[str, Any]:
    """The terms of images that a folder's file for transformers states. Raises UserError when it cannot be read."""
    path = folder / PREPROCESSOR
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return {"image_size": said["size"]["height"], "mean": said["image_mean"], "std": said["image_std"]}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UserError(f"{path}: does not say how images are prepared ({type(fault).__name__}); restore it") from None


def metadata(agreed: Mapping[str, Any], golden: Path) -> dict[str, str]:
    """What goes into the files of weights."""
    return {KEY: json.dumps(dict(agreed)), GOLDEN: hashlib.sha256(golden.read_bytes()).hexdigest()}


def read(weights: Path) -> tuple[dict[str, Any], str]:
    """The terms in a file of weights, and the digest of its golden file. Raises UserError where there are none."""
    try:
        with safe_open(weights, "np") as file:
            stored = file.metadata() or {}
        return json.loads(stored[KEY]), stored[GOLDEN]
    except (OSError, SafetensorError, KeyError, ValueError):
        raise UserError(
            f"{weights}: does not say how its images and texts were prepared; export the run again"
        ) from None


def differences(trained: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """In words, each term in which what a folder gives is not what its weights were trained with."""
    return [
        f"{words} {_short(trained.get(name))} in training, {_short(given[name])} here"
        for name, words in WORDS.items()
        if trained.get(name) != given[name]
    ]


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else str(value)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
