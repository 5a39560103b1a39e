"""Our Swin equals the one of transformers, layer by layer, with every parameter perturbed."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicclip.models.swin import Block, Swin, from_windows

GOLDEN = Path(__file__).parents[1] / "golden"
make = runpy.run_path(str(GOLDEN / "make_towers.py"))
recipe = make["recipe"]


def our_states(spec, params, images):
    """Block outputs [b, tokens, c], final tokens [b, h, w, c], pooled [b, c]."""
    model = Swin(spec)

    def apply(params, images):
        return model.apply(
            {"params": params},
            images,
            capture_intermediates=lambda module, _: isinstance(module, Block),
            mutable="intermediates",
        )

    (pooled, tokens), state = jax.jit(apply)(params, images)
    blocks = []
    for stage, depth in enumerate(spec.depths):
        side = spec.side(stage)
        for index in range(depth):
            out = state["intermediates"][f"stage_{stage}"][f"block_{index}"]["__call__"][0]
            out = from_windows(out, spec.padded_side(stage), spec.shift(stage, index))[:, :side, :side]
            blocks.append(np.asarray(out).reshape(out.shape[0], side * side, -1))
    return blocks, tokens, pooled


@pytest.mark.parametrize(("size", "limit"), [("small", 1e-5), ("padded", 1e-5), ("full", 1e-4)])
def test_swin_equals_transformers(size, limit):
    spec = recipe.SIZES[size]
    params, images = recipe.weights(spec), recipe.images(spec)
    theirs, their_tokens, their_pooled = make["image_states"](make["torch_model"](spec, params), images)
    ours, tokens, pooled = our_states(spec.image, params["image"], images)
    assert len(ours) == len(theirs)
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert np.abs(a - b).max() <= limit, layer
    assert np.abs(np.asarray(tokens).reshape(their_tokens.shape) - their_tokens).max() <= limit
    assert np.abs(np.asarray(pooled) - their_pooled).max() <= limit
