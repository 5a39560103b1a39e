"""What the configuration files beside weights say that the arrays themselves cannot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicclip.errors import UserError
from clinicclip.exporting.dialects import BICUBIC, OPEN_CLIP_POOLERS
from clinicclip.importing import hub
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD
from clinicclip.models.hf_config import bert_spec, swin_spec
from clinicclip.models.swin import SwinSpec

DUAL, OPEN_CLIP = "vision-text-dual-encoder", "open_clip_config.json"
POOLINGS = {name: pooling for pooling, name in OPEN_CLIP_POOLERS.items()}
# https://github.com/mlfoundations/open_clip, src/open_clip/constants.py
OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
LONGEST = 100_000  # tokens; tokenizers without a limit write an astronomical one


@dataclass(frozen=True)
class Hints:
    """What is said; None = nothing. `unlike` lists how images were prepared otherwise than here."""

    image: SwinSpec | None = None
    text: BertSpec | None = None
    image_size: int | None = None
    pooling: str | None = None
    text_length: int | None = None
    unlike: tuple[str, ...] = ()


def read(folder: Path, *, image: bool = True, text: bool = True) -> Hints:
    """The hints of a folder for the towers asked for.

    Raises UserError when a file is damaged or describes what our towers cannot be.
    """
    config, source = _json(folder / "config.json"), str(folder / "config.json")
    kind = config.get("model_type")
    if kind == DUAL:
        said = _towers(config.get("vision_config"), config.get("text_config"), source, image, text)
        said |= {"pooling": "pooler"}
    elif (folder / OPEN_CLIP).is_file():
        said = _open_clip(folder, text)
    elif "architecture" in config:
        said = {"image_size": _timm_size(config, source)}
    elif kind in ("swin", "bert"):
        said = _towers(config if kind == "swin" else None, config if kind == "bert" else None, source, image, text)
    elif config:
        raise UserError(f"{source}: model_type is {kind!r}; what is read is 'bert', 'swin' or {DUAL!r}")
    else:
        said = {}
    said.setdefault("image_size", said["image"].image_size if said.get("image") else None)
    return Hints(**said, text_length=_text_length(folder), unlike=(*_unlike(folder), *_unlike_open_clip(folder)))


def _towers(vision: Any, language: Any, source: str, image: bool, text: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if image and vision is not None:
        found["image"] = swin_spec(_mapping(vision, source), source=source)
    if text and language is not None:
        found["text"] = bert_spec(_mapping(language, source), source=source)
    return found


def _open_clip(folder: Path, text: bool) -> dict[str, Any]:
    source = str(folder / OPEN_CLIP)
    model = _mapping(_json(folder / OPEN_CLIP).get("model_cfg"), source)
    vision, language = (_mapping(model.get(name), source) for name in ("vision_cfg", "text_cfg"))
    pooler = language.get("hf_pooler_type", "mean_pooler")  # open_clip's own default
    if pooler not in POOLINGS:
        raise UserError(f"{source}: its text pooling {pooler!r} is none of {', '.join(POOLINGS)}")
    said: dict[str, Any] = {"pooling": POOLINGS[pooler], "image_size": _size(vision.get("image_size"), source)}
    if text:
        place = _text_folder(folder, str(language.get("hf_model_name", "")))
        config = _json(place / "config.json")
        said["text"] = bert_spec(config, source=str(place / "config.json"))
    return said


def _text_folder(folder: Path, name: str) -> Path:
    """The folder of the text tower's configuration: below the model's own, or a model of the hub."""
    below = (folder / name).resolve()
    if name and (below / "config.json").is_file() and below.is_relative_to(folder.resolve()):
        return below
    if hub.is_id(name):
        return hub.configs(name)
    raise UserError(
        f"{folder / OPEN_CLIP}: its text tower {name!r} is neither a folder in it with a config.json nor a hub id"
    )


def _timm_size(config: Mapping[str, Any], source: str) -> int | None:
    pretrained = config.get("pretrained_cfg")
    shape = pretrained.get("input_size") if isinstance(pretrained, Mapping) else None
    return _size(shape[-1], source) if isinstance(shape, list) and shape else None


def _text_length(folder: Path) -> int | None:
    length = _json(folder / "tokenizer_config.json").get("model_max_length")
    return length if type(length) is int and 2 < length < LONGEST else None


def _unlike(folder: Path) -> tuple[str, ...]:
    """What the processor's files say against squashing bicubically and ImageNet's statistics."""
    within = _json(folder / "processor_config.json").get("image_processor")  # where transformers 5 writes it
    config = _json(folder / "preprocessor_config.json") or (within if isinstance(within, dict) else {})
    ours = {
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
        "resample": BICUBIC,
        "do_center_crop": False,
        "do_normalize": True,
        "do_resize": True,
        "do_rescale": True,
    }
    size = config.get("size")
    shortest = ("size is the shortest edge's",) if isinstance(size, Mapping) and "shortest_edge" in size else ()
    return _differences(config, ours) + shortest


def _unlike_open_clip(folder: Path) -> tuple[str, ...]:
    config = _json(folder / OPEN_CLIP)
    if not config:
        return ()
    ours = {"mean": list(IMAGE_MEAN), "std": list(IMAGE_STD), "interpolation": "bicubic", "resize_mode": "squash"}
    unsaid = {"resize_mode": "shortest", "mean": OPENAI_MEAN, "std": OPENAI_STD}  # open_clip's defaults
    preprocess = config.get("preprocess_cfg")
    return _differences(unsaid | (preprocess if isinstance(preprocess, dict) else {}), ours)


def _differences(config: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{key} is {config[key]!r}, here {value!r}" for key, value in ours.items() if config.get(key, value) != value
    )


def _size(value: Any, source: str) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise UserError(f"{source}: an image size of {value!r}; expected the side of a square in pixels")
    return value


def _mapping(value: Any, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{source}: lacks a part that its kind must have; fetch it again")
    return value


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON; fetch the folder again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no JSON object; fetch the folder again")
    return content
