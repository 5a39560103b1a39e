"""Weights from elsewhere: every form is read bit for bit, and what cannot be read whole is not read at all."""

import json
import shutil
from dataclasses import replace

import foreign
import jax
import numpy as np
import pytest

from clinicclip import importing, terms
from clinicclip.errors import UserError
from clinicclip.exporting import contract
from clinicclip.importing import weights, whole
from clinicclip.importing.hints import Hints
from clinicclip.models import convert, hf_config, tensor_file

MICRO = foreign.MICRO


@pytest.fixture(scope="module")
def params():
    return foreign.random_params(replace(MICRO, graph=foreign.GRAPH))


def equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def towers(params):
    return {name: params[name] for name in ("image", "text", "image_projection", "text_projection", "logit_scale")}


def two_towers(params):
    return towers(params) | {"logit_bias": params["logit_bias"]}


# ---------------------------------------------------------------- towers


@pytest.mark.parametrize("prefix", ["", "bert.", "module.encoder."])
def test_a_text_tower_is_read_under_any_prefix_and_beside_task_heads(params, prefix, tmp_path):
    folder = foreign.write_tower(tmp_path / "bert", two_towers(params), MICRO, "text")
    tensors = {f"{prefix}{k}": t for k, t in tensor_file.read(folder / "model.safetensors").items()}
    tensors["cls.predictions.bias"] = np.zeros(11, np.float32)
    tensors[f"{prefix}embeddings.position_ids"] = np.arange(9)[None]
    tensors[f"{prefix}embeddings.LayerNorm.gamma"] = tensors.pop(f"{prefix}embeddings.LayerNorm.weight")
    tensor_file.write(folder / "model.safetensors", tensors)
    spec, tower = importing.load_text_tower(folder)
    assert spec == MICRO.text
    equal(tower, params["text"])
    spec, tower = importing.load_text_tower(folder, pooling="mean")
    assert spec.pooling == "mean" and "pooler" not in tower


@pytest.mark.parametrize("dialect", ["transformers", "open_clip"])
def test_an_image_tower_is_read_in_both_spellings(params, dialect, tmp_path):
    folder = foreign.write_tower(tmp_path / "swin", two_towers(params), MICRO, "image", dialect)
    spec, tower = importing.load_image_tower(folder)
    assert spec == replace(MICRO.image, drop_path=spec.drop_path)
    equal(tower, params["image"])


def test_the_original_swin_and_the_newest_transformers_are_only_other_spellings(params, tmp_path):
    timm = foreign.tower_tensors(two_towers(params), MICRO, "open_clip", "image")
    original = {k.replace("layers.1.downsample", "layers.0.downsample"): t for k, t in timm.items()}
    assert original.keys() != timm.keys()
    new = {"attention.self.query": "attention.q_proj", "attention.self.key": "attention.k_proj",
           "attention.self.value": "attention.v_proj", "attention.output.dense": "attention.o_proj",
           "attention.self.relative": "attention.relative_position_bias.relative",
           "intermediate.dense": "mlp.fc1", ".output.dense": ".mlp.fc2"}  # fmt: skip
    newest = foreign.tower_tensors(two_towers(params), MICRO, "transformers", "image")
    for old, name in new.items():
        newest = {k.replace(old, name): t for k, t in newest.items()}
    for tensors in (original | {"head.weight": np.zeros((3, 16), np.float32)}, newest):
        tensor_file.write(tmp_path / "swin.safetensors", tensors)
        equal(importing.load_image_tower(tmp_path)[1], params["image"])


def test_bias_tables_follow_the_window_and_nothing_else_changes(params, tmp_path):
    folder = foreign.write_tower(tmp_path / "swin", two_towers(params), MICRO, "image")
    spec, tower = importing.load_image_tower(folder, image_size=64, window_size=6)
    assert (spec.image_size, spec.window_size) == (64, 6)
    table = tower["stage_0"]["block_1"]["attn"].pop("relative_position_bias_table")
    ours = params["image"]["stage_0"]["block_1"]["attn"]
    assert table.shape == (121, 2)
    equal(tower["stage_0"]["block_1"]["attn"], {k: v for k, v in ours.items() if "table" not in k})
    with pytest.raises(UserError, match="stage 1 has 4 tokens a side, less than window_size 6"):
        importing.load_image_tower(folder, window_size=6)


def test_shards_are_read_as_one_file(params, tmp_path):
    folder = foreign.write_tower(tmp_path / "bert", two_towers(params), MICRO, "text")
    tensors = tensor_file.read(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(tensors)}
    for name in set(names.values()):
        tensor_file.write(folder / name, {k: t for k, t in tensors.items() if names[k] == name})
    foreign.write_json(folder / "model.safetensors.index.json", {"weight_map": names})
    equal(importing.load_text_tower(folder)[1], params["text"])
    moved = names | {"pooler.dense.bias": "part-0.safetensors", "pooler.dense.weight": "part-0.safetensors"}
    foreign.write_json(folder / "model.safetensors.index.json", {"weight_map": moved})
    with pytest.raises(UserError, match=r"does not say what part-[01]\.safetensors holds, .*: pooler.dense"):
        importing.load_text_tower(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_are_read_as_their_values(params, dtype, tmp_path):
    folder = foreign.write_tower(tmp_path / "bert", two_towers(params), MICRO, "text")
    tensors = {k: np.asarray(t, np.dtype(dtype)) for k, t in tensor_file.read(folder / "model.safetensors").items()}
    tensor_file.write(folder / "model.safetensors", tensors)
    kernel = importing.load_text_tower(folder)[1]["layer_1"]["mlp"]["fc1"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, params["text"]["layer_1"]["mlp"]["fc1"]["kernel"].astype(dtype))


# ---------------------------------------------------------------- whole models


@pytest.mark.parametrize("dialect", ["transformers", "open_clip"])
def test_folders_of_both_libraries_are_read_bit_for_bit(params, dialect, tmp_path):
    folder = foreign.write_whole(tmp_path / "clip", two_towers(params), MICRO, dialect)
    found = importing.load_model(folder)
    assert found.spec == replace(MICRO, image=replace(MICRO.image, drop_path=found.spec.image.drop_path))
    equal(found.params, two_towers(params) | {"logit_bias": np.float32(0)})
    assert (found.tokenizer, found.text_length) == (folder, foreign.LENGTH)
    if dialect == "open_clip":  # whose word is taken before the tokenizer's
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"]["context_length"] = foreign.LENGTH - 1
        foreign.write_json(folder / "open_clip_config.json", config)
        assert importing.load_model(folder).text_length == foreign.LENGTH - 1
    assert importing.load_text_tower(folder)[0] == MICRO.text
    equal(importing.load_image_tower(folder)[1], params["image"])


@pytest.mark.parametrize("graph", [None, foreign.GRAPH, replace(foreign.GRAPH, width=MICRO.dim)])
def test_a_scripts_state_is_read_under_its_own_names(graph, tmp_path):
    spec = replace(MICRO, graph=graph)
    params = foreign.random_params(spec)
    state = foreign.script_state(params, spec)
    if graph and graph.width == spec.dim:  # then a script has no need of a projection
        del state["net.gcn.head.weight"]
        params["graph_projection"]["kernel"] = np.eye(spec.dim, dtype=np.float32)
    folder = foreign.write_script(tmp_path, params, spec)
    tensor_file.write(folder / "epoch_10.safetensors", state)
    found = importing.load_model(folder)
    assert found.spec == spec
    equal(found.params, params | {"logit_scale": np.float32(-np.log(np.float32(0.1))), "logit_bias": np.float32(0)})
    told = "\n".join(importing.table(found.rows))
    for said in (
        "net.backbone.*",
        "Swin, 32 px, patch 4, window 4, width 8, depths 2/1, heads 2/4 (timm names)",
        "shapes; 32 px assumed",
        "net.report_encoder.bert.*",
        "BERT, 2 layers, width 24, 3 heads,",
        "net.txt_proj",
        "read as a temperature of 0.1",
        "16 tokens",
    ):
        assert said in told
    assert ("GCN, nodes of 5 + 4, 6, " in told) == (graph is not None)
    (left,) = (line for line in told.splitlines() if line.startswith("left out"))
    assert "net.backbone.layers.0.blocks.1.attn_mask and 1 more" in left and "constants" in left
    pooled = importing.load_model(folder, pooling="cls")
    assert any(row.part == "left out" and "pooler.dense.bias and 1 more" in row.where for row in pooled.rows)


def test_projections_of_equal_shape_are_told_apart_by_name_alone(params, tmp_path):
    spec = replace(MICRO, text=replace(MICRO.text, width=16, heads=2))
    square = foreign.random_params(spec)
    state = convert.to_torch(square, spec, "transformers")
    said = Hints(image=spec.image, text=spec.text)
    equal(whole.read_model(state, said, "x")[1]["text_projection"], square["text_projection"])
    state["proj.a.weight"], state["proj.b.weight"] = (
        state.pop("visual_projection.weight"),
        state.pop("text_projection.weight"),
    )
    with pytest.raises(UserError, match=r"the image tower's 16 features.*: 2 that fit: proj.a.weight, proj.b.weight"):
        whole.read_model(state, said, "x")


def refusal(state, said=None):
    with pytest.raises(UserError) as told:
        whole.read_model(
            {key: np.asarray(array) for key, array in state.items()},
            Hints(text=MICRO.text) if said is None else said,
            "x.safetensors",
        )
    assert str(told.value).startswith("x.safetensors: ") and "\n" not in str(told.value)
    return str(told.value)


def test_a_second_tower_no_tower_and_odd_sizes_are_refused(params):
    spec = replace(MICRO, graph=foreign.GRAPH)
    state = foreign.script_state(params, spec)
    twice = state | {f"ema.{k}": t for k, t in state.items() if "relative_position_bias_table" in k}
    assert "holds 2 Swin towers, below 'ema.net.backbone.' and 'net.backbone.'" in refusal(twice)
    assert "holds no BERT" in refusal({k: t for k, t in state.items() if "bert" not in k})
    assert "how many attention heads a BERT of width 24" in refusal(state, Hints())
    assert "saved without its pooler" in refusal({k: t for k, t in state.items() if "pooler" not in k})
    assert "net.temperature = 7 is no temperature" in refusal(state | {"net.temperature": np.float32(7)})
    assert "holds 2 of one kind (net.temperature, tau)" in refusal(state | {"tau": np.float32(0.1)})


def test_the_usual_heads_of_bert_base_are_assumed_and_said():
    spec = replace(MICRO, text=replace(MICRO.text, width=768, depth=1, heads=12))
    found, _, rows = whole.read_model(foreign.script_state(foreign.random_params(spec), spec), Hints(), "x")
    assert found.text.heads == 12
    assert "12 heads assumed" in rows[1].by


def test_every_fault_is_listed_in_one_line(params):
    state = foreign.script_state(params, replace(MICRO, graph=foreign.GRAPH))
    del state["net.backbone.norm.bias"], state["net.report_encoder.bert.pooler.dense.bias"]
    state["net.backbone.norm.offset"] = np.zeros(16, np.float32)
    state["net.report_encoder.bert.encoder.layer.1.output.dense.weight"] = np.zeros((20, 24), np.float32)
    told = refusal(state)
    assert "2 missing: net.backbone.norm.bias, net.report_encoder.bert.pooler.dense.bias" in told
    assert "1 unexpected: net.backbone.norm.offset" in told
    assert "encoder.layer.1.output.dense.weight (20, 24) instead of (24, 20)" in told
    assert "saved without its pooler" not in told
    sound = foreign.script_state(params, replace(MICRO, graph=foreign.GRAPH))
    stranger = "net.report_encoder.bert.encoder.layer.0.output.dense.lora_A"  # might be a projection by its shape
    told = refusal(sound | {stranger: np.zeros((24, 4), np.float32)})
    assert told.endswith(f"1 unexpected: {stranger}")
    assert "2 unexpected: net.backbone.norm.offset, net.ema" in refusal(state | {"net.ema": np.zeros(3, np.float32)})
    del state["net.report_encoder.bert.pooler.dense.weight"], state["net.gcn.first.bias"]  # beside the towers, too
    told = refusal(state | {"net.adapter.weight": np.zeros(3, np.float32)})
    assert "3 missing: net.backbone.norm.bias, net.report_encoder.bert.pooler.dense.weight, " in told
    assert "1 unexpected: net.backbone.norm.offset" in told and "instead of (24, 20)" in told
    assert "net.gcn.first.lin.weight (6, 9)" in told and "net.adapter.weight (3,)" in told
    assert "saved without its pooler; choose text pooling 'mean' or 'cls'" in told
    del state["net.img_proj.weight"], state["net.txt_proj"]
    told = refusal(state)
    assert "3 missing" in told and "the image tower's 16 features" in told and "the text tower's 24 features" in told


def test_many_faults_of_both_towers_are_listed_whole_beneath_the_line(params):
    """Sizes are told by what is there, so that nothing hides what else is missing."""
    state = foreign.script_state(params, replace(MICRO, graph=foreign.GRAPH))
    gone = [key for key in state if ".layers.0.blocks.0." in key or ".layer.1.output." in key]
    gone += ["net.backbone.patch_embed.proj.weight", "net.report_encoder.bert.embeddings.word_embeddings.weight"]
    for key in gone:
        del state[key]
    state["net.backbone.layers.1.blocks.0.attn.qkv.weight"] = np.zeros((16, 48), np.float32)
    state["net.backbone.offset"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=f"{len(gone)} missing .*, 1 unexpected .*, 1 of another shape") as told:
        whole.read_model(
            {key: np.asarray(array) for key, array in state.items()}, Hints(text=MICRO.text), "x.safetensors"
        )
    assert set(told.value.table) == {
        *(f"missing: {key}" for key in gone),
        "unexpected: net.backbone.offset",
        "of another shape: net.backbone.layers.1.blocks.0.attn.qkv.weight (16, 48) instead of (48, 16)",
    }
    assert told.value.__notes__ == list(told.value.table)  # a traceback shows them too


def test_graph_layers_that_chain_either_way_are_refused():
    spec = replace(MICRO, graph=replace(foreign.GRAPH, hidden=9, width=9))  # nodes of 5 + 4
    state = foreign.script_state(foreign.random_params(spec), spec)
    assert "which graph layer comes first? net.gcn.first.lin.weight and net.gcn.second.lin.weight" in refusal(state)


STRANGERS = ("net.adapter.weight", "net.img_proj.bias", "net.gcn.third.weight", "net.old_position_ids", "net.attn_mask")


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_no_part_of_ours_can_be_is_left_to_nobody(params, stranger):
    state = foreign.script_state(params, replace(MICRO, graph=foreign.GRAPH))
    assert stranger in refusal(state | {stranger: np.zeros((3,), np.float32)})


@pytest.mark.parametrize("spelling", [".lin.weight/.lin.bias", ".linear.weight/.linear.bias", ".weight/.bias"])
def test_graph_layers_are_found_in_the_spellings_of_their_libraries(params, spelling):
    state = foreign.script_state(params, replace(MICRO, graph=foreign.GRAPH))
    kernel, bias = spelling.split("/")
    for name in ("net.gcn.first", "net.gcn.second"):
        array = state.pop(f"{name}.lin.weight")
        state |= {f"{name}{kernel}": array, f"{name}{bias}": state.pop(f"{name}.bias")}
    found = whole.read_model({k: np.asarray(t) for k, t in state.items()}, Hints(text=MICRO.text), "x")[1]
    equal(found["graph"], params["graph"])


OTHERS = {
    "timm_pool": ["rot_attn", 7],
    "timm_proj": ["mlp", None],
    "timm_proj_bias": [True],
    "timm_model_name": [
        "resnet50",
        "swinv2_tiny_window8_256",
        "swin_micro_patch4_window7_224",
        "swin_tiny_patch4_window4",
    ],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OTHERS.items() for value in values])
def test_an_open_clip_configuration_must_not_contradict_its_weights(params, key, value, tmp_path):
    folder = foreign.write_whole(tmp_path, two_towers(params), MICRO, "open_clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"][key] = value
    foreign.write_json(folder / "open_clip_config.json", config)
    with pytest.raises(UserError, match=f"{key} is {value!r}|names the tower {value!r}") as told:
        importing.load_model(folder)
    assert str(told.value).startswith(str(folder)) and "\n" not in str(told.value)


@pytest.mark.parametrize("content", [{"lr": 1e-4}, {"model_type": "gpt2"}, {"architecture": {"depth": 3}}])
def test_a_configuration_of_something_else_is_named_and_not_used(params, content, tmp_path):
    image = foreign.write_tower(tmp_path / "swin", two_towers(params), MICRO, "image")
    foreign.write_json(image / "config.json", content)
    spec, tower, rows = importing.read_image_tower(image)
    equal(tower, params["image"])
    assert spec.image_size == 32
    assert [row.what for row in rows if row.where == "config.json"] == ["not used"]


def test_images_prepared_otherwise_are_named(params, tmp_path):
    folder = foreign.write_whole(tmp_path / "clip", two_towers(params), MICRO, "open_clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    del config["preprocess_cfg"]["resize_mode"]
    foreign.write_json(folder / "open_clip_config.json", config)
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    foreign.write_json(folder / "preprocessor_config.json", preprocessor | {"image_mean": [0.5, 0.5, 0.5]})
    given = contract.images(MICRO.image.image_size)
    assert terms.differences(importing.load_model(folder).trained, given) == [
        "mean of the images [0.5, 0.5, 0.5] in training, [0.485, 0.456, 0.406] here",
        "way to resize images shortest in training, squash here",
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../elsewhere", "neither a folder in it"),
        ("/etc", "neither a folder in it"),
        ("", "neither a folder in it"),
        ("someone/absent", "the hub did not give it"),
    ],
)
def test_the_text_configuration_of_an_open_clip_folder_stays_in_it(params, name, says, tmp_path):
    folder = foreign.write_whole(tmp_path / "clip", two_towers(params), MICRO, "open_clip")
    shutil.move(folder / "text", tmp_path / "elsewhere")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = name
    foreign.write_json(folder / "open_clip_config.json", config)
    with pytest.raises(UserError, match=says):
        importing.load_model(folder)


def test_folders_we_cannot_be_are_refused_with_the_reason(params, tmp_path):
    folder = foreign.write_tower(tmp_path / "bert", two_towers(params), MICRO, "text")
    with pytest.raises(UserError, match="holds no Swin"):
        importing.load_image_tower(folder)
    config = hf_config.bert_config(MICRO.text)
    foreign.write_json(folder / "config.json", config | {"hidden_act": "relu", "is_decoder": True})
    with pytest.raises(UserError, match=r"hidden_act is 'relu', not 'gelu'; is_decoder is True"):
        importing.load_text_tower(folder)
    foreign.write_json(folder / "config.json", config | {"model_type": "roberta"})
    with pytest.raises(UserError, match="model_type is 'roberta'; what is read is 'bert', 'swin'"):
        importing.load_text_tower(folder)
    (folder / "second.safetensors").write_bytes(b"")
    (folder / "model.safetensors").rename(folder / "first.safetensors")
    with pytest.raises(UserError, match=r"holds 2 weight files \(first.safetensors, second.safetensors\); name one"):
        importing.load_text_tower(folder)
    with pytest.raises(UserError, match="holds no weight file"):
        weights.weight_file(tmp_path)
