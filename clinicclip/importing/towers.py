"""One tower out of a folder, a file or a hub model that holds it, whatever else is there beside it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clinicclip.errors import UserError
from clinicclip.importing import hints as configs
from clinicclip.importing import hub, weights
from clinicclip.importing.hints import Hints
from clinicclip.importing.layout import Row, Tower, find_tower
from clinicclip.importing.resize import resize_tables
from clinicclip.models.bert import BertSpec
from clinicclip.models.convert import Params, from_leaves
from clinicclip.models.shapes import bert_sizes, swin_sizes
from clinicclip.models.swin import SwinSpec
from clinicclip.models.torch_names import OPEN_CLIP, bert_leaves, swin_leaves

# Task heads that published checkpoints carry beside a tower without a prefix; a tower is read without them.
HEADS = ("head.", "cls.", "classifier.", "qa_outputs.")

USUAL_HEADS = {768: 12, 1024: 16}  # BERT-base and -large; smaller ones differ at equal widths


def load_text_tower(place: Path | str, *, pooling: str = "pooler") -> tuple[BertSpec, Params]:
    """A BERT of any width, depth and vocabulary, from a folder, a weight file or a hub id.

    `pooling` is how the tower will be pooled; other than "pooler", the file's pooler is left behind.
    Raises UserError when there is no such tower or more than one, or any array of it is missing or unfit.
    """
    path, tensors, source = _open(place)
    said = configs.read(path.parent, image=False)
    tower = find_tower(tensors, "text", source)
    spec, _ = read_bert(tensors, tower, said, pooling, source)
    own = below(without_pooler(tensors, tower, pooling), tower)
    return spec, from_leaves(bert_leaves(spec, key=tower.key), own, source)["text"]


def load_image_tower(
    place: Path | str, *, image_size: int | None = None, window_size: int | None = None
) -> tuple[SwinSpec, Params]:
    """A Swin of any size under the names of timm or transformers, from a folder, a weight file or a hub id.

    Where another window is asked for than it was trained with, its relative-position tables are interpolated.
    Raises UserError when there is no such tower or more than one, or any array of it is missing or unfit.
    """
    path, tensors, source = _open(place)
    said = configs.read(path.parent, text=False)
    tower = find_tower(tensors, "image", source)
    spec, _ = read_swin(tensors, tower, said, source)
    params = from_leaves(swin_leaves(spec, tower.dialect, key=tower.key), below(tensors, tower), source)["image"]
    return fit_swin(spec, params, image_size or spec.image_size, window_size or spec.window_size)


def fit_swin(spec: SwinSpec, params: Params, image_size: int, window_size: int) -> tuple[SwinSpec, Params]:
    """The same tower for images and windows of other sizes. Raises UserError when they do not fit together."""
    spec = dataclasses.replace(spec, image_size=image_size, window_size=window_size)
    return spec, resize_tables(params, window_size)


def read_swin(tensors: Mapping[str, np.ndarray], tower: Tower, said: Hints, source: str) -> tuple[SwinSpec, Row]:
    """The architecture of a Swin, from its configuration or else its shapes. Raises UserError."""
    if said.image is not None:
        spec, by = said.image, "config.json"
        _require_fewer(sum(spec.depths), tensors, source)
    else:
        sizes = swin_sizes(tensors, tower.dialect, tower.key, source)
        smallest = sizes["window_size"] * sizes["patch_size"] * 2 ** (len(sizes["depths"]) - 1)
        by = "shapes" if said.image_size else f"shapes; {smallest} px assumed: one window in the last stage"
        spec = SwinSpec(image_size=said.image_size or smallest, **sizes)
    names = "timm" if tower.dialect == OPEN_CLIP else "transformers"
    what = (
        f"Swin, {spec.image_size} px, patch {spec.patch_size}, window {spec.window_size}, width {spec.embed_dim}, "
        f"depths {'/'.join(map(str, spec.depths))}, heads {'/'.join(map(str, spec.heads))} ({names} names)"
    )
    return spec, Row("image tower", f"{tower.key}*", what, by)


def read_bert(
    tensors: Mapping[str, np.ndarray], tower: Tower, said: Hints, pooling: str, source: str
) -> tuple[BertSpec, Row]:
    """The architecture of a BERT, from its configuration or else its shapes. Raises UserError."""
    if said.text is not None:
        spec, by = said.text, "config.json"
        _require_fewer(spec.depth, tensors, source)
    else:
        sizes = bert_sizes(tensors, tower.key, source)
        spec = BertSpec(**sizes, heads=_usual_heads(sizes["width"], source))
        by = f"shapes; {spec.heads} heads assumed, usual at this width"
    if pooling == "pooler" and f"{tower.key}pooler.dense.weight" not in tensors:
        raise UserError(f"{source}: this BERT was saved without its pooler; choose text pooling 'mean' or 'cls'")
    spec = dataclasses.replace(spec, pooling=pooling)
    what = (
        f"BERT, {spec.depth} layers, width {spec.width}, {spec.heads} heads, {spec.vocab_size:,} pieces, "
        f"{spec.max_positions} positions, pooling {spec.pooling}"
    )
    return spec, Row("text tower", f"{tower.key}*", what, by)


def without_pooler(tensors: Mapping[str, np.ndarray], tower: Tower, pooling: str) -> dict[str, np.ndarray]:
    """The arrays but for the pooler of a text tower that is pooled otherwise."""
    unused = () if pooling == "pooler" else (f"{tower.key}pooler.dense.weight", f"{tower.key}pooler.dense.bias")
    return {key: tensor for key, tensor in tensors.items() if key not in unused}


def below(tensors: Mapping[str, np.ndarray], tower: Tower) -> dict[str, np.ndarray]:
    """The arrays under a tower's prefix; without a prefix all but task heads are the tower's."""
    if tower.key:
        return {key: tensor for key, tensor in tensors.items() if key.startswith(tower.key)}
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(HEADS)}


def _open(place: Path | str) -> tuple[Path, dict[str, np.ndarray], str]:
    path = weights.weight_file(hub.locate(place))
    return path, weights.read(path), str(path)


def _usual_heads(width: int, source: str) -> int:
    """Heads of a BERT of a width at which all published ones have the same number. Raises UserError for others."""
    if width not in USUAL_HEADS:
        raise UserError(
            f"{source}: shapes do not say how many attention heads a BERT of width {width} has; put its config.json "
            "beside the file"
        )
    return USUAL_HEADS[width]


def _require_fewer(layers: int, tensors: Mapping[str, np.ndarray], source: str) -> None:
    """A configuration of absurdly many layers would make an absurdly long list of missing arrays."""
    if layers > len(tensors):
        raise UserError(f"{source}: its configuration has {layers:,} layers, the file {len(tensors):,} arrays")
