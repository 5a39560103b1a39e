"""What our models are given, as `clinicclip.terms`; and how an export's files of weights carry that with them.

The metadata of every file of weights holds, under ``clinicclip``, JSON of the terms and, under ``golden_sha256``, the
digest of the file with golden inputs and outputs beside it (`parity`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clinicclip import terms
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClipSpec

STATED = terms.WORDS.keys() - {"pieces"}  # which those of an export do not: a tokenizer is more


def given(spec: ClipSpec, tokenizer: Tokenizer, text_length: int) -> dict[str, Any]:
    """What is done to images and texts before the towers, and how the text tower is read."""
    texts = {"tokenizer": tokenizer_digest(tokenizer), "text_length": text_length, "pooling": spec.text.pooling}
    return images(spec.image.image_size) | texts


def images(size: int) -> dict[str, Any]:
    """What is done to images."""
    return {
        "image_size": size,
        "mean": list(IMAGE_MEAN),
        "std": list(IMAGE_STD),
        "scale": 1 / 255,
        "resize": terms.SQUASH,
        "interpolation": terms.BICUBIC,
    }


def tokenizer_digest(tokenizer: Tokenizer) -> str:
    """Of all that a tokenizer is."""
    fields = {name: getattr(tokenizer, name) for name in tokenizer.__dataclass_fields__}
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def tokenizer_in(folder: Path) -> dict[str, Any]:
    """The term of the tokenizer that lies in a folder. Raises UserError where there is none."""
    return {"tokenizer": tokenizer_digest(Tokenizer.load(folder))}


def metadata(agreed: Mapping[str, Any], golden: Path) -> dict[str, str]:
    """What goes into the files of weights."""
    return {terms.KEY: json.dumps(dict(agreed)), terms.GOLDEN: hashlib.sha256(golden.read_bytes()).hexdigest()}


def read(weights: Path) -> tuple[dict[str, Any], str]:
    """The terms in a file of weights, and the digest of its golden file. Raises UserError where there are none."""
    try:
        with safe_open(weights, "np") as file:
            stored = file.metadata() or {}
        said, golden = json.loads(stored[terms.KEY]), stored[terms.GOLDEN]
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError):
        said, golden = None, ""
    if not isinstance(said, dict) or said.keys() != STATED:
        raise UserError(f"{weights}: does not say how its images and texts were prepared; export the run again")
    return said, golden
