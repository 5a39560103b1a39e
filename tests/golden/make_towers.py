"""Write towers.npz: what the Swin and BERT of transformers say for the weights and inputs of recipe.py.

Run once, in an environment with torch, from the repository's root: python tests/golden/make_towers.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BertConfig, SwinConfig, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import recipe  # noqa: E402

from clinicclip.models import convert  # noqa: E402


def torch_model(spec, params):
    """The dual encoder of transformers with our weights, every one of which must find its place."""
    image, text = spec.image, spec.text
    vision = SwinConfig(
        image_size=image.image_size, patch_size=image.patch_size, window_size=image.window_size,
        embed_dim=image.embed_dim, depths=list(image.depths), num_heads=list(image.heads),
        mlp_ratio=image.mlp_ratio, drop_path_rate=image.drop_path,
    )  # fmt: skip
    language = BertConfig(
        vocab_size=text.vocab_size, hidden_size=text.width, num_hidden_layers=text.depth,
        num_attention_heads=text.heads, intermediate_size=text.mlp_width,
        max_position_embeddings=text.max_positions, pad_token_id=text.pad_id,
    )  # fmt: skip
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, language, projection_dim=spec.dim)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tensors = convert.to_torch(params, spec, "transformers")
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        model, info = VisionTextDualEncoderModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[fault] for fault in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def padded(texts):
    """Token ids and mask, texts one a row."""
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
    return ids, mask


@torch.no_grad()
def image_states(model, images):
    """Outputs of every Swin block [b, tokens, c], the final tokens and the pooled features."""
    blocks = []
    for layer in model.vision_model.encoder.layers:
        for block in layer.blocks:
            block.register_forward_hook(lambda *call: blocks.append(call[2][0].numpy()))
    out = model.vision_model(pixel_values=torch.from_numpy(images).permute(0, 3, 1, 2))
    return blocks, out.last_hidden_state.numpy(), out.pooler_output.numpy()


@torch.no_grad()
def text_states(model, texts):
    """Embedding and layer outputs [b, l, w], and the pooled features."""
    ids, mask = padded(texts)
    out = model.text_model(ids, attention_mask=mask, output_hidden_states=True)
    return [state.numpy() for state in out.hidden_states], out.pooler_output.numpy()


def main():
    """Write the outputs of every size."""
    golden = {}
    for name, spec in recipe.SIZES.items():
        model = torch_model(spec, recipe.weights(spec))
        _, tokens, golden[f"{name}/image"] = image_states(model, recipe.images(spec))
        golden[f"{name}/image_token"] = tokens[:, 3]
        states, golden[f"{name}/text"] = text_states(model, recipe.texts(spec))
        golden[f"{name}/text_token"] = states[-1][:, 2]
    np.savez_compressed(HERE / "towers.npz", **golden)
    for key, value in golden.items():
        print(key, value.shape, float(np.abs(value).max()))


if __name__ == "__main__":
    main()
