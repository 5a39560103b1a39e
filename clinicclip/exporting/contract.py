"""What our models are given, as `clinicclip.terms`; and how an export's files of weights carry that with them.

The metadata of every file of weights holds, under ``clinicclip``, JSON of the terms and, under ``golden_sha256``, the
digest of golden inputs and outputs (`parity`). Under ``golden`` those that PyTorch loads hold them themselves: the
base64 of a safetensors file, 0.45 MB at 224 px.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clinicclip import terms
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import parity
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClipSpec

TENSORS = "golden"  # in the metadata
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


def metadata(agreed: Mapping[str, Any], golden: bytes) -> dict[str, str]:
    """What goes into every file of weights, and under `TENSORS` into those that are loaded without this package."""
    digest = hashlib.sha256(golden).hexdigest()
    return {terms.KEY: json.dumps(dict(agreed)), terms.GOLDEN: digest, TENSORS: base64.b64encode(golden).decode()}


def read(weights: Path) -> dict[str, Any]:
    """The terms in a file of weights. Raises UserError where there are not all of them, or others."""
    found = terms.stated(weights)
    if found.keys() != STATED:
        raise UserError(f"{weights}: does not say how its images and texts were prepared; export the run again")
    return found


def golden(weights: Path) -> parity.Sample:
    """The golden inputs and outputs in a file of weights. Raises UserError where they are not there or damaged."""
    try:
        with safe_open(weights, "np") as file:
            stored = file.metadata()
        content = base64.b64decode(stored[TENSORS], validate=True)
        if hashlib.sha256(content).hexdigest() != stored[terms.GOLDEN]:
            raise ValueError("they are not those of their digest")
        return parity.unpacked(content)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as fault:
        raise UserError(f"{weights}: its golden inputs cannot be read ({fault}); export the run again") from None
