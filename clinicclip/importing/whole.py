"""A whole model from any of the forms it may come in, with its reading as a table.

Our own exports say what they are. Anything else with a Swin and a BERT in it is read by one mechanism, be it an
open_clip checkpoint, a VisionTextDualEncoderModel or a training script's state under prefixes of its own.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError, listing, together, within
from clinicclip.exporting import is_export, load_export
from clinicclip.exporting.meta import META, Meta
from clinicclip.importing import hints as configs
from clinicclip.importing import hub, weights
from clinicclip.importing.graph import find_graph
from clinicclip.importing.hints import Hints
from clinicclip.importing.layout import Row, find_projection, find_tower
from clinicclip.importing.loss_state import find_loss_state
from clinicclip.importing.towers import constants, left_behind, pooler_wanted, read_bert, read_swin, without_pooler
from clinicclip.models.clip import ClipSpec, pooled_by
from clinicclip.models.convert import UNFIT, Params, Tensors, faults, from_leaves
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.torch_names import Leaf, bert_leaves, is_buffer, swin_leaves
from clinicclip.terms import Terms

TEXT_LENGTH = 256  # tokens, where nothing says how long texts were


class Imported(NamedTuple):
    """A model as read: `tokenizer` is the folder to load the tokenizer from, `rows` the reading.

    `trained` is what it was trained to be given, `meta` what an export says besides.
    """

    spec: ClipSpec
    params: Params
    tokenizer: Path
    text_length: int
    rows: tuple[Row, ...]
    trained: tuple[Terms, ...]
    meta: Meta | None = None


def load_model(place: Path | str, *, pooling: str = "", force: bool = False) -> Imported:
    """A model of image and text tower, and graph tower if it has one, from a folder, a weight file or a hub id.

    `pooling` is how texts are to be pooled; "": as its files say, else by the pooler. Whether that is how they were
    pooled in training is for the caller to hold against `trained`; `force` is for what an export holds against itself.
    Raises UserError when it holds no such model, any array is missing, unfit or left over, or a reading is
    ambiguous.
    """
    path = hub.locate(place)
    return _own(path, pooling, force) if is_export(path) else _foreign(path, pooling)


def _own(folder: Path, pooling: str, force: bool) -> Imported:
    """An export. Raises UserError when its configurations for others tell of other towers than its own facts.

    Image size and pooling are terms, and held against the weights as such.
    """
    export, said = load_export(folder, force=force), configs.read(folder)
    image = dataclasses.replace(said.image or export.spec.image, image_size=export.spec.image.image_size)
    text = dataclasses.replace(said.text or export.spec.text, pooling=export.spec.text.pooling)
    if other := [name for name, one in (("image", image), ("text", text)) if one != getattr(export.spec, name)]:
        towers = " and ".join(other)
        raise UserError(f"{folder}: its config.json tells of another {towers} tower than its {META}; export again")
    with within(folder):
        spec, params = pooled_by(pooling, export.spec, export.params)
    row = Row("whole model", folder.name, "an export of this package", META)
    trained = configs.trained_with(folder)
    return Imported(spec, params, folder, export.meta.text_length, (row,), trained, export.meta)


def _foreign(path: Path, pooling: str) -> Imported:
    file = weights.weight_file(path)
    said, trained = configs.read(file.parent), configs.trained_with(file)
    spec, params, rows = read_model(weights.read(file), said, str(file), pooling=pooling)
    length = min(said.text_length or TEXT_LENGTH, spec.text.max_positions)
    by = "the configuration" if said.text_length else f"assumed, at most {TEXT_LENGTH}"
    row = Row("text length", "-", f"{length} tokens", by)
    return Imported(spec, params, file.parent, length, (*rows, row), trained)


def read_model(
    tensors: Mapping[str, np.ndarray], said: Hints, source: str, *, pooling: str = ""
) -> tuple[ClipSpec, Params, tuple[Row, ...]]:
    """Architecture, parameters and reading of a state of arrays. Raises UserError as `load_model`."""
    image, text = (find_tower(tensors, role, source) for role in ("image", "text"))
    swin, image_row = read_swin(tensors, image, said, source)
    by = "; pooling as asked" if pooling else "" if said.pooling else "; pooling assumed"
    pooling = pooling or said.pooling or "pooler"
    bert, text_row = read_bert(tensors, text, said, pooling, source)
    unread = (*said.rows, *left_behind(tensors, text, pooling), *constants(tensors))
    held = {key: array for key, array in without_pooler(tensors, text, pooling).items() if not is_buffer(key)}
    towers = (*swin_leaves(swin, image.dialect, key=image.key), *bert_leaves(bert, key=text.key))
    with pooler_wanted(tensors, text, pooling):
        rest = _rest(held, towers, (image.key, text.key), swin.out_width, bert.width, source)
        params = from_leaves((*towers, *rest.leaves), {**held, **rest.arrays}, source)
    spec = ClipSpec(image=swin, text=bert, graph=rest.graph, dim=rest.dim)
    rows = (image_row, text_row._replace(by=text_row.by + by), *rest.rows, *unread)
    return spec, params | rest.added, rows


def table(rows: Sequence[Row]) -> list[str]:
    """A reading as aligned lines."""
    cells = [Row("part", "where", "read as", "known by"), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(Row._fields) - 1)]
    return ["  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row.by]) for row in cells]


class _Rest(NamedTuple):
    """What a model has beside its towers: leaves with arrays brought to their form, and leaves it does not store."""

    leaves: tuple[Leaf, ...]
    arrays: Tensors
    added: Params
    dim: int
    graph: GcnSpec | None
    rows: tuple[Row, ...]


def _rest(
    held: Mapping[str, np.ndarray],
    towers: Sequence[Leaf],
    prefixes: Sequence[str],
    image: int,
    text: int,
    source: str,
) -> _Rest:
    """The parts told by shape, among the arrays that the towers do not claim.

    What lies under a tower's prefix may be one of them only where all is clear with it; otherwise it is a stranger in
    the tower. Raises UserError for towers that are not whole, too, and tells in the same line what else is odd.
    """
    left = _left(held, towers)
    inside = [key for key in left if key.startswith(tuple(filter(None, prefixes)))]
    outside = {key: array for key, array in left.items() if key not in inside}
    wrong = faults({key: array for key, array in held.items() if key not in left}, towers)
    broken = any(wrong.values())
    try:
        rest = _told_by_shape(outside if broken else left, image, text, source)
    except UserError as fault:
        if broken:
            raise together(listing(f"{source}: {UNFIT}", wrong | {"unexpected": inside}), fault, source) from None
        with contextlib.suppress(UserError):
            return _told_by_shape(outside, image, text, source)  # and who takes all leaves will list the strangers
        raise
    if broken:
        raise listing(f"{source}: {UNFIT}", wrong | {"unexpected": [*_left(left, rest.leaves)]})
    return rest


def _told_by_shape(left: Mapping[str, np.ndarray], image: int, text: int, source: str) -> _Rest:
    loss = find_loss_state(left, source)
    left = _left(left, loss.leaves)
    maps, map_rows = _projections(left, image, text, source)
    dim = maps[0].shape[1]
    graph = find_graph(_left(left, maps), dim, source)
    added: Params = {**loss.defaults}
    if graph and graph.identity:
        added["graph_projection"] = {"kernel": np.eye(dim, dtype=np.float32)}
    leaves = (*loss.leaves, *maps, *(graph.leaves if graph else ()))
    rows = (*map_rows, *(graph.rows if graph else ()), *loss.rows)
    return _Rest(leaves, loss.arrays, added, dim, graph.spec if graph else None, rows)


def _projections(
    left: Mapping[str, np.ndarray], image: int, text: int, source: str
) -> tuple[tuple[Leaf, ...], tuple[Row, ...]]:
    found: list[tuple[Leaf, Row]] = []
    odd: list[UserError] = []
    for role, width in (("image", image), ("text", text)):
        try:
            found.append(find_projection(left, role, width, source))
        except UserError as fault:
            odd.append(fault)
    if odd:
        raise together(odd[0], odd[1], source) if len(odd) > 1 else odd[0]
    leaves, rows = zip(*found, strict=True)
    dims = [leaf.shape[1] for leaf in leaves]
    if dims[0] != dims[1] or leaves[0].keys == leaves[1].keys:
        raise UserError(
            f"{source}: images are mapped to {dims[0]} numbers by {leaves[0].keys[0]}, texts to {dims[1]} by "
            f"{leaves[1].keys[0]}; two arrays of one length are needed"
        )
    return leaves, rows


def _left(tensors: Mapping[str, np.ndarray], leaves: Sequence[Leaf]) -> Tensors:
    """The arrays that no leaf has claimed."""
    claimed = {key for leaf in leaves for key in leaf.keys}
    return {key: array for key, array in tensors.items() if key not in claimed}
