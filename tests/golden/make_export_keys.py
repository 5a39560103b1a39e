"""Write the key and shape lists of a full-size model in both PyTorch dialects, as PyTorch has them.

Run once, in an environment of its own: pip install torch torchvision open_clip_torch timm transformers
    python tests/golden/make_export_keys.py
The lists let the export be checked without any of these libraries. Nothing of ours is imported.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import open_clip
from safetensors import safe_open
from transformers import BertConfig, SwinConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

HERE = Path(__file__).parent
VOCAB = 28996


def open_clip_keys(folder: Path) -> dict[str, list[int]]:
    (folder / "text").mkdir()
    BertConfig(vocab_size=VOCAB).save_pretrained(folder / "text")
    model = open_clip.model.CustomTextCLIP(
        embed_dim=512,
        vision_cfg={
            "timm_model_name": "swin_tiny_patch4_window7_224",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
            "timm_proj_bias": False,
            "image_size": 224,
        },
        text_cfg={
            "hf_model_name": str(folder / "text"),
            "hf_model_pretrained": False,
            "hf_tokenizer_name": str(folder / "text"),
            "hf_proj_type": "linear",
            "hf_pooler_type": "cls_pooler",
            "context_length": 256,
            "vocab_size": VOCAB,
        },
    )
    return {key: list(tensor.shape) for key, tensor in model.state_dict().items()}


def transformers_keys(folder: Path) -> dict[str, list[int]]:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        SwinConfig(), BertConfig(vocab_size=VOCAB), projection_dim=512
    )
    VisionTextDualEncoderModel(config).save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


if __name__ == "__main__":
    for dialect, keys in (("open_clip", open_clip_keys), ("transformers", transformers_keys)):
        with tempfile.TemporaryDirectory() as folder:
            shapes = dict(sorted(keys(Path(folder)).items()))
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(shape)}" for key, shape in shapes.items())
        (HERE / f"keys_{dialect}.json").write_text("{\n" + lines + "\n}\n")
        print(dialect, len(shapes))
