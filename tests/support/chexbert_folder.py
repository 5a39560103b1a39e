"""A folder with a small random CheXbert under the published names, and its vocabulary."""

from pathlib import Path

import bert_folder
import numpy as np

from clinicclip.models import chexbert, convert, tensor_file
from clinicclip.models.bert import BertSpec
from clinicclip.models.torch_names import chexbert_leaves


def write(folder: Path, *, positions: int = 512, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes it; returns its tensors."""
    tokenizer = bert_folder.tokenizer()
    spec = BertSpec(
        vocab_size=tokenizer.vocab_size,
        width=128,
        depth=2,
        heads=2,
        mlp_width=96,
        max_positions=positions,
        pooling="cls",
    )
    rng = np.random.default_rng(seed)
    tensors = {
        f"module.{key}": rng.normal(0, 0.5, convert.torch_shape(leaf)).astype(np.float32)
        for leaf in chexbert_leaves(spec, chexbert.HEAD_CLASSES)
        for key in leaf.keys
    }
    tensors["module.bert.embeddings.position_ids"] = np.arange(positions)[None]
    tensors["module.bert.pooler.dense.weight"] = np.zeros((128, 128), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder, 512)
    tensor_file.write(folder / "chexbert.safetensors", tensors)
    return tensors
