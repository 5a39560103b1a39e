"""Small models as others store them: their arrays under names of our choosing, in folders of their layouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import micro_export
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clinicclip.data.tokenizer import train_wordpiece
from clinicclip.exporting.dialects import config_files
from clinicclip.models import convert, hf_config, tensor_file
from clinicclip.models.clip import ClinicCLIP, ClipSpec
from clinicclip.models.swin import SwinSpec

WORDS = train_wordpiece(("the heart is normal in size", "no pneumothorax or pleural effusion"), 120)
LENGTH = 16
# No two widths alike, so that no transposition goes unseen.
MICRO = replace(
    micro_export.SPEC,
    image=replace(micro_export.SPEC.image, depths=(2, 1)),
    text=replace(micro_export.SPEC.text, vocab_size=WORDS.vocab_size, width=24, depth=2, max_positions=LENGTH),
    graph=None,
)
GRAPH = micro_export.SPEC.graph


def random_params(spec: ClipSpec, seed: int = 0) -> dict[str, Any]:
    """Every leaf of a model at random."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(ClinicCLIP(spec).init, jax.random.key(0))["params"]
    flat = flatten_dict(shapes, sep="/")
    return unflatten_dict({path: rng.standard_normal(leaf.shape, np.float32) for path, leaf in flat.items()}, sep="/")


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def tower_tensors(params: dict[str, Any], spec: ClipSpec, dialect: str, role: str) -> dict[str, np.ndarray]:
    """The arrays of one tower under the names it has alone."""
    prefix = {
        ("transformers", "image"): "vision_model.",
        ("transformers", "text"): "text_model.",
        ("open_clip", "image"): "visual.trunk.",
        ("open_clip", "text"): "text.transformer.",
    }[dialect, role]
    tensors = convert.to_torch(params, spec, dialect)
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}


def write_tower(folder: Path, params: dict[str, Any], spec: ClipSpec, role: str, dialect: str = "transformers") -> Path:
    """A tower's folder: config.json as its library has it, and model.safetensors."""
    config = hf_config.bert_config(spec.text) if role == "text" else hf_config.swin_config(spec.image)
    if dialect == "open_clip":
        size = [3, spec.image.image_size, spec.image.image_size]
        config = {"architecture": "swin_micro", "pretrained_cfg": {"input_size": size}}
    write_json(folder / "config.json", config)
    tensor_file.write(folder / "model.safetensors", tower_tensors(params, spec, dialect, role))
    return folder


def write_whole(folder: Path, params: dict[str, Any], spec: ClipSpec, dialect: str) -> Path:
    """A whole model's folder as transformers or open_clip has it, with its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    WORDS.save(folder, LENGTH)
    swin = SwinSpec() if dialect == "open_clip" else spec.image  # to be given a registered name
    files = config_files(ClipSpec(swin, spec.text, dim=spec.dim), text_length=LENGTH, logit_scale=2.3)
    if dialect == "open_clip":
        del files["config.json"]
        vision = files["open_clip_config.json"]["model_cfg"]["vision_cfg"]
        vision |= {"image_size": spec.image.image_size, "timm_model_name": "swin_micro_patch4_window4_32"}
        files["preprocessor_config.json"]["size"] = {"height": spec.image.image_size, "width": spec.image.image_size}
    for name, content in files.items():
        write_json(folder / name, content)
    names = {"transformers": "model.safetensors", "open_clip": "open_clip_model.safetensors"}
    tensor_file.write(folder / names[dialect], convert.to_torch(params, spec, dialect))
    return folder


def script_state(params: dict[str, Any], spec: ClipSpec) -> dict[str, np.ndarray]:
    """A training script's state under prefixes of its own, with buffers, a graph tower and a temperature."""
    image = {f"net.backbone.{k}": t for k, t in tower_tensors(params, spec, "open_clip", "image").items()}
    text = {f"net.report_encoder.bert.{k}": t for k, t in tower_tensors(params, spec, "transformers", "text").items()}
    rest = {
        "net.img_proj.weight": params["image_projection"]["kernel"].T,
        "net.txt_proj": params["text_projection"]["kernel"],
        "net.report_encoder.bert.embeddings.position_ids": np.arange(LENGTH)[None],
        "net.backbone.layers.0.blocks.1.attn_mask": np.zeros((4, 16, 16), np.float32),
        "net.temperature": np.float32([0.1]),
    }
    if spec.graph is not None:
        for index, name in enumerate(("first", "second")):
            layer = params["graph"][f"conv_{index}"]
            rest |= {f"net.gcn.{name}.lin.weight": layer["kernel"].T, f"net.gcn.{name}.bias": layer["bias"]}
        rest["net.gcn.head.weight"] = params["graph_projection"]["kernel"].T
    return image | text | rest


def write_script(folder: Path, params: dict[str, Any], spec: ClipSpec) -> Path:
    """A training script's folder: one weight file, and the tokenizer and configuration of the BERT it began with."""
    folder.mkdir(parents=True, exist_ok=True)
    WORDS.save(folder, LENGTH)
    write_json(folder / "config.json", hf_config.bert_config(spec.text))
    tensor_file.write(folder / "epoch_10.safetensors", script_state(params, spec))
    return folder
