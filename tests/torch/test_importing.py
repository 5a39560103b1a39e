"""Weights as PyTorch's libraries write them: pickled, sharded, in half precision, under the newest names."""

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers

from clinicclip import importing
from clinicclip.errors import UserError
from clinicclip.models import bert, swin


@pytest.fixture(scope="module")
def dual():
    """A dual encoder with every parameter perturbed."""
    torch.manual_seed(0)
    vision = transformers.SwinConfig(
        image_size=32, embed_dim=8, depths=[2, 1], num_heads=[2, 4], window_size=4, drop_path_rate=0.1
    )
    text = transformers.BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=10)
    model = transformers.VisionTextDualEncoderModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def close(ours, theirs: torch.Tensor) -> None:
    assert np.abs(np.asarray(ours) - theirs.detach().numpy()).max() <= 1e-5


def test_a_pickled_bert_computes_what_it_computed(dual, tmp_path: Path) -> None:
    tower = dual.text_model
    tower.config.save_pretrained(tmp_path)
    state = {f"bert.{key}": tensor for key, tensor in tower.state_dict().items()}
    torch.save(state | {"cls.predictions.bias": torch.zeros(40)}, tmp_path / "pytorch_model.bin")
    spec, params = importing.load_text_tower(tmp_path)
    ids = np.arange(5, 17).reshape(2, 6)
    model = bert.Bert(spec)
    hidden = jax.jit(lambda p, *t: model.apply({"params": p}, *t))(
        params, ids, np.ones_like(ids), np.arange(6)[None].repeat(2, 0)
    )
    with torch.no_grad():
        close(hidden, tower(torch.from_numpy(ids)).last_hidden_state)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickled_swin_of_the_newest_names_computes_what_it_computed(dual, wrapped: bool, tmp_path: Path) -> None:
    state = dual.vision_model.state_dict()
    assert any("q_proj" in key for key in state)
    torch.save({"model": state, "epoch": 3} if wrapped else state, tmp_path / "swin.pth")
    spec, params = importing.load_image_tower(tmp_path / "swin.pth")
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    pooled, _ = jax.jit(lambda p, x: swin.Swin(spec).apply({"params": p}, x))(params, images)
    with torch.no_grad():
        close(pooled, dual.vision_model(torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output)


def test_shards_and_half_precision_of_transformers_are_read(dual, tmp_path: Path) -> None:
    dual.save_pretrained(tmp_path / "whole")
    dual.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    whole, split = (importing.load_model(tmp_path / name) for name in ("whole", "shards"))
    assert whole.spec == split.spec
    jax.tree.map(np.testing.assert_array_equal, whole.params, split.params)
    half = {key: tensor.to(torch.bfloat16) for key, tensor in dual.text_model.state_dict().items()}
    torch.save(half, tmp_path / "half.pt")
    (tmp_path / "config.json").write_text(dual.text_model.config.to_json_string())
    _, narrow = importing.load_text_tower(tmp_path / "half.pt")
    kernel = whole.params["text"]["layer_0"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(
        narrow["layer_0"]["mlp"]["fc1"]["kernel"], torch.from_numpy(kernel).to(torch.bfloat16).float().numpy()
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pth", "model.safetensors"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run_it(name: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "run",)

    for content in ({"state_dict": Evil()}, Evil(), {"bert.pooler.dense.weight": Evil()}):
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=r"no PyTorch file of arrays alone|not a readable safetensors file") as told:
            importing.load_text_tower(tmp_path)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "run").exists()


def test_a_pickle_of_other_things_is_refused(tmp_path: Path) -> None:
    other = "no PyTorch file of arrays alone"
    state, large = {"a": torch.zeros(3)}, {"a": torch.zeros(1).expand(10**9, 768)}
    several = r"holds 2 states of arrays \(model, ema\)"
    cases = [(content, other) for content in ([1, 2], {"a": 1}, torch.zeros(3), {"model": {"a": "b"}})]
    for content, said in (*cases, ({"model": state, "ema": state}, several), (large, "claims 3,072,000,000,000 bytes")):
        torch.save(content, tmp_path / "weights.pt")
        with pytest.raises(UserError, match=said):
            importing.load_text_tower(tmp_path)
