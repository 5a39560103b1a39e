"""Older and newer names of the same arrays, brought to the one spelling our tables know."""

import re
from collections.abc import Mapping

import numpy as np

from clinicclip.errors import UserError

# The oldest BERT files call a norm's scale and bias gamma and beta.
NORMS = ((re.compile(r"\.gamma$"), ".weight"), (re.compile(r"\.beta$"), ".bias"))
# What transformers 5 calls the parts of a Swin block in memory; `save_pretrained` writes the older names.
BLOCK = re.compile(r"(.*encoder\.layers\.\d+\.blocks\.\d+\.)(.*)")
NEW_NAMES = {
    "attention.q_proj.": "attention.self.query.",
    "attention.k_proj.": "attention.self.key.",
    "attention.v_proj.": "attention.self.value.",
    "attention.o_proj.": "attention.output.dense.",
    "attention.relative_position_bias.": "attention.self.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
# The original Swin merges patches at the end of a stage, timm at the beginning of the next.
STAGE = re.compile(r"(.*layers\.)(\d+)(\.downsample\..*)")


def canonical(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """The same arrays under the names of `models.torch_names`.

    Raises UserError when two arrays come to the same name.
    """
    renamed: dict[str, np.ndarray] = {}
    for key, tensor in tensors.items():
        name = _name(key, tensors)
        if name in renamed:
            raise UserError(f"{source}: holds {name} twice, under an old and a new name")
        renamed[name] = tensor
    return renamed


def _name(key: str, tensors: Mapping[str, np.ndarray]) -> str:
    for pattern, plain in NORMS:
        key = pattern.sub(plain, key)
    if (block := BLOCK.fullmatch(key)) and f"{block[1]}attention.q_proj.weight" in tensors:
        for new, old in NEW_NAMES.items():
            if block[2].startswith(new):
                return block[1] + old + block[2].removeprefix(new)
    if (stage := STAGE.fullmatch(key)) and _original(stage[1], tensors):
        return f"{stage[1]}{int(stage[2]) + 1}{stage[3]}"
    return key


def _original(layers: str, tensors: Mapping[str, np.ndarray]) -> bool:
    first = f"{layers}0."
    merged, block = f"{first}downsample.reduction.weight", f"{first}blocks.0.attn.relative_position_bias_table"
    return merged in tensors and block in tensors
