"""Proof that an export says what the model says: fixed inputs, our embeddings, PyTorch's difference.

``parity.safetensors`` holds the inputs and our embeddings, so that anyone can repeat the check without this
package. ``parity.json`` holds the measured differences and exists only where PyTorch was at hand.
"""

import dataclasses
import importlib
import importlib.util
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from clinicclip.data.packing import plain
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting.dialects import WEIGHTS
from clinicclip.models import shards, tensor_file
from clinicclip.models.clip import ClinicCLIP, ClipSpec, normalize_images
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

TENSORS, REPORT = "parity.safetensors", "parity.json"
TOLERANCE = 1e-4  # of unit embeddings; a wrong layer is off by far more, another math library by far less
IMAGES = 3
TEXTS = (
    "the heart is normal in size. the lungs are clear.",
    "no pneumothorax or pleural effusion.",
    "there is a small left pleural effusion with adjacent atelectasis, worse than on the prior study, and a"
    " right internal jugular catheter whose tip projects over the superior vena cava.",
)


class Sample(NamedTuple):
    """Fixed inputs and our embeddings of them."""

    images: UInt8[np.ndarray, "n s s"]
    ids: Int32[np.ndarray, "m l"]  # padded to the text length
    image_embedding: Float32[np.ndarray, "n d"]
    text_embedding: Float32[np.ndarray, "m d"]


def fixed_images(size: int) -> UInt8[np.ndarray, "n s s"]:
    """Gray images of smooth waves under noise, equal on every machine: full range, no symmetry."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    images = [
        127.5 + 80 * np.sin(2 * np.pi * (k + 1) * (x + y**2)) + 30 * rng.standard_normal((size, size))
        for k in range(IMAGES)
    ]
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)


def sample(spec: ClipSpec, params: Mapping[str, Any], tokenizer: Tokenizer, text_length: int) -> Sample:
    """The fixed inputs for a model and its float32 embeddings of them."""
    images = fixed_images(spec.image.image_size)
    text = plain(tokenizer.encode(TEXTS, text_length)[0], text_length, pad_id=tokenizer.pad_id)
    model = ClinicCLIP(dataclasses.replace(spec, dtype="float32", remat=False))
    with jax.default_matmul_precision("highest"):
        image = _embed_images(model, params, images)
        words = _embed_texts(model, params, text.ids, text.owner, text.position, text.start)
    return Sample(images, text.ids, np.asarray(image), np.asarray(words))


@partial(jax.jit, static_argnums=0)
def _embed_images(model: ClinicCLIP, params: Any, images: Any) -> Any:
    return model.apply({"params": params}, normalize_images(images), method="embed_image")


@partial(jax.jit, static_argnums=0)
def _embed_texts(model: ClinicCLIP, params: Any, *text: Any) -> Any:
    return model.apply({"params": params}, *text, method="embed_text")


def write_sample(folder: Path, found: Sample) -> None:
    """Store a sample in an export folder, the texts in the file's metadata."""
    tensor_file.write(folder / TENSORS, found._asdict(), metadata={"texts": json.dumps(TEXTS)})


def measure(folder: Path, found: Sample) -> dict[str, Any] | None:
    """Load an export folder as its users do and compare; None where no PyTorch library for it is installed.

    Raises UserError when embeddings differ by more than `TOLERANCE` or token ids differ at all.
    """
    report: dict[str, Any] = {}
    # a dialect has the name of the module that reads it
    for library, embed in ((TRANSFORMERS, _by_transformers), (OPEN_CLIP, _by_open_clip)):
        if not shards.parts(folder / WEIGHTS[library])[0].exists() or not _installed("torch", library):
            continue
        image, text, ids = embed(folder, found)
        differences = {
            "image": float(np.abs(image - found.image_embedding).max()),
            "text": float(np.abs(text - found.text_embedding).max()),
            "token_ids_equal": ids.shape == found.ids.shape and bool((ids == found.ids).all()),
        }
        near = all(differences[kind] <= TOLERANCE for kind in ("image", "text"))  # False for NaN too
        if not (near and differences["token_ids_equal"]):
            raise UserError(f"export: {library} {_version(library)} reads the folder differently: {differences}")
        report[library] = {library: _version(library), "torch": _version("torch"), **differences}
    inputs = {"inputs": TENSORS, "images": len(found.images), "texts": len(found.ids), "tolerance": TOLERANCE}
    return inputs | {"max_abs_difference": report} if report else None


def _by_transformers(folder: Path, found: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.VisionTextDualEncoderProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(
        text=list(TEXTS), images=_pictures(found), padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        out = model(**inputs)
    return out.image_embeds.numpy(), out.text_embeds.numpy(), inputs["input_ids"].numpy()


def _by_open_clip(folder: Path, found: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    torch, open_clip = importlib.import_module("torch"), importlib.import_module("open_clip")
    # An absolute path instead of the working directory, which belongs to the whole process.
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    text |= {"hf_model_name": str(folder.resolve() / "text")}
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder.resolve()}", text_cfg=text)
    ids = open_clip.get_tokenizer(f"local-dir:{folder.resolve()}")(list(TEXTS))
    pixels = torch.stack([preprocess(picture) for picture in _pictures(found)])
    with torch.inference_mode():
        image, words = (
            model.eval().encode_image(pixels, normalize=True),
            model.encode_text(ids, normalize=True),
        )
    return image.numpy(), words.numpy(), ids.numpy()


def _pictures(found: Sample) -> list[Any]:
    image = importlib.import_module("PIL.Image")
    return [image.fromarray(pixels) for pixels in found.images]


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _version(module: str) -> str:
    return str(importlib.import_module(module).__version__)
