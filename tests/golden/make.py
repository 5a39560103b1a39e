"""Write weights.npz: what timm and open_clip say for files with the weights of recipe.py.

Run once, from the repository's root, in an environment of its own:
    pip install torch torchvision open_clip_torch timm transformers jax flax
    python tests/golden/make.py
make_towers.py, which needs torch and transformers alone, does the same for the towers of transformers.
"""

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import open_clip
import timm
import torch
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table, resize_rel_pos_bias_table_simple
from transformers import BertConfig

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import recipe  # noqa: E402

from clinicclip.models import convert  # noqa: E402

TABLE = "relative_position_bias_table"


def trunk(spec):
    """The arrays of the image tower as timm names them."""
    tensors = convert.to_torch(recipe.weights(spec), spec, "open_clip")
    prefix = "visual.trunk."
    return {key.removeprefix(prefix): torch.from_numpy(t) for key, t in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
def timm_features(spec, state):
    """Pooled features and the fourth token of timm's Swin with these arrays, every one of which must fit."""
    image = spec.image
    model = timm.create_model(
        "swin_base_patch4_window12_384" if image.image_size == 384 else "swin_tiny_patch4_window7_224",
        embed_dim=image.embed_dim, depths=image.depths, num_heads=image.heads, window_size=image.window_size,
        img_size=image.image_size, num_classes=0,
    )  # fmt: skip
    model.load_state_dict(state, strict=True)
    pixels = torch.from_numpy(recipe.images(spec, count=1)).permute(0, 3, 1, 2)
    tokens = model.eval().forward_features(pixels)
    return model.forward_head(tokens).numpy(), tokens.reshape(1, -1, image.out_width)[:, 3].numpy()


def resized(state, window):
    """The same arrays with the tables of another window."""
    shape = ((2 * window - 1) ** 2,)
    change = resize_rel_pos_bias_table_simple
    return {
        key: change(t, (window, window), (*shape, t.shape[1])) if key.endswith(TABLE) else t for key, t in state.items()
    }


@torch.no_grad()
def open_clip_embeddings(spec):
    """Unit embeddings of open_clip's model of full size, and the ids it pads with zeros."""
    with tempfile.TemporaryDirectory() as folder:
        text = spec.text
        BertConfig(vocab_size=text.vocab_size).save_pretrained(folder)
        model = open_clip.model.CustomTextCLIP(
            embed_dim=spec.dim,
            vision_cfg={"timm_model_name": "swin_tiny_patch4_window7_224", "timm_model_pretrained": False,
                        "timm_pool": "avg", "timm_proj": "linear", "timm_proj_bias": False, "image_size": 224},
            text_cfg={"hf_model_name": folder, "hf_model_pretrained": False, "hf_tokenizer_name": folder,
                      "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler", "context_length": 256,
                      "vocab_size": text.vocab_size},
        )  # fmt: skip
    tensors = convert.to_torch(recipe.weights(spec), spec, "open_clip")
    model.load_state_dict({key: torch.from_numpy(t) for key, t in tensors.items()}, strict=True)
    texts = recipe.texts(spec)
    ids = torch.tensor([text + [0] * (max(recipe.LENGTHS) - len(text)) for text in texts])
    pixels = torch.from_numpy(recipe.images(spec)).permute(0, 3, 1, 2)
    model.eval()
    return model.encode_image(pixels, normalize=True).numpy(), model.encode_text(ids, normalize=True).numpy()


def main():
    """Write the outputs of every case."""
    golden = {}
    for old, new in recipe.WINDOWS:
        table, shape = torch.from_numpy(recipe.table(old)), ((2 * new - 1) ** 2, 3)
        golden[f"table/{old}_{new}"] = resize_rel_pos_bias_table_simple(table, (new, new), shape).numpy()
        other = resize_rel_pos_bias_table(table, (new, new), shape).numpy()
        off = np.abs(other - golden[f"table/{old}_{new}"]).max()
        print(f"window {old} to {new}: timm's other, geometric rule differs by", off)
    for name, spec in {**recipe.SWINS, "full": recipe.SIZES["full"]}.items():
        golden[f"{name}/pooled"], golden[f"{name}/token"] = timm_features(spec, trunk(spec))
    tiny = recipe.SWINS["tiny"]
    larger = dataclasses.replace(tiny, image=dataclasses.replace(tiny.image, image_size=384, window_size=12))
    golden["resized/pooled"], golden["resized/token"] = timm_features(larger, resized(trunk(tiny), 12))
    golden["open_clip/image"], golden["open_clip/text"] = open_clip_embeddings(recipe.SIZES["full"])
    np.savez_compressed(HERE / "weights.npz", **golden)
    for key, value in golden.items():
        print(key, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
    main()
