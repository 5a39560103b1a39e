"""A whole model from any of the forms it may come in, with its reading as a table.

Our own exports say what they are. Anything else with a Swin and a BERT in it is read by one mechanism, be it an
open_clip checkpoint, a VisionTextDualEncoderModel or a training script's state under prefixes of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clinicclip.errors import UserError
from clinicclip.exporting import is_export, load_export
from clinicclip.importing import hints as configs
from clinicclip.importing import hub, weights
from clinicclip.importing.graph import find_graph
from clinicclip.importing.hints import Hints
from clinicclip.importing.layout import Row, find_projection, find_tower
from clinicclip.importing.loss_state import find_loss_state
from clinicclip.importing.towers import read_bert, read_swin, without_pooler
from clinicclip.models.clip import ClipSpec
from clinicclip.models.convert import Params, Tensors, from_leaves, torch_shape
from clinicclip.models.torch_names import BUFFERS, Leaf, bert_leaves, swin_leaves
from clinicclip.terms import Terms

TEXT_LENGTH = 256  # tokens, where nothing says how long texts were


class Imported(NamedTuple):
    """A model as read: `tokenizer` is the folder to load the tokenizer from, `rows` the reading.

    `trained` is what it was trained to be given.
    """

    spec: ClipSpec
    params: Params
    tokenizer: Path
    text_length: int
    rows: tuple[Row, ...]
    trained: tuple[Terms, ...]


def load_model(place: Path | str, *, pooling: str = "", force: bool = False) -> Imported:
    """A model of image and text tower, and graph tower if it has one, from a folder, a weight file or a hub id.

    `pooling` is how texts are pooled where no file says it (by the pooler), or whatever files say if `force`.
    Raises UserError when it holds no such model, any array is missing, unfit or left over, or a reading is
    ambiguous.
    """
    path = hub.locate(place)
    if is_export(path):
        export = load_export(path, force=force)
        rows: tuple[Row, ...] = (Row("whole model", path.name, "an export of this package", "clinicclip.json"),)
        length, trained = export.meta["text_length"], configs.trained_with(path)
        spec, params, tokenizer = export.spec, export.params, path
    else:
        file = weights.weight_file(path)
        said, trained = configs.read(file.parent), configs.trained_with(file)
        spec, params, rows = read_model(weights.read(file), said, str(file), pooling=pooling or "pooler")
        length, tokenizer = min(said.text_length or TEXT_LENGTH, spec.text.max_positions), file.parent
        by = "tokenizer_config.json" if said.text_length else f"assumed, at most {TEXT_LENGTH}"
        rows = (*rows, Row("text length", "-", f"{length} tokens", by))
    if force and pooling not in ("", "pooler", spec.text.pooling):
        spec = dataclasses.replace(spec, text=dataclasses.replace(spec.text, pooling=pooling))
        params |= {"text": {name: part for name, part in params["text"].items() if name != "pooler"}}
    return Imported(spec, params, tokenizer, length, rows, trained)


def read_model(
    tensors: Mapping[str, np.ndarray], said: Hints, source: str, *, pooling: str = "pooler"
) -> tuple[ClipSpec, Params, tuple[Row, ...]]:
    """Architecture, parameters and reading of a state of arrays. Raises UserError as `load_model`."""
    image, text = (find_tower(tensors, role, source) for role in ("image", "text"))
    swin, image_row = read_swin(tensors, image, said, source)
    pooling, by = (said.pooling, "") if said.pooling else (pooling, "; pooling assumed")
    bert, text_row = read_bert(tensors, text, said, pooling, source)
    text_row = text_row._replace(by=text_row.by + by)
    tensors = without_pooler(tensors, text, pooling)
    towers = (*swin_leaves(swin, image.dialect, key=image.key), *bert_leaves(bert, key=text.key))
    _require_towers(tensors, towers, (image.key, text.key), source)
    loss = find_loss_state(_left(tensors, towers), source)
    maps, map_rows = _projections(_left(tensors, (*towers, *loss.leaves)), swin.out_width, bert.width, source)
    dim = maps[0].shape[1]
    leaves = (*towers, *loss.leaves, *maps)
    graph = find_graph(_left(tensors, leaves), dim, source)
    params = from_leaves((*leaves, *(graph.leaves if graph else ())), {**tensors, **loss.arrays}, source)
    if graph and graph.identity:
        params["graph_projection"] = {"kernel": np.eye(dim, dtype=np.float32)}
    spec = ClipSpec(image=swin, text=bert, graph=graph.spec if graph else None, dim=dim)
    return spec, params | loss.defaults, (image_row, text_row, *map_rows, *(graph.rows if graph else ()), *loss.rows)


def table(rows: Sequence[Row]) -> list[str]:
    """A reading as aligned lines."""
    cells = [Row("part", "where", "read as", "known by"), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(Row._fields) - 1)]
    return ["  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row.by]) for row in cells]


def _projections(
    left: Mapping[str, np.ndarray], image: int, text: int, source: str
) -> tuple[tuple[Leaf, ...], tuple[Row, ...]]:
    found = [find_projection(left, role, width, source) for role, width in (("image", image), ("text", text))]
    leaves, rows = zip(*found, strict=True)
    dims = [leaf.shape[1] for leaf in leaves]
    if dims[0] != dims[1] or leaves[0].keys == leaves[1].keys:
        raise UserError(
            f"{source}: images are mapped to {dims[0]} numbers by {leaves[0].keys[0]}, texts to {dims[1]} by "
            f"{leaves[1].keys[0]}; two arrays of one length are needed"
        )
    return leaves, rows


def _left(tensors: Mapping[str, np.ndarray], leaves: Sequence[Leaf]) -> Tensors:
    """The arrays that no leaf has claimed; buffers are claimed by nobody and wanted by nobody."""
    claimed = {key for leaf in leaves for key in leaf.keys}
    return {key: array for key, array in tensors.items() if key not in claimed and not key.endswith(BUFFERS)}


def _require_towers(
    tensors: Mapping[str, np.ndarray], leaves: Sequence[Leaf], prefixes: tuple[str, ...], source: str
) -> None:
    """Raises UserError unless the towers are whole; then it names the strangers under their prefixes too."""
    wanted = {key: torch_shape(leaf) for leaf in leaves for key in leaf.keys}
    if all(key in tensors and tensors[key].shape == shape for key, shape in wanted.items()):
        return
    below = tuple(prefix for prefix in prefixes if prefix)
    from_leaves(leaves, {k: t for k, t in tensors.items() if k in wanted or (below and k.startswith(below))}, source)
