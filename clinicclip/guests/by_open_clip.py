"""open_clip folders (BiomedCLIP and its like), and OpenAI's own layout as CheXzero saved it, read by open_clip."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from clinicclip import files
from clinicclip.errors import UserError, listing
from clinicclip.guests import openai
from clinicclip.guests.base import need, unit

CONFIG = "open_clip_config.json"
PICKLED = (".pt", ".pth", ".bin")
TEXT = "text"  # folder of a BERT's config.json beside it
# CheXzero (Tiu et al., 2022): mean and deviation of its own training images, and the side they were stored with.
LEVELS, STORED_SIDE = (101.48761 / 255, 83.43944 / 255), 320


def weight_file(place: Path) -> Path | None:
    """A file of PyTorch's own, or the only one in a folder."""
    found = [place] if place.is_file() else list(place.iterdir()) if place.is_dir() else []
    found = [path for path in found if path.suffix in PICKLED]
    return found[0] if len(found) == 1 else None


class ByOpenClip:
    """A folder with open_clip_config.json and weights."""

    library, says = "open_clip", ""

    def __init__(self, folder: Path) -> None:
        """Raises whatever open_clip raises on a folder it cannot read."""
        self._torch, open_clip = need(self.library)
        place = f"local-dir:{folder.resolve()}"
        model = json.loads(files.content(folder / CONFIG))["model_cfg"]
        # Weights come from the folder alone. Without the network at all where the text tower's config is at hand; a
        # path in the file would need a chdir.
        vision = model["vision_cfg"] | {"timm_model_pretrained": False}
        text = model["text_cfg"] | {"hf_model_pretrained": False}
        if (folder / TEXT / "config.json").is_file():
            text |= {"hf_model_name": str(folder.resolve() / TEXT)}
        towers = {"vision_cfg": vision, "text_cfg": text}
        model, _, self._preprocess = open_clip.create_model_and_transforms(place, **towers)
        self._model, self._tokenizer = model.eval(), open_clip.get_tokenizer(place)
        self.image_size, rows = _side(model), getattr(model, "vocab_size", None) or model.text.vocab_size
        within = getattr(self._tokenizer, "tokenizer", None)  # transformers' own, where open_clip only wraps it
        self.vocabulary = int(rows), int(self._tokenizer.vocab_size if within is None else len(within))

    def pixels(self, pictures: Sequence[Any]) -> Float32[np.ndarray, "n 3 s s"]:
        """As `Reader`."""
        return np.stack([self._preprocess(picture).numpy() for picture in pictures])

    def ids(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """As `Reader`."""
        return self._tokenizer(list(texts)).numpy()

    def embed_pixels(self, pixels: Float32[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """As `Reader`."""
        with self._torch.inference_mode():
            return unit(self._model.encode_image(self._torch.from_numpy(pixels)))

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """As `Reader`."""
        with self._torch.inference_mode():
            return unit(self._model.encode_text(self._tokenizer(list(texts))))


class ByOpenAI(ByOpenClip):
    """A file, or a folder with one, of the state of OpenAI's CLIP, trained and preprocessed as CheXzero's.

    Images are padded with black to a square of 320 pixels, standardised by CheXzero's own levels, and resized as the
    tensors they then are: bicubically, without antialias. Source: https://github.com/rajpurkarlab/CheXzero,
    data_process.py (`preprocess`) and zero_shot.py (`make`), with its torchvision 0.11.3.
    """

    image_size = STORED_SIDE  # what is standardised; resized by `embed_pixels`

    def __init__(self, folder: Path) -> None:
        """Raises whatever torch and open_clip raise on a file that is no such state."""
        self._torch, open_clip = need(self.library)
        path = weight_file(folder)
        if path is None:
            raise UserError(f"{folder}: holds no single file of PyTorch's; name the one to be read")
        state = self._torch.load(path, map_location="cpu", weights_only=True)
        faults = openai.faults({name: tuple(array.shape) for name, array in state.items()})
        if any(faults.values()):
            raise listing(f"{path}: the weights are not those of a whole OpenAI CLIP", faults)
        build = importlib.import_module("open_clip.model").build_model_from_openai_state_dict
        self._model = build(dict(state), cast_dtype=self._torch.float32).float().eval()
        with self._torch.no_grad():  # it was built, its names and shapes checked, in half precision
            for name, parameter in self._model.named_parameters():
                parameter.copy_(state[name])
        side = self._side = _side(self._model)
        resized = "" if side == STORED_SIDE else f", shown at {side} px, bicubic without antialias"
        self.says = f"CheXzero's: padded with black to a square of {{}} px{resized}"
        self._tokenizer = open_clip.SimpleTokenizer(context_length=self._model.context_length)
        self.vocabulary = self._model.vocab_size, self._tokenizer.vocab_size

    def pixels(self, pictures: Sequence[Any]) -> Float32[np.ndarray, "n 3 s s"]:
        """As `Reader`."""
        mean, deviation = LEVELS
        levels = np.stack([np.asarray(self._square(picture.convert("L")), np.float32) / 255 for picture in pictures])
        return np.repeat((levels[:, None] - mean) / deviation, 3, axis=1).astype(np.float32)

    def embed_pixels(self, pixels: Float32[np.ndarray, "n 3 s s"]) -> Float32[np.ndarray, "n d"]:
        """As `Reader`."""
        squares, size = self._torch.from_numpy(pixels), (self._side, self._side)
        shown = self._torch.nn.functional.interpolate(squares, size, mode="bicubic", align_corners=False)
        return super().embed_pixels(shown.numpy())

    def _square(self, picture: Any) -> Any:
        image = importlib.import_module("PIL.Image")
        scale = STORED_SIDE / max(picture.size)
        width, height = (max(1, int(side * scale)) for side in picture.size)
        stored = image.new("L", (STORED_SIDE, STORED_SIDE))
        corner = ((STORED_SIDE - width) // 2, (STORED_SIDE - height) // 2)
        stored.paste(picture.resize((width, height), image.Resampling.LANCZOS), corner)
        return stored


def _side(model: Any) -> int:
    size = model.visual.image_size
    return int(size[0] if isinstance(size, tuple) else size)
