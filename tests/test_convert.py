"""Conversion tables: equal to PyTorch's own key lists, bit-exact both ways, and loud about every fault."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from clinicclip.errors import UserError
from clinicclip.models import convert, hf_config, tensor_file, torch_names
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClinicCLIP, ClipSpec
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec

GOLDEN = Path(__file__).parent / "golden"
FULL = ClipSpec(SwinSpec(), BertSpec(), GcnSpec())
MICRO = ClipSpec(
    SwinSpec(image_size=32, window_size=4, embed_dim=8, depths=(2, 1), heads=(2, 4)),
    BertSpec(vocab_size=11, width=12, depth=2, heads=3, mlp_width=20, max_positions=9),
    GcnSpec(feature_width=5, hidden=6, width=7),
    dim=10,
)


def leaf_shapes(spec):
    shapes = jax.eval_shape(ClinicCLIP(spec).init, jax.random.key(0))["params"]
    return {path: leaf.shape for path, leaf in flatten_dict(shapes, sep="/").items()}


def random_params(spec):
    rng = np.random.default_rng(0)
    flat = {path: rng.standard_normal(shape, np.float32) for path, shape in leaf_shapes(spec).items()}
    return unflatten_dict(flat, sep="/")


@pytest.fixture(scope="module")
def params():
    return random_params(MICRO)


@pytest.mark.parametrize("dialect", torch_names.DIALECTS)
def test_full_size_keys_and_shapes_are_those_of_the_pytorch_libraries(dialect):
    listed = json.loads((GOLDEN / f"keys_{dialect}.json").read_text())
    leaves = torch_names.clip_leaves(FULL, dialect)
    ours = {key: list(convert.torch_shape(leaf)) for leaf in leaves for key in leaf.keys}
    assert ours == listed
    assert len(ours) == {"open_clip": 373, "transformers": 421}[dialect]


@pytest.mark.parametrize("dialect", torch_names.DIALECTS)
@pytest.mark.parametrize("spec", [FULL, MICRO], ids=["full", "micro"])
def test_tables_list_every_leaf_of_the_model_once(spec, dialect):
    leaves = torch_names.clip_leaves(spec, dialect)
    paths = [leaf.path for leaf in leaves] + list(torch_names.extra_shapes(spec))
    assert len(paths) == len(set(paths))
    assert {leaf.path: leaf.shape for leaf in leaves} | torch_names.extra_shapes(spec) == leaf_shapes(spec)


def test_only_the_transformers_file_holds_the_twelve_index_buffers():
    buffers = torch_names.index_buffers(FULL.image)
    assert len(buffers) == 12
    assert {(b.shape, b.dtype.name) for b in buffers.values()} == {((49, 49), "int64")}
    one = buffers["vision_model.encoder.layers.2.blocks.5.attention.self.relative_position_index"]
    assert one[0, 0] == 84 and one[0, 48] == 0 and one[48, 0] == 168


@pytest.mark.parametrize("dialect", torch_names.DIALECTS)
def test_round_trip_through_a_file_is_bit_equal(params, dialect, tmp_path):
    file = tmp_path / "model.safetensors"
    tensor_file.write(file, convert.to_torch(params, MICRO, dialect))
    back = convert.from_torch(tensor_file.read(file), convert.extras(params, MICRO), MICRO, dialect)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("dialect", torch_names.DIALECTS)
def test_tensors_are_contiguous_float32_and_the_temperature_is_a_scalar(params, dialect):
    tensors = convert.to_torch(params, MICRO, dialect)
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    weights = {key: t for key, t in tensors.items() if not key.endswith("relative_position_index")}
    assert {tensor.dtype.name for tensor in weights.values()} == {"float32"}
    assert tensors["logit_scale"].shape == ()


def test_a_strided_array_is_written_as_its_values(tmp_path):
    view = np.arange(12, dtype=np.float32).reshape(3, 4).T
    tensor_file.write(tmp_path / "t.safetensors", {"t": view, "s": np.float32(2.5)})
    back = tensor_file.read(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(back["t"], view)
    assert back["s"].shape == ()


def test_both_dialects_hold_the_same_numbers(params):
    theirs = convert.to_torch(params, MICRO, "open_clip")
    split = convert.to_torch(params, MICRO, "transformers")
    prefix = "vision_model.encoder.layers.0.blocks.1.attention.self"
    fused = np.concatenate([split[f"{prefix}.{name}.weight"] for name in ("query", "key", "value")])
    np.testing.assert_array_equal(theirs["visual.trunk.layers.0.blocks.1.attn.qkv.weight"], fused)
    reduction = params["image"]["stage_1"]["downsample"]["reduction"]["kernel"].T
    np.testing.assert_array_equal(theirs["visual.trunk.layers.1.downsample.reduction.weight"], reduction)
    np.testing.assert_array_equal(split["vision_model.encoder.layers.0.downsample.reduction.weight"], reduction)
    conv = params["image"]["patch_embed"]["proj"]["kernel"]
    assert theirs["visual.trunk.patch_embed.proj.weight"][3, 2, 1, 0] == conv[1, 0, 2, 3]


def test_all_faulty_arrays_are_named_in_one_error(params):
    tensors = convert.to_torch(params, MICRO, "transformers")
    del tensors["logit_scale"], tensors["text_projection.weight"]
    tensors["stranger.weight"] = np.zeros(3, np.float32)
    tensors["visual_projection.weight"] = tensors["visual_projection.weight"].T
    tensors["text_model.embeddings.LayerNorm.bias"] = np.zeros(12, np.int64)
    with pytest.raises(UserError) as caught:
        convert.from_torch(tensors, convert.extras(params, MICRO), MICRO, "transformers", source="x.safetensors")
    message = str(caught.value)
    assert message.startswith("x.safetensors: ") and "\n" not in message
    assert "2 missing: text_projection.weight, logit_scale" in message
    assert "1 unexpected: stranger.weight" in message
    assert "visual_projection.weight (16, 10) instead of (10, 16)" in message
    assert "text_model.embeddings.LayerNorm.bias int64" in message


def test_parameters_that_are_not_the_models_are_named(params):
    flat = flatten_dict(params, sep="/")
    del flat["graph/conv_0/bias"]
    flat["image/norm/offset"] = np.zeros(16, np.float32)
    with pytest.raises(UserError, match="1 missing: graph/conv_0/bias; 1 unexpected: image/norm/offset"):
        convert.to_torch(unflatten_dict(flat, sep="/"), MICRO, "open_clip")
    with pytest.raises(UserError, match="unknown weight dialect 'keras'"):
        convert.to_torch(params, MICRO, "keras")


@pytest.mark.parametrize("spec", [FULL, MICRO], ids=["full", "micro"])
def test_configs_and_specs_agree_both_ways(spec):
    assert hf_config.swin_spec(hf_config.swin_config(spec.image), source="x") == spec.image
    assert hf_config.bert_spec(hf_config.bert_config(spec.text), source="x") == spec.text
