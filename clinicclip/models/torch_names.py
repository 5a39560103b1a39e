"""What every array of our towers is called, and how it is laid out, in PyTorch's two dialects.

``open_clip`` is a timm Swin beside a Hugging Face BERT; ``transformers`` is a VisionTextDualEncoderModel
under the names that `save_pretrained` writes (its legacy names). A table is total: it lists every
leaf of a tower once, so what it does not list is a fault. Merge order, window order and bias tables agree in
all three frameworks; only names, kernel orientation and the fusing of query, key and value differ.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec
from clinicclip.models.gcn import ENTITY_TYPES
from clinicclip.models.swin import SwinSpec, relative_position_index

OPEN_CLIP, TRANSFORMERS = "open_clip", "transformers"
DIALECTS = (OPEN_CLIP, TRANSFORMERS)
# Constants that some PyTorch versions store beside the weights, where they do; they follow from the spec.
BUFFER = re.compile(
    r"(.*\.)?(layers\.\d+\.blocks\.\d+\.(attn_mask|(attn|attention\.self)\.relative_position_index)"
    r"|embeddings\.(position_ids|token_type_ids))"
)


def is_buffer(key: str) -> bool:
    """Whether a name is that of a constant, which is never read."""
    return BUFFER.fullmatch(key) is not None


class Leaf(NamedTuple):
    """One array of ours and the PyTorch array (or the query, key, value three) with the same numbers."""

    path: str  # flax path, joined by "/"
    keys: tuple[str, ...]
    kind: str  # "plain", "dense" (ours is the transpose), "conv" (ours is HWIO, theirs OIHW)
    shape: tuple[int, ...]  # of ours


def _norm(path: str, key: str, width: int) -> Iterator[Leaf]:
    yield Leaf(f"{path}/scale", (f"{key}.weight",), "plain", (width,))
    yield Leaf(f"{path}/bias", (f"{key}.bias",), "plain", (width,))


def _dense(path: str, keys: str | tuple[str, ...], inputs: int, outputs: int) -> Iterator[Leaf]:
    keys = (keys,) if isinstance(keys, str) else keys
    yield Leaf(f"{path}/kernel", tuple(f"{key}.weight" for key in keys), "dense", (inputs, outputs))
    yield Leaf(f"{path}/bias", tuple(f"{key}.bias" for key in keys), "plain", (outputs,))


def _swin_block(path: str, key: str, dialect: str, width: int, heads: int, spec: SwinSpec) -> Iterator[Leaf]:
    timm = dialect == OPEN_CLIP
    split = tuple(f"{key}.attention.self.{name}" for name in ("query", "key", "value"))
    table = f"{key}.attn" if timm else f"{key}.attention.self"
    hidden = int(spec.mlp_ratio * width)
    yield from _norm(f"{path}/norm1", f"{key}.norm1" if timm else f"{key}.layernorm_before", width)
    yield from _dense(f"{path}/attn/qkv", f"{key}.attn.qkv" if timm else split, width, 3 * width)
    yield Leaf(
        f"{path}/attn/relative_position_bias_table",
        (f"{table}.relative_position_bias_table",),
        "plain",
        ((2 * spec.window_size - 1) ** 2, heads),
    )
    yield from _dense(
        f"{path}/attn/proj", f"{key}.attn.proj" if timm else f"{key}.attention.output.dense", width, width
    )
    yield from _norm(f"{path}/norm2", f"{key}.norm2" if timm else f"{key}.layernorm_after", width)
    yield from _dense(f"{path}/mlp/fc1", f"{key}.mlp.fc1" if timm else f"{key}.intermediate.dense", width, hidden)
    yield from _dense(f"{path}/mlp/fc2", f"{key}.mlp.fc2" if timm else f"{key}.output.dense", hidden, width)


def _swin_stage(path: str, key: str, dialect: str, stage: int, spec: SwinSpec) -> Iterator[Leaf]:
    width = spec.width(stage)
    layers = f"{key}layers" if dialect == OPEN_CLIP else f"{key}encoder.layers"
    if stage:  # timm and we merge patches on entering a stage, transformers on leaving the one before
        down = f"{layers}.{stage if dialect == OPEN_CLIP else stage - 1}.downsample"
        yield from _norm(f"{path}/stage_{stage}/downsample/norm", f"{down}.norm", 2 * width)
        reduction = f"{path}/stage_{stage}/downsample/reduction/kernel"
        yield Leaf(reduction, (f"{down}.reduction.weight",), "dense", (2 * width, width))
    for block in range(spec.depths[stage]):
        yield from _swin_block(
            f"{path}/stage_{stage}/block_{block}",
            f"{layers}.{stage}.blocks.{block}",
            dialect,
            width,
            spec.heads[stage],
            spec,
        )


def swin_leaves(spec: SwinSpec, dialect: str, *, key: str = "", path: str = "image") -> Iterator[Leaf]:
    """Every leaf of a Swin tower; the key prefix ends in a dot or is empty."""
    timm = dialect == OPEN_CLIP
    conv = f"{key}patch_embed.proj" if timm else f"{key}embeddings.patch_embeddings.projection"
    patch = spec.patch_size
    yield Leaf(f"{path}/patch_embed/proj/kernel", (f"{conv}.weight",), "conv", (patch, patch, 3, spec.embed_dim))
    yield Leaf(f"{path}/patch_embed/proj/bias", (f"{conv}.bias",), "plain", (spec.embed_dim,))
    yield from _norm(
        f"{path}/patch_embed/norm",
        f"{key}patch_embed.norm" if timm else f"{key}embeddings.norm",
        spec.embed_dim,
    )
    for stage in range(len(spec.depths)):
        yield from _swin_stage(path, key, dialect, stage, spec)
    yield from _norm(f"{path}/norm", f"{key}norm" if timm else f"{key}layernorm", spec.out_width)


def _bert_layer(path: str, key: str, spec: BertSpec) -> Iterator[Leaf]:
    for name in ("query", "key", "value"):
        yield from _dense(f"{path}/attention/{name}", f"{key}.attention.self.{name}", spec.width, spec.width)
    yield from _dense(f"{path}/attention/output", f"{key}.attention.output.dense", spec.width, spec.width)
    yield from _norm(f"{path}/attention/norm", f"{key}.attention.output.LayerNorm", spec.width)
    yield from _dense(f"{path}/mlp/fc1", f"{key}.intermediate.dense", spec.width, spec.mlp_width)
    yield from _dense(f"{path}/mlp/fc2", f"{key}.output.dense", spec.mlp_width, spec.width)
    yield from _norm(f"{path}/mlp_norm", f"{key}.output.LayerNorm", spec.width)


def bert_leaves(spec: BertSpec, *, key: str = "", path: str = "text") -> Iterator[Leaf]:
    """Every leaf of a BERT tower, which both dialects name alike."""
    rows = {"word": spec.vocab_size, "position": spec.max_positions, "token_type": spec.type_vocab_size}
    for name, count in rows.items():
        leaf = f"{path}/embeddings/{name}_embeddings/embedding"
        yield Leaf(leaf, (f"{key}embeddings.{name}_embeddings.weight",), "plain", (count, spec.width))
    yield from _norm(f"{path}/embeddings/norm", f"{key}embeddings.LayerNorm", spec.width)
    for layer in range(spec.depth):
        yield from _bert_layer(f"{path}/layer_{layer}", f"{key}encoder.layer.{layer}", spec)
    if spec.pooling == "pooler":
        yield from _dense(f"{path}/pooler", f"{key}pooler.dense", spec.width, spec.width)


def chexbert_leaves(spec: BertSpec, classes: tuple[int, ...]) -> Iterator[Leaf]:
    """Every leaf of CheXbert: its BERT, and one head of so many classes a condition."""
    yield from bert_leaves(spec, key="bert.", path="bert")
    for index, count in enumerate(classes):
        yield from _dense(f"head_{index}", f"linear_heads.{index}", spec.width, count)


def clip_leaves(spec: ClipSpec, dialect: str) -> tuple[Leaf, ...]:
    """Every leaf of both towers, their projections and the temperature.

    Raises UserError for a dialect that is not one of `DIALECTS`.
    """
    if dialect not in DIALECTS:
        raise UserError(f"unknown weight dialect {dialect!r}: use one of {', '.join(DIALECTS)}")
    timm = dialect == OPEN_CLIP
    heads = ("visual.head.proj", "text.proj") if timm else ("visual_projection", "text_projection")
    return (
        *swin_leaves(spec.image, dialect, key="visual.trunk." if timm else "vision_model."),
        Leaf("image_projection/kernel", (f"{heads[0]}.weight",), "dense", (spec.image.out_width, spec.dim)),
        *bert_leaves(spec.text, key="text.transformer." if timm else "text_model."),
        Leaf("text_projection/kernel", (f"{heads[1]}.weight",), "dense", (spec.text.width, spec.dim)),
        Leaf("logit_scale", ("logit_scale",), "plain", ()),
    )


def index_buffers(spec: SwinSpec, *, key: str = "vision_model.") -> dict[str, np.ndarray]:
    """The index tensors transformers 4 expects in its file; without them it warns that weights are new."""
    index = relative_position_index(spec.window_size).astype(np.int64)
    return {
        f"{key}encoder.layers.{stage}.blocks.{block}.attention.self.relative_position_index": index
        for stage, depth in enumerate(spec.depths)
        for block in range(depth)
    }


def extra_shapes(spec: ClipSpec) -> dict[str, tuple[int, ...]]:
    """Flax path and shape of the leaves no PyTorch dialect has a name for: graph tower and logit bias."""
    shapes: dict[str, tuple[int, ...]] = {"logit_bias": ()}
    if spec.graph is not None:
        inputs = spec.graph.feature_width + ENTITY_TYPES
        for index, width in enumerate((spec.graph.hidden, spec.graph.width)):
            shapes[f"graph/conv_{index}/kernel"] = (inputs, width)
            shapes[f"graph/conv_{index}/bias"] = (width,)
            inputs = width
        shapes["graph_projection/kernel"] = (spec.graph.width, spec.dim)
    return shapes
