"""Where a run's parameters start: at random, from towers of others, or from a whole model.

``model.init`` names a whole model and comes before ``model.image.init`` and ``model.text.init``. Each names a
folder, a weight file or a hub id; what the weights fix replaces the sizes in the configuration.
"""

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from clinicclip import importing
from clinicclip.errors import UserError
from clinicclip.models.clip import ClipSpec, init_params

# What the weights do not fix: how a tower is trained, and for which images.
OWN_IMAGE = ("init", "image_size", "window_size", "drop_path")
OWN_TEXT = ("init", "frozen", "dropout", "pooling")
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
    if model.init:
        _resolve_whole(config)
        return
    if model.text.init:
        spec, _ = importing.load_text_tower(model.text.init, pooling=model.text.pooling)
        _write(model.text, spec, OWN_TEXT)
    if model.image.init:
        found, _ = importing.load_image_tower(model.image.init)
        _write(model.image, found, OWN_IMAGE)


def _resolve_whole(config: ConfigDict) -> None:
    model = config.model
    found = importing.load_model(model.init, pooling=model.text.pooling)
    if model.text.pooling != found.spec.text.pooling:
        raise UserError(
            f"model.init={model.init} pools its texts by {found.spec.text.pooling!r}, the configuration says "
            f"{model.text.pooling!r}: set --config.model.text.pooling={found.spec.text.pooling}"
        )
    _write(model.text, found.spec.text, OWN_TEXT)
    _write(model.image, found.spec.image, OWN_IMAGE)
    model.dim = found.spec.dim
    model.logit_scale, model.logit_bias = (float(found.params[name]) for name in ("logit_scale", "logit_bias"))


def initial_params(config: ConfigDict, spec: ClipSpec) -> PyTree:
    """Fresh parameters, with those of the starting weights put in place. Raises UserError where they do not fit."""
    model = config.model
    params = dict(init_params(spec, config.seed))
    if model.init:
        params |= _whole_params(importing.load_model(model.init, pooling=spec.text.pooling), model.init, spec)
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


def told(config: ConfigDict) -> list[str]:
    """What a run starts from, as lines for the user: of a whole model its reading."""
    if not config.model.init:
        return [f"{key}={place}" for key, place in places(config).items()]
    found = importing.load_model(config.model.init, pooling=config.model.text.pooling)
    notes = [f"note: its images were prepared otherwise: {'; '.join(found.unlike)}"] if found.unlike else []
    if found.spec.graph and not (config.loss.graph or config.loss.graph_stream):
        notes.append("note: its graph tower is left behind, this run has none")
    return [f"model.init={config.model.init}", *importing.table(found.rows), *notes]


def _write(section: ConfigDict, spec: object, own: tuple[str, ...]) -> None:
    for key in section:
        if key not in own:
            section[key] = getattr(spec, key)
