"""Where a run's parameters start: at random, from towers of others, or from a whole model.

``model.init`` names a whole model and comes before ``model.image.init`` and ``model.text.init``. Each names a
folder, a weight file or a hub id; what the weights fix replaces the sizes in the configuration. What they were trained
to be given must be what the run gives them, unless ``model.force``.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from clinicclip import importing, terms
from clinicclip.errors import UserError
from clinicclip.exporting import contract
from clinicclip.models.clip import ClipSpec, init_params

# What the weights do not fix: how a tower is trained, and for which images.
OWN_IMAGE = ("init", "image_size", "window_size", "drop_path")
OWN_TEXT = ("init", "frozen", "dropout", "pooling")
Held = tuple[tuple[terms.Terms, ...], terms.Terms]
WAYS = "or start without any: size=micro or text=scratch in the config argument"


def places(config: ConfigDict) -> dict[str, str]:
    """Config key -> place of the weights it names, for those that are read."""
    model = config.model
    if model.init:
        return {"model.init": model.init}
    return {f"model.{tower}.init": model[tower].init for tower in ("image", "text") if model[tower].init}


def text_place(config: ConfigDict) -> str:
    """The place that holds the text tower's start and its tokenizer, or ""."""
    return str(config.model.init or config.model.text.init)


def require_weights(config: ConfigDict) -> None:
    """Finds the starting weights, or fetches them. Raises UserError naming the ways on."""
    for key, place in places(config).items():
        try:
            importing.locate(place)
        except UserError as fault:
            raise UserError(f"{key}={fault}. Name a folder or file with --config.{key}=PLACE, {WAYS}") from None


def resolve_sizes(config: ConfigDict) -> None:
    """Writes what the starting weights fix into the configuration.

    Weights that are not on this machine are not fetched for it: the sizes written in the configuration stand.
    Raises UserError when weights are unusable, or the configuration contradicts what they were trained with.
    """
    model = config.model
    if any(importing.cached(place) is None for place in places(config).values()):
        return
    for key, (trained, given) in _held(config).items():
        terms.require(f"{key}={places(config)[key]}", trained, given, force=model.force)
    if model.init:
        _resolve_whole(config)
        return
    if model.text.init:
        spec, _ = importing.load_text_tower(model.text.init, pooling=model.text.pooling)
        _write(model.text, spec, OWN_TEXT)
    if model.image.init:
        found, _ = importing.load_image_tower(model.image.init)
        _write(model.image, found, OWN_IMAGE)


def _held(config: ConfigDict) -> dict[str, Held]:
    """Config key -> what the weights it names were trained to be given, and what the run gives them."""
    model, found = config.model, dict[str, Held]()
    for key, place in places(config).items():
        image, text = key != "model.text.init", key != "model.image.init"
        trained = importing.trained_with(place, image=image, text=text)
        given: dict[str, Any] = contract.images(model.image.image_size) if image else {}
        given |= {"pooling": model.text.pooling} if text else {}
        if text and any("tokenizer" in said for said in trained):
            given |= contract.tokenizer_in(importing.folder_of(importing.locate(place)))
        found[key] = trained, given
    return found


def _whole(config: ConfigDict) -> importing.Imported:
    model = config.model
    return importing.load_model(model.init, pooling=model.text.pooling, force=model.force)


def _resolve_whole(config: ConfigDict) -> None:
    model, found = config.model, _whole(config)
    _write(model.text, found.spec.text, OWN_TEXT)
    _write(model.image, found.spec.image, OWN_IMAGE)
    model.dim = found.spec.dim
    model.logit_scale, model.logit_bias = (float(found.params[name]) for name in ("logit_scale", "logit_bias"))


def initial_params(config: ConfigDict, spec: ClipSpec) -> PyTree:
    """Fresh parameters, with those of the starting weights put in place. Raises UserError where they do not fit."""
    model = config.model
    params = dict(init_params(spec, config.seed))
    if model.init:
        params |= _whole_params(_whole(config), model.init, spec)
    else:
        if model.text.init:
            _, params["text"] = importing.load_text_tower(model.text.init, pooling=spec.text.pooling)
        if model.image.init:
            _, params["image"] = importing.load_image_tower(
                model.image.init, image_size=spec.image.image_size, window_size=spec.image.window_size
            )
    params["logit_scale"] = np.float32(model.logit_scale)
    params["logit_bias"] = np.float32(model.logit_bias)
    return params


def _whole_params(found: importing.Imported, place: str, spec: ClipSpec) -> PyTree:
    """The parts of a whole model that the run has; a graph tower is begun afresh where the model has none."""
    if spec.graph and found.spec.graph and found.spec.graph != spec.graph:
        raise UserError(f"model.init={place} has the graph tower {found.spec.graph}, the configuration {spec.graph}")
    _, image = importing.fit_swin(
        found.spec.image, found.params["image"], spec.image.image_size, spec.image.window_size
    )
    unused = () if spec.graph else ("graph", "graph_projection")
    return {name: part for name, part in found.params.items() if name not in unused} | {"image": image}


def told(config: ConfigDict) -> Iterator[str]:
    """What a run starts from, as lines for the user: how it was read, and what was forced."""
    for key, place in places(config).items():
        yield f"{key}={place}"
        if key == "model.text.init":
            yield from importing.table(importing.read_text_tower(place, config.model.text.pooling).rows)
        if key == "model.image.init":
            yield from importing.table(importing.read_image_tower(place).rows)
    if config.model.init:
        found = _whole(config)
        yield from importing.table(found.rows)
        if found.spec.graph and not (config.loss.graph or config.loss.graph_stream):
            yield "note: its graph tower is left behind, this run has none"
    for key, held in _held(config).items():
        yield from (f"note: {key} is forced: {difference}" for difference in terms.differences(held[0], held[1]))


def _write(section: ConfigDict, spec: object, own: tuple[str, ...]) -> None:
    for key in section:
        if key not in own:
            section[key] = getattr(spec, key)
