"""The arrays of OpenAI's CLIP with a vision transformer, as CheXzero saved them: told by name, held to every shape."""

from collections.abc import Iterator, Mapping, Sequence

Shape = tuple[int, ...]
# Name -> number of axes. No other kind of model has all of these.
ANCHORS = {
    "visual.class_embedding": 1,
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.proj": 2,
    "token_embedding.weight": 2,
    "positional_embedding": 2,
    "text_projection": 2,
}
SETTINGS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's own files have beside them
Faults = dict[str, Sequence[str]]


def recognised(shapes: Mapping[str, Shape]) -> bool:
    """Whether arrays of these names and shapes are such a model's, whole or not."""
    return all(len(shapes.get(name, ())) == axes for name, axes in ANCHORS.items())


def faults(shapes: Mapping[str, Shape]) -> Faults:
    """What is missing, unexpected and of another shape in a model that is `recognised`."""
    wanted = dict(_wanted(shapes))
    found = {name: shape for name, shape in shapes.items() if name not in SETTINGS}
    differing = [name for name, shape in wanted.items() if found.get(name, shape) != shape]
    return {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [f"{name} {found[name]} instead of {wanted[name]}" for name in differing],
    }


def _wanted(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    image, _, patch, _ = shapes["visual.conv1.weight"]
    pieces, text = shapes["token_embedding.weight"]
    dim = shapes["text_projection"][1]
    yield "logit_scale", ()
    yield "visual.class_embedding", (image,)
    yield "visual.conv1.weight", (image, 3, patch, patch)
    yield "visual.positional_embedding", (shapes["visual.positional_embedding"][0], image)
    yield "visual.proj", (image, dim)
    yield "token_embedding.weight", (pieces, text)
    yield "positional_embedding", (shapes["positional_embedding"][0], text)
    yield "text_projection", (text, dim)
    for norm, width in (("visual.ln_pre", image), ("visual.ln_post", image), ("ln_final", text)):
        yield from _affine(norm, width)
    for prefix, width in (("visual.transformer", image), ("transformer", text)):
        blocks = {name.split(".resblocks.")[1].split(".")[0] for name in shapes if name.startswith(f"{prefix}.resb")}
        for block in range(len(blocks)):
            yield from _block(f"{prefix}.resblocks.{block}", width)


def _affine(key: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{key}.weight", (width,)
    yield f"{key}.bias", (width,)


def _block(key: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield from _affine(f"{key}.ln_1", width)
    yield from _affine(f"{key}.ln_2", width)
    yield f"{key}.attn.in_proj_weight", (3 * width, width)
    yield f"{key}.attn.in_proj_bias", (3 * width,)
    for name, outputs, inputs in (
        ("attn.out_proj", width, width),
        ("mlp.c_fc", 4 * width, width),
        ("mlp.c_proj", width, 4 * width),
    ):
        yield f"{key}.{name}.weight", (outputs, inputs)
        yield f"{key}.{name}.bias", (outputs,)
