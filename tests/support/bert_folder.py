"""A small BERT with random weights in a folder of the transformers layout, with its tokenizer."""

import json
from pathlib import Path

import numpy as np

from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.models import convert, tensor_file
from clinicclip.models.bert import BertSpec
from clinicclip.models.hf_config import bert_config
from clinicclip.models.torch_names import bert_leaves

WORDS = ("the heart is normal in size", "small left pleural effusion and no pneumothorax", "lungs are clear")


def tokenizer(size: int = 130) -> Tokenizer:
    """Its tokenizer."""
    return train_wordpiece(WORDS, size)


def write(folder: Path, *, seed: int = 0, positions: int = 40, width: int = 16, pooling: str = "pooler") -> BertSpec:
    """Writes config.json, model.safetensors and the tokenizer's files; returns what they describe."""
    words = tokenizer()
    spec = BertSpec(
        vocab_size=words.vocab_size,
        width=width,
        depth=2,
        heads=2,
        mlp_width=2 * width,
        max_positions=positions,
        pooling=pooling,
    )
    folder.mkdir(parents=True, exist_ok=True)
    words.save(folder, positions)
    rng = np.random.default_rng(seed)
    tensors = {
        key: rng.normal(0, 0.3, convert.torch_shape(leaf)).astype(np.float32)
        for leaf in bert_leaves(spec)
        for key in leaf.keys
    }
    tensor_file.write(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(bert_config(spec)))
    return spec
