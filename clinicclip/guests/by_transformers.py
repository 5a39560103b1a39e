"""CLIPModel, SiglipModel (MedSigLIP), VisionTextDualEncoderModel and their like, read by transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from clinicclip.errors import UserError, listing
from clinicclip.guests.base import need, unit

FAULTS = ("missing", "unexpected", "of another shape")
FILLED_UP = ("siglip", "siglip2")  # were trained on texts filled up to one length, and read all of it


class ByTransformers:
    """A folder with config.json, weights, preprocessor and tokenizer."""

    library, says = "transformers", ""

    def __init__(self, folder: Path) -> None:
        """Raises UserError when weights are missing, and whatever transformers raises on a folder it cannot read."""
        self._torch, transformers = need(self.library)
        transformers.utils.logging.disable_progress_bar()
        here: dict[str, Any] = {"local_files_only": True}
        model, found = transformers.AutoModel.from_pretrained(
            folder, dtype=self._torch.float32, output_loading_info=True, **here
        )
        names = ("missing_keys", "unexpected_keys", "mismatched_keys")
        faults = dict(zip(FAULTS, (sorted(map(str, found[name])) for name in names), strict=True))
        if any(faults.values()):
            raise listing(f"{folder}: the weights do not fit their configuration, fetch both again", faults)
        if not hasattr(model, "get_image_features"):
            raise UserError(f"{folder}: {type(model).__name__} has no image and text towers; expected a CLIP model")
        self._model = model.eval()
        # On Pillow, not torchvision, which rounds a few pixels differently.
        self._processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", **here)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **here)
        text, vision = model.config.text_config, model.config.vision_config
        self.image_size, self.vocabulary = int(vision.image_size), (text.vocab_size, len(self._tokenizer))
        self._length = min(self._tokenizer.model_max_length, text.max_position_embeddings)
        self._filled_up = model.config.model_type in FILLED_UP

    def pixels(self, pictures: Sequence[Any]) -> Float32[np.ndarray, "n 3 s s"]:
        """As `Reader`."""
        return np.asarray(self._processor(list(pictures), return_tensors="np")["pixel_values"], np.float32)

    def ids(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """As `Reader`."""
        return self._tokens(texts, fill_up=True)["input_ids"].numpy()

    def embed_pixels(self, pixels: Float32[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """As `Reader`."""
        with self._torch.inference_mode():
            return unit(self._model.get_image_features(self._torch.from_numpy(pixels)).pooler_output)

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """As `Reader`."""
        with self._torch.inference_mode():
            return unit(self._model.get_text_features(**self._tokens(texts, self._filled_up)).pooler_output)

    def _tokens(self, texts: Sequence[str], fill_up: bool) -> Any:
        padding = "max_length" if fill_up else "longest"
        return self._tokenizer(
            list(texts), padding=padding, truncation=True, max_length=self._length, return_tensors="pt"
        )
