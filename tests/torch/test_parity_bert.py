"""Our BERT equals the one of transformers, layer by layer, with every parameter perturbed, packed or not."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicclip.data import packing
from clinicclip.models.bert import Bert, Embeddings, Layer

GOLDEN = Path(__file__).parents[1] / "golden"
make = runpy.run_path(str(GOLDEN / "make_towers.py"))
recipe = make["recipe"]


def our_states(spec, params, packed):
    """Embedding and layer outputs [r, l, w], and the pooled features [b, w]."""

    def run(model, packed):
        hidden = model(packed.ids, packed.owner, packed.position)
        return model.pool(hidden, packed.owner, packed.start, 1)

    def apply(params, packed):
        return Bert(spec).apply(
            {"params": params},
            packed,
            method=run,
            capture_intermediates=lambda module, _: isinstance(module, Embeddings | Layer),
            mutable="intermediates",
        )

    packed = packing.PackedText(*map(jax.numpy.asarray, packed))
    pooled, state = jax.jit(apply)(params, packed)
    names = ["embeddings", *(f"layer_{index}" for index in range(spec.depth))]
    return [np.asarray(state["intermediates"][name]["__call__"][0]) for name in names], pooled


@pytest.mark.parametrize(("size", "limit"), [("small", 1e-5), ("full", 1e-4)])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "plain"])
def test_bert_equals_transformers(size, limit, pack):
    spec = recipe.SIZES[size]
    params, texts = recipe.weights(spec), recipe.texts(spec)
    theirs, their_pooled = make["text_states"](make["torch_model"](spec, params), texts)
    packed = packing.pack(texts, length=17) if pack else packing.plain(texts, 17)
    ours, pooled = our_states(spec.text, params["text"], packed)
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        flat = a.reshape(-1, a.shape[-1])
        for text, start, states in zip(texts, packed.start, b, strict=True):
            difference = np.abs(flat[start : start + len(text)] - states[: len(text)]).max()
            assert difference <= limit, (layer, difference)
    assert np.abs(np.asarray(pooled) - their_pooled).max() <= limit
