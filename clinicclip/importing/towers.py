"""One tower out of a folder, a file or a hub model that holds it, whatever else is there beside it."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clinicclip.errors import UserError, within
from clinicclip.importing import hints as configs
from clinicclip.importing import hub, weights
from clinicclip.importing.hints import Hints
from clinicclip.importing.layout import Row, Tower, find_tower, left_out
from clinicclip.importing.named import require_named
from clinicclip.importing.resize import resize_tables
from clinicclip.models.bert import BertSpec
from clinicclip.models.convert import Params, from_leaves
from clinicclip.models.shapes import bert_sizes, swin_sizes
from clinicclip.models.swin import SwinSpec
from clinicclip.models.torch_names import OPEN_CLIP, bert_leaves, is_buffer, swin_leaves

# Task heads that published checkpoints carry beside a tower without a prefix; a tower is read without them.
HEADS = ("head.", "cls.", "classifier.", "qa_outputs.")

USUAL_HEADS = {768: 12, 1024: 16}  # BERT-base and -large; smaller ones differ at equal widths


class Reading(NamedTuple):
    """A tower as read, and how."""

    spec: Any
    params: Params
    rows: tuple[Row, ...]


def load_text_tower(place: Path | str, *, pooling: str = "pooler") -> tuple[BertSpec, Params]:
    """A BERT of any width, depth and vocabulary, from a folder, a weight file or a hub id.

    `pooling` is how the tower will be pooled; other than "pooler", the file's pooler is left behind.
    Raises UserError when there is no such tower or more than one, or any array of it is missing or unfit.
    """
    return read_text_tower(place, pooling)[:2]


def load_image_tower(
    place: Path | str, *, image_size: int | None = None, window_size: int | None = None
) -> tuple[SwinSpec, Params]:
    """A Swin of any size under the names of timm or transformers, from a folder, a weight file or a hub id.

    Where another window is asked for than it was trained with, its relative-position tables are interpolated.
    Raises UserError when there is no such tower or more than one, or any array of it is missing or unfit.
    """
    spec, params, _ = read_image_tower(place)
    return fit_swin(spec, params, image_size or spec.image_size, window_size or spec.window_size)


def read_text_tower(place: Path | str, pooling: str) -> Reading:
    """As `load_text_tower`, with the reading."""
    path, tensors, source = _open(place)
    said = configs.read(path.parent, image=False)
    tower = find_tower(tensors, "text", source)
    spec, row = read_bert(tensors, tower, said, pooling, source)
    own = below(without_pooler(tensors, tower, pooling), tower)
    with pooler_wanted(tensors, tower, pooling):
        params = from_leaves(bert_leaves(spec, key=tower.key), own, source)["text"]
    unread = (*left_behind(tensors, tower, pooling), *constants(own), *_beside(tensors, own, tower))
    return Reading(spec, params, (row, *said.rows, *unread))


def read_image_tower(place: Path | str) -> Reading:
    """As `load_image_tower`, with the reading, as it was trained."""
    path, tensors, source = _open(place)
    said = configs.read(path.parent, text=False)
    tower = find_tower(tensors, "image", source)
    spec, row = read_swin(tensors, tower, said, source)
    own = below(tensors, tower)
    params = from_leaves(swin_leaves(spec, tower.dialect, key=tower.key), own, source)["image"]
    return Reading(spec, params, (row, *said.rows, *constants(own), *_beside(tensors, own, tower)))


def fit_swin(spec: SwinSpec, params: Params, image_size: int, window_size: int) -> tuple[SwinSpec, Params]:
    """The same tower for images and windows of other sizes. Raises UserError when they do not fit together."""
    spec = dataclasses.replace(spec, image_size=image_size, window_size=window_size)
    return spec, resize_tables(params, window_size)


def read_swin(tensors: Mapping[str, np.ndarray], tower: Tower, said: Hints, source: str) -> tuple[SwinSpec, Row]:
    """The architecture of a Swin, from its configuration or else its shapes. Raises UserError."""
    if said.image is not None:
        spec, by = said.image, "config.json"
    else:
        sizes = swin_sizes(tensors, tower.dialect, tower.key, source)
        smallest = sizes["window_size"] * sizes["patch_size"] * 2 ** (len(sizes["depths"]) - 1)
        by = "shapes" if said.image_size else f"shapes; {smallest} px assumed: one window in the last stage"
        with within(source):
            spec = SwinSpec(image_size=said.image_size or smallest, **sizes)
    require_named(said.timm, spec, source)
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
    else:
        sizes = bert_sizes(tensors, tower.key, source)
        heads = _usual_heads(sizes["width"], source)
        with within(source):
            spec = BertSpec(**sizes, heads=heads)
        by = f"shapes; {spec.heads} heads assumed, usual at this width"
    spec = dataclasses.replace(spec, pooling=pooling)
    what = (
        f"BERT, {spec.depth} layers, width {spec.width}, {spec.heads} heads, {spec.vocab_size:,} pieces, "
        f"{spec.max_positions} positions, pooling {spec.pooling}"
    )
    return spec, Row("text tower", f"{tower.key}*", what, by)


def without_pooler(tensors: Mapping[str, np.ndarray], tower: Tower, pooling: str) -> dict[str, np.ndarray]:
    """The arrays but for the pooler of a text tower that is pooled otherwise."""
    unused = () if pooling == "pooler" else _pooler(tower)
    return {key: tensor for key, tensor in tensors.items() if key not in unused}


def left_behind(tensors: Mapping[str, np.ndarray], tower: Tower, pooling: str) -> tuple[Row, ...]:
    """The line of a pooler that is not read, for `table`."""
    unused = [] if pooling == "pooler" else [key for key in _pooler(tower) if key in tensors]
    return left_out(unused, f"texts are pooled by {pooling!r}", "text pooling")


def constants(tensors: Iterable[str]) -> tuple[Row, ...]:
    """The line of arrays that follow from the sizes and are not read, for `table`."""
    return left_out([key for key in tensors if is_buffer(key)], "constants that follow from the sizes", "name")


@contextlib.contextmanager
def pooler_wanted(tensors: Mapping[str, np.ndarray], tower: Tower, pooling: str) -> Iterator[None]:
    """Adds to a refusal that the pooler is not there at all, where it is wanted, and what to do about it."""
    try:
        yield
    except UserError as fault:
        if pooling != "pooler" or any(key in tensors for key in _pooler(tower)):
            raise
        ways = "this BERT was saved without its pooler; choose text pooling 'mean' or 'cls'"
        raise UserError(f"{fault}; {ways}", fault.table) from None


def _pooler(tower: Tower) -> tuple[str, str]:
    return f"{tower.key}pooler.dense.weight", f"{tower.key}pooler.dense.bias"


def _beside(tensors: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], tower: Tower) -> tuple[Row, ...]:
    unread = tensors.keys() - own.keys() - {*_pooler(tower)}
    return left_out(unread, "no part of this tower", "name")


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
