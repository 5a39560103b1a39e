"""What the configuration files beside weights say that the arrays themselves cannot."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicclip import terms
from clinicclip.errors import UserError
from clinicclip.exporting import contract
from clinicclip.exporting.dialects import OPEN_CLIP_POOLERS, TEXT
from clinicclip.files import exists, read_object
from clinicclip.importing import hub, weights
from clinicclip.importing.layout import Row
from clinicclip.models import shards
from clinicclip.models.bert import BertSpec
from clinicclip.models.hf_config import bert_spec, swin_spec
from clinicclip.models.swin import SwinSpec

DUAL, OPEN_CLIP = "vision-text-dual-encoder", terms.OPEN_CLIP
POOLINGS = {name: pooling for pooling, name in OPEN_CLIP_POOLERS.items()}
# Of open_clip's image tower: its default, and what else is the same for a Swin.
TIMM = {"timm_pool": ("avg", ""), "timm_proj": ("linear",), "timm_proj_bias": (False,)}
RELATIVES = re.compile("bert|swin|electra|data2vec")  # computed otherwise than their names and shapes have it
LONGEST = 100_000  # tokens; tokenizers without a limit write an astronomical one


@dataclass(frozen=True)
class Hints:
    """What is said; None = nothing. `timm` is what timm calls the image tower, `rows` are lines for a reading.

    `trained` is what the towers were trained to be given.
    """

    image: SwinSpec | None = None
    text: BertSpec | None = None
    image_size: int | None = None
    pooling: str | None = None
    text_length: int | None = None
    timm: str = ""
    rows: tuple[Row, ...] = ()
    trained: tuple[terms.Terms, ...] = ()


def read(folder: Path, *, image: bool = True, text: bool = True) -> Hints:
    """The hints of a folder for the towers asked for.

    Raises UserError when a file is damaged or describes what our towers cannot be.
    """
    config, source = read_object(folder / "config.json"), str(folder / "config.json")
    kind = config.get("model_type")
    if kind == DUAL:
        said = _towers(config.get("vision_config"), config.get("text_config"), source, image, text)
        said |= {"pooling": "pooler"}
    elif (folder / OPEN_CLIP).is_file():
        said = _open_clip(folder, text)
    elif isinstance(config.get("pretrained_cfg"), Mapping):
        said = {"image_size": _timm_size(config["pretrained_cfg"], source), "timm": str(config.get("architecture", ""))}
    elif kind in ("swin", "bert"):
        said = _towers(config if kind == "swin" else None, config if kind == "bert" else None, source, image, text)
    else:
        said = {"rows": _not_used(config, source)}
    said.setdefault("image_size", said["image"].image_size if said.get("image") else None)
    known = {term: said[term] for term in ("image_size", "pooling") if said.get(term)}
    said["text_length"] = said.get("text_length") or _text_length(folder)
    return Hints(**said, trained=(known, *terms.beside(folder)))


def trained_with(place: Path | str, *, image: bool = True, text: bool = True) -> tuple[terms.Terms, ...]:
    """What the towers of a place were trained to be given, as their file of weights and those beside it say.

    Raises UserError as `read`, or when there are no weights.
    """
    file = weights.weight_file(hub.locate(place))
    return (terms.stated(shards.parts(file)[0]), *read(file.parent, image=image, text=text).trained)


def own_terms(place: Path, *, force: bool) -> list[str]:
    """What is forced on weights of ours in a folder that others read them in, for they say how they were trained.

    As `terms.require`.
    """
    stated = next(filter(None, map(terms.stated, sorted(place.glob("*.safetensors")))), None)
    if not stated:
        return []
    return terms.require(place, [stated], contract.tokenizer_in(place), *trained_with(place)[1:], force=force)


def _towers(vision: Any, language: Any, source: str, image: bool, text: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if image and vision is not None:
        found["image"] = swin_spec(_mapping(vision, source), source=source)
    if text and language is not None:
        found["text"] = bert_spec(_mapping(language, source), source=source)
    return found


def _open_clip(folder: Path, text: bool) -> dict[str, Any]:
    source = str(folder / OPEN_CLIP)
    model = _mapping(read_object(folder / OPEN_CLIP).get("model_cfg"), source)
    vision, language = (_mapping(model.get(name), source) for name in ("vision_cfg", "text_cfg"))
    pooler = str(language.get("hf_pooler_type", "mean_pooler"))  # open_clip's own default
    if pooler not in POOLINGS:
        raise UserError(f"{source}: its text pooling {pooler!r} is none of {', '.join(POOLINGS)}")
    for key, known in TIMM.items():
        if vision.get(key, known[0]) not in known:
            raise UserError(
                f"{source}: vision_cfg.{key} is {vision[key]!r}; an image tower that is read has {known[0]!r}"
            )
    said: dict[str, Any] = {"pooling": POOLINGS[pooler], "image_size": _size(vision.get("image_size"), source)}
    said["timm"] = str(vision.get("timm_model_name") or "")
    said["text_length"] = _length(language.get("context_length"))
    if text:
        place = _text_folder(folder, str(language.get("hf_model_name", "")))
        config = read_object(place / "config.json")
        said["text"] = bert_spec(config, source=str(place / "config.json"))
    return said


def _text_folder(folder: Path, name: str) -> Path:
    """The folder of the text tower's configuration: below the model's own, or a model of the hub."""
    # Where exports have it, whatever name open_clip finds it by on a hub.
    own = folder / TEXT
    if (own / "config.json").is_file():
        return own
    if name and exists(folder / name / "config.json") and _within(folder, folder / name):
        return folder / name
    if hub.is_id(name):
        return hub.configs(name)
    raise UserError(
        f"{folder / OPEN_CLIP}: its text tower {name!r} is neither a folder in it with a config.json nor a hub id"
    )


def _within(folder: Path, place: Path) -> bool:
    return place.resolve().is_relative_to(folder.resolve())


def _not_used(config: Mapping[str, Any], source: str) -> tuple[Row, ...]:
    """The line of a configuration of something else.

    Raises UserError when it is of a relative of our towers, whose arrays would pass for those of one.
    """
    kind = config.get("model_type", "")
    if not isinstance(kind, str) or RELATIVES.search(kind):
        raise UserError(f"{source}: model_type is {kind!r}; what is read is 'bert', 'swin' or {DUAL!r}")
    why = f"of another model, {kind!r}" if kind else "names no model_type"
    return (Row("configuration", "config.json", "not used", why),) if config else ()


def _timm_size(pretrained: Mapping[str, Any], source: str) -> int | None:
    shape = pretrained.get("input_size")
    return _size(shape[-1], source) if isinstance(shape, list) and shape else None


def _text_length(folder: Path) -> int | None:
    return _length(read_object(folder / "tokenizer_config.json").get("model_max_length"))


def _length(length: Any) -> int | None:
    return length if type(length) is int and 2 < length < LONGEST else None


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
