"""What weights were trained to be given, held against what they are given here: one mechanism for every way in.

Terms are said by weights of ours in their own metadata, and by the configuration files that others put beside theirs.
What is not said is not held against anybody.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from clinicclip import files
from clinicclip.errors import UserError

Terms = Mapping[str, Any]
KEY, GOLDEN = "clinicclip", "golden_sha256"  # in the metadata of a file of weights
OPEN_CLIP = "open_clip_config.json"
WORDS = {
    "image_size": "image size",
    "mean": "mean of the images",
    "std": "standard deviation of the images",
    "scale": "factor of the gray levels",
    "resize": "way to resize images",
    "interpolation": "interpolation of images",
    "tokenizer": "tokenizer",
    "pieces": "pieces of the vocabulary",
    "text_length": "text length",
    "pooling": "text pooling",
}
SQUASH, BICUBIC = "squash", "bicubic"
RESAMPLING = ("nearest", "lanczos", "bilinear", BICUBIC, "box", "hamming")  # by Pillow's number
UNSCALED = {"mean": [0.0] * 3, "std": [1.0] * 3}
# https://github.com/mlfoundations/open_clip, src/open_clip/constants.py; what it does where a folder says nothing.
OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
UNSAID = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "interpolation": BICUBIC, "resize_mode": "shortest"}
SENTENCE_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def require(place: object, trained: Iterable[Terms], *given: Terms, force: bool) -> list[str]:
    """In words, each term in which what weights are given is not what they were trained with.

    Raises UserError when there is any, unless ``force``.
    """
    found = differences(trained, *given)
    if found and not force:
        raise UserError(
            f"{place}: not as its weights were trained ({'; '.join(found)}): restore what was changed, or force it if "
            "you know why (--force, force=True, or --config.model.force=True of a run)"
        )
    return found


def agreed(trained: Iterable[Terms], given: Terms) -> Terms:
    """What is given, but each term as the first who tells of the training says it."""
    found = dict(given)
    for said in reversed(list(trained)):
        found |= {name: said[name] for name in given if name in said}
    return found


def noted(forced: Iterable[str]) -> dict[str, str]:
    """What reports say of differences that were forced, where there are any."""
    told = "; ".join(forced)
    return {"forced": told} if told else {}


def differences(trained: Iterable[Terms], *given: Terms) -> list[str]:
    """In words, each term in which somebody says of the training other than what somebody says is given."""
    told = [
        f"{words} {_short(said[name])} in training, {_short(here[name])} here"
        for said in trained
        for here in given
        for name, words in WORDS.items()
        if name in said and name in here and said[name] != here[name]
    ]
    return list(dict.fromkeys(told))


def stated(weights: Path) -> dict[str, Any]:
    """The terms in the metadata of a safetensors file; none where it is another file or has none."""
    try:
        with safe_open(weights, "np") as file:
            said = json.loads((file.metadata() or {})[KEY])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def beside(folder: Path) -> tuple[Terms, ...]:
    """What the configuration files of a folder say, a mapping each. Raises UserError for a damaged file."""
    said = (_processor(folder), _open_clip(folder), _timm(folder), _sentences(folder))
    return tuple(terms for terms in said if terms)


def _processor(folder: Path) -> Terms:
    """Of transformers' image processor."""
    within = files.read_object(folder / "processor_config.json").get("image_processor")  # where transformers 5 puts it
    config = files.read_object(folder / "preprocessor_config.json") or (within if isinstance(within, dict) else {})
    said = {term: config[key] for term, key in (("mean", "image_mean"), ("std", "image_std")) if key in config}
    said |= UNSCALED if config.get("do_normalize") is False else {}
    if "rescale_factor" in config or config.get("do_rescale") is False:
        said["scale"] = config["rescale_factor"] if config.get("do_rescale", True) else 1
    if (number := config.get("resample")) is not None:
        known = type(number) is int and 0 <= number < len(RESAMPLING)
        said["interpolation"] = RESAMPLING[number] if known else number
    size, crop = config.get("size"), config.get("do_center_crop")
    shown = config.get("crop_size") if crop else size
    shown = shown.get("height") if isinstance(shown, dict) else shown
    said |= {"image_size": shown} if shown else {}
    if config.get("do_resize") is False:
        said["resize"] = "none"
    elif crop or size:
        said["resize"] = "shortest" if crop or (isinstance(size, dict) and "shortest_edge" in size) else SQUASH
    return said


def _open_clip(folder: Path) -> Terms:
    config = files.read_object(folder / OPEN_CLIP)
    if not config:
        return {}
    preprocess = config.get("preprocess_cfg")
    said = UNSAID | (preprocess if isinstance(preprocess, dict) else {})
    model = config.get("model_cfg")
    language = model.get("text_cfg") if isinstance(model, dict) else None
    length = language.get("context_length") if isinstance(language, dict) else None
    texts = {"text_length": length} if length else {}
    return texts | {"resize": said["resize_mode"]} | {name: said[name] for name in ("mean", "std", "interpolation")}


def _timm(folder: Path) -> Terms:
    """Of timm's tower; its crop is that of an evaluation, not of the training, which crops at random."""
    config = files.read_object(folder / "config.json").get("pretrained_cfg")
    if not isinstance(config, dict):
        return {}
    said = {name: config[name] for name in ("mean", "std", "interpolation") if name in config}
    shape = config.get("input_size")
    return said | ({"image_size": shape[-1]} if isinstance(shape, list) and shape else {})


def _sentences(folder: Path) -> Terms:
    """Of a sentence encoder."""
    config = files.read_object(folder / "1_Pooling" / "config.json")
    return next(({"pooling": pooling} for key, pooling in SENTENCE_POOLINGS.items() if config.get(key) is True), {})


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else str(value)
