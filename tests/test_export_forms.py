"""Forms an export can have: narrower numbers, shards, and a card that the hub reads."""

import json
from dataclasses import replace
from pathlib import Path

import foreign
import jax
import micro_export
import numpy as np
import pytest
from huggingface_hub import ModelCard

from clinicclip import importing
from clinicclip.errors import UserError
from clinicclip.exporting import load_export, parity
from clinicclip.models import convert, shards, tensor_file

SPEC = replace(foreign.MICRO, graph=foreign.GRAPH)
ORIGIN = replace(
    micro_export.ORIGIN,
    name="n_g_dtcg",
    data="hospital",
    data_title="A Hospital's Films",
    data_licence="credentialed use only",
    data_open=False,
    phantom=False,
)
ROW = {"value": 0.75, "ci_low": 0.5, "ci_high": None, "n": 9, "data": "hospital", "split": "test"}
RESULTS = [
    ROW | {"metric": "zero_shot/hospital/auroc/pair/macro"},
    ROW | {"metric": "zero_shot/hospital/auroc/pair/edema"},
    ROW | {"metric": "cxr_align/task_a"},
    ROW | {"metric": "cxr_align/task_a/wrong_image", "value": 0.25},
    ROW | {"metric": "retrieval/t2i/recall@5", "value": None},
]


@pytest.fixture(scope="module")
def params():
    return foreign.random_params(SPEC)


@pytest.fixture(autouse=True)
def no_compiling(monkeypatch):
    """What the model computes is measured elsewhere."""
    kept = np.zeros((1, 2), np.float32)
    square, ids = np.zeros((1, 32, 32), np.uint8), np.zeros((1, 16), np.int32)
    sample = parity.Sample((square[0],), ("no effusion",), square, ids, kept, kept)
    monkeypatch.setattr(parity, "sample", lambda *arguments: sample)
    monkeypatch.setattr(parity, "_installed", lambda *modules: False)


def export(folder: Path, params, **options) -> Path:
    usual = {"tokenizer": foreign.WORDS, "text_length": foreign.LENGTH, "config": {}, "origin": ORIGIN}
    micro_export.export(folder, SPEC, params=params, **(usual | options))
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_narrow_weights_are_the_models_own_rounded_once(params, dtype, tmp_path):
    folder = export(tmp_path / "out", params, dtype=dtype)
    stored = tensor_file.read(folder / "model.safetensors")
    assert {t.dtype.name for k, t in stored.items() if t.ndim and "index" not in k} == {dtype}
    assert stored["logit_scale"].dtype == np.float32
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    back = load_export(folder).params
    jax.tree.map(np.testing.assert_array_equal, back, convert.rounded(params, dtype))
    assert ("dtype=torch.float32" in (folder / "README.md").read_text()) == (dtype != "float32")
    again = export(tmp_path / "again", back, dtype=dtype)
    for name in ("model.safetensors", "extra.safetensors"):
        jax.tree.map(np.testing.assert_array_equal, tensor_file.read(again / name), tensor_file.read(folder / name))


def test_numbers_too_large_for_a_type_are_not_made_infinite(params, tmp_path):
    large = params | {"image_projection": {"kernel": params["image_projection"]["kernel"] * 1e6}}
    with pytest.raises(UserError, match=r"float16 cannot hold the numbers of image_projection/kernel"):
        export(tmp_path / "out", large, dtype="float16")
    export(tmp_path / "out", large, dtype="bfloat16")


def test_large_files_are_split_and_read_back_whole(params, tmp_path):
    folder = export(tmp_path / "out", params, shard_bytes=15_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert len(names) > 3 and names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    for name in names:
        stored = tensor_file.read(folder / name)
        assert len(stored) == 1 or sum(t.nbytes for t in stored.values()) <= 15_000
    assert not (folder / "model.safetensors").exists()
    jax.tree.map(np.testing.assert_array_equal, load_export(folder).params, params)
    (folder / "clinicclip.json").rename(folder / "kept.json")  # as transformers alone would leave it
    jax.tree.map(np.testing.assert_array_equal, importing.load_model(folder).params["text"], params["text"])
    (folder / "kept.json").rename(folder / "clinicclip.json")
    (folder / names[1]).write_bytes(b"")
    with pytest.raises(UserError, match=f"{names[1]}: absent or changed"):
        load_export(folder)
    assert shards.parts(tmp_path / "absent.safetensors") == (tmp_path / "absent.safetensors",)


def test_the_hub_reads_the_cards_metadata(params, tmp_path):
    config = {"model": {"init": "", "image": {"init": ""}, "text": {"init": "/home/someone/bert"}}}
    folder = export(tmp_path / "out", params, results=RESULTS, config=config)
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "terms-of-hospital")
    assert (card.data.library_name, card.data.model_name) == ("transformers", "n_g_dtcg")
    found = {result.metric_name: result for result in card.data.eval_results}
    assert set(found) == {row["metric"] for row in RESULTS if "edema" not in row["metric"] and row["value"]}
    macro = found["zero_shot/hospital/auroc/pair/macro"]
    assert (macro.task_type, macro.metric_value) == ("zero-shot-image-classification", 0.75)
    assert macro.metric_args == {"n": 9, "ci_low": 0.5}
    for said in (
        "Research use only. Not a medical device",
        "Terms of the data: credentialed use only",
        "Start of the text tower: `bert`; its terms bind too.",
        "## Intended use",
        "## Failure modes",
        "right for 0.750 of the items, and for 0.250 with images of other patients",
        "Texts are cut after 16 tokens",
        "| zero_shot/hospital/auroc/pair/edema | 0.750 |",
    ):
        assert said in card.content
    assert "someone" not in card.content
