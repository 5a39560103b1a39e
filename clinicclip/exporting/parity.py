"""Proof that an export says what the model says: golden inputs, what each stage makes of them, others' difference.

Golden are pictures and texts, the squares and token ids made of them, and our embeddings. The metadata of the weights
hold them (`contract`), so that whoever has the weights can repeat the check, without this package too. ``parity.json``
holds the measured differences and exists only where PyTorch was at hand.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clinicclip import guests
from clinicclip.data import images
from clinicclip.data.packing import plain
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClinicCLIP, ClipSpec
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

REPORT = "parity.json"
TOLERANCE = 1e-4  # of unit embeddings; a wrong layer is off by far more, another math library by far less
LEVEL = 1.001 / 255  # of pixels: one gray level
SHAPES = ((171, 230), (300, 211), (256, 256))  # of the pictures
TEXTS = (
    "the heart is normal in size. the lungs are clear.",
    "no pneumothorax or pleural effusion.",
    "there is a small left pleural effusion with adjacent atelectasis, worse than on the prior study, and a"
    " right internal jugular catheter whose tip projects over the superior vena cava.",
)
KINDS = {
    "images": ("uint8", 3),
    "ids": ("int32", 2),
    "image_embedding": ("float32", 2),
    "text_embedding": ("float32", 2),
}
CONFIGS = {TRANSFORMERS: "config.json", OPEN_CLIP: "open_clip_config.json"}  # there where the library can read a folder
_installed = guests.installed


class Sample(NamedTuple):
    """Golden inputs and what we make of them."""

    pictures: tuple[UInt8[np.ndarray, "_ _"], ...]
    texts: tuple[str, ...]
    images: UInt8[np.ndarray, "n s s"]
    ids: Int32[np.ndarray, "m l"]  # padded to the text length
    image_embedding: Float32[np.ndarray, "n d"]
    text_embedding: Float32[np.ndarray, "m d"]


class Stage(NamedTuple):
    """How far a reader is from the golden outputs in one stage; ``fault`` where it could not even be run."""

    name: str
    difference: float
    allowed: float
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is near enough; NaN is not."""
        return self.difference <= self.allowed

    @property
    def said(self) -> str:
        """What was found, in words."""
        if self.fault:
            return self.fault
        found = "of another shape" if self.difference == math.inf else f"{self.difference:.2g} apart"
        return f"{found}, at most {self.allowed:.2g}"


PIXELS, TOKENS, IMAGE, TEXT = "image preprocessing", "tokenisation", "image embedding", "text embedding"


class Ours:
    """A model of ours as a `guests.Reader`, in float32 and full precision."""

    library, says = "clinicclip", ""

    def __init__(self, spec: ClipSpec, params: Mapping[str, Any], tokenizer: Tokenizer, text_length: int) -> None:
        self._model = ClinicCLIP(dataclasses.replace(spec, dtype="float32", remat=False))
        self._params, self._tokenizer, self._length = params, tokenizer, text_length
        self.image_size, self.vocabulary = spec.image.image_size, (spec.text.vocab_size, tokenizer.vocab_size)

    def pixels(self, pictures: Sequence[Any]) -> Float32[np.ndarray, "n 3 s s"]:
        """As `guests.Reader`."""
        return normalized(np.stack([images.square(np.asarray(picture), self.image_size) for picture in pictures]))

    def ids(self, texts: Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """As `guests.Reader`."""
        return self._plain(texts).ids

    def embed_pixels(self, pixels: Float32[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """As `guests.Reader`."""
        with jax.default_matmul_precision("highest"):
            return np.asarray(_embed_images(self._model, self._params, pixels.transpose(0, 2, 3, 1)))

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """As `guests.Reader`."""
        with jax.default_matmul_precision("highest"):
            return np.asarray(_embed_texts(self._model, self._params, *self._plain(texts)))

    def _plain(self, texts: Sequence[str]) -> Any:
        return plain(self._tokenizer.encode(texts, self._length)[0], self._length, pad_id=self._tokenizer.pad_id)


@partial(jax.jit, static_argnums=0)
def _embed_images(model: ClinicCLIP, params: Any, pixels: Any) -> Any:
    return model.apply({"params": params}, pixels, method="embed_image")


@partial(jax.jit, static_argnums=0)
def _embed_texts(model: ClinicCLIP, params: Any, *text: Any) -> Any:
    return model.apply({"params": params}, *text, method="embed_text")


def normalized(squares: UInt8[np.ndarray, "n s s"]) -> Float32[np.ndarray, "n 3 s s"]:
    """What the image tower sees of gray squares, in PyTorch's order."""
    mean, std = (np.asarray(c, np.float32)[None, :, None, None] for c in (IMAGE_MEAN, IMAGE_STD))
    return (np.repeat(squares[:, None], 3, axis=1).astype(np.float32) / 255 - mean) / std


def fixed_pictures() -> tuple[UInt8[np.ndarray, "_ _"], ...]:
    """Gray images of smooth waves under noise: full range, no symmetry, none of them of a model's size."""
    rng = np.random.default_rng(0)
    pictures = []
    for k, (height, width) in enumerate(SHAPES):
        y, x = np.mgrid[:height, :width] / max(height, width)
        waves = 127.5 + 80 * np.sin(2 * np.pi * (k + 1) * (x + y**2))
        pictures.append(np.clip(waves + 30 * rng.standard_normal((height, width)), 0, 255).astype(np.uint8))
    return tuple(pictures)


def sample(spec: ClipSpec, params: Mapping[str, Any], tokenizer: Tokenizer, text_length: int) -> Sample:
    """The golden inputs for a model and what it makes of them."""
    ours, pictures = Ours(spec, params, tokenizer, text_length), fixed_pictures()
    squares = np.stack([images.square(picture, spec.image.image_size) for picture in pictures])
    image = ours.embed_pixels(normalized(squares))
    return Sample(pictures, TEXTS, squares, ours.ids(TEXTS), image, ours.embed_texts(TEXTS))


def packed(golden: Sample) -> bytes:
    """The sample as a safetensors file; the texts are JSON in bytes."""
    arrays = {**golden._asdict(), "texts": np.frombuffer(json.dumps(golden.texts).encode(), np.uint8)}
    pictures = arrays.pop("pictures")
    return save(arrays | {f"picture_{number}": picture for number, picture in enumerate(pictures)})


def unpacked(content: bytes) -> Sample:
    """The sample that was packed. Raises ValueError for anything else."""
    try:
        arrays = load(content)
        pictures = tuple(arrays.pop(f"picture_{number}") for number in range(len(SHAPES)))
        texts = tuple(json.loads(arrays.pop("texts").tobytes()))
        golden = Sample(pictures=pictures, texts=texts, **arrays)
    except (SafetensorError, KeyError, TypeError, RecursionError) as fault:
        raise ValueError(f"no golden sample of this version: {fault}") from None
    found = {name: (array.dtype.name, array.ndim) for name, array in golden._asdict().items() if name in KINDS}
    if found != KINDS or {(picture.dtype.name, picture.ndim) for picture in pictures} != {("uint8", 2)}:
        raise ValueError("no golden sample of this version: an array is of another kind")
    return golden


def compare(golden: Sample, reader: guests.Reader) -> list[Stage]:
    """The stages of a reader, each given the golden inputs of that stage, so that a fault shows where it is."""
    seen = normalized(golden.images)
    deviation = np.asarray(IMAGE_STD, np.float32)[None, :, None, None]
    pictures = [Image.fromarray(picture) for picture in golden.pictures]

    def pixels() -> float:
        return _apart(reader.pixels(pictures) * deviation, seen * deviation)

    def tokens() -> float:
        ids = reader.ids(golden.texts)
        return float((ids != golden.ids).sum()) if ids.shape == golden.ids.shape else math.inf

    return [
        _stage(PIXELS, LEVEL, pixels),
        _stage(TOKENS, 0.0, tokens),
        _stage(IMAGE, TOLERANCE, lambda: _apart(reader.embed_pixels(seen), golden.image_embedding)),
        _stage(TEXT, TOLERANCE, lambda: _apart(reader.embed_texts(golden.texts), golden.text_embedding)),
    ]


def _stage(name: str, allowed: float, difference: Callable[[], float]) -> Stage:
    try:
        return Stage(name, difference(), allowed)
    except Exception as fault:  # of whatever library; told with the stage
        said = " ".join(str(fault).split())[:200]
        return Stage(name, math.inf, allowed, f"{type(fault).__name__}: {said}")


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else math.inf


def measure(folder: Path, golden: Sample) -> dict[str, Any] | None:
    """Load an export folder as its users do and compare; None where no PyTorch library for it is installed.

    Raises UserError naming the first stage that differs by more than it may.
    """
    report: dict[str, Any] = {}
    for library in libraries(folder):  # a dialect has the name of the module that reads it
        stages = {stage.name: stage for stage in compare(golden, guests.open_reader(library, folder))}
        for stage in stages.values():
            if not stage.holds:
                said = f"{library} {guests.version(library)} reads the folder differently"
                raise UserError(f"export: {said}, first in {stage.name}: {stage.said}")
        report[library] = {
            **{module: guests.version(module) for module in (library, "torch")},
            "pixels": stages[PIXELS].difference,
            "token_ids_equal": True,
            "image": stages[IMAGE].difference,
            "text": stages[TEXT].difference,
        }
    inputs = {"images": len(golden.images), "texts": len(golden.ids), "tolerance": TOLERANCE}
    return inputs | {"max_abs_difference": report} if report else None


def libraries(folder: Path) -> list[str]:
    """The PyTorch libraries that can read an export and are installed."""
    return [name for name, config in CONFIGS.items() if (folder / config).is_file() and _installed("torch", name)]


def absent(folder: Path) -> list[str]:
    """The PyTorch libraries that could read an export and are not installed, each with how to install it."""
    able = [name for name, config in CONFIGS.items() if (folder / config).is_file()]
    return [f"{name} ({guests.INSTALL[name]})" for name in able if name not in libraries(folder)]
