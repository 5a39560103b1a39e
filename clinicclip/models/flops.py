"""Arithmetic of the towers by formula: floating-point operations of matrix products, two for a multiply-add.

Norms, activations and softmax are left out; of a full-size tower they are a few percent.
"""

from clinicclip.models.bert import BertSpec
from clinicclip.models.gcn import ENTITY_TYPES, GcnSpec
from clinicclip.models.swin import SwinSpec

CHANNELS = 3


def image(spec: SwinSpec) -> int:
    """Operations of one image's forward pass."""
    total = 2 * spec.side(0) ** 2 * CHANNELS * spec.patch_size**2 * spec.embed_dim
    for stage, depth in enumerate(spec.depths):
        width, tokens = spec.width(stage), spec.padded_side(stage) ** 2
        maps = 4 * width**2 + 2 * width * int(width * spec.mlp_ratio)
        attention = 2 * spec.window_size**2 * width
        total += depth * tokens * 2 * (maps + attention)
        if stage:
            total += 2 * spec.side(stage) ** 2 * 2 * width * width  # merging: 4 of half the width to one of the whole
    return total


def text(spec: BertSpec, rows: int, length: int, texts: int) -> int:
    """Operations of a forward pass over packed rows, padding included, that hold so many texts."""
    maps = 4 * spec.width**2 + 2 * spec.width * spec.mlp_width
    attention = 2 * length * spec.width
    pooled = {"pooler": 2 * spec.width**2, "mean": 2 * rows * length * spec.width, "cls": 0}[spec.pooling]
    return rows * length * spec.depth * 2 * (maps + attention) + texts * pooled


def graph(spec: GcnSpec, nodes: int) -> int:
    """Operations of one padded graph's forward pass; sums along edges are left out."""
    return 2 * nodes * ((spec.feature_width + ENTITY_TYPES) * spec.hidden + spec.hidden * spec.width)
