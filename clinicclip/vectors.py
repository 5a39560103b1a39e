"""Embeddings of a large set on the disk, in parts that are whole or not there, so that a killed program goes on."""

import importlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open

from clinicclip import files
from clinicclip.errors import UserError

SETTINGS = "embeddings.json"
FORMATS = ("safetensors", "parquet")
EMBEDDING, NAME, UNREADABLE = "embedding", "name", "unreadable"


class Part(NamedTuple):
    """Embeddings under the names of what was embedded; why of others there are none, by name."""

    names: Sequence[str]
    embedding: Float32[np.ndarray, "n d"]
    unreadable: Mapping[str, str]


class Store:
    """A folder of parts.

    A part in safetensors holds ``embedding`` and, in its metadata, JSON: ``name``, a list, and ``unreadable``, reasons
    by name. In parquet, ``name`` and ``embedding`` are columns and ``unreadable`` is in the schema's metadata.
    """

    def __init__(self, folder: Path, form: str, settings: Mapping[str, Any]) -> None:
        """Opens a folder for embeddings made with these settings. Raises UserError where there are others."""
        self._folder, self._form = folder, form
        if form == "parquet":
            _arrow()
        settings = json.loads(json.dumps({**settings, "format": form}))
        path = folder / SETTINGS
        if path.is_file():
            _refuse_other(path, files.read_json(path, (), "delete the folder and run again"), settings)
        else:
            files.make_folder(folder)
            if any(file.name != f"{SETTINGS}.tmp" for file in folder.iterdir()):  # which a kill may leave
                raise UserError(f"{folder}: holds files that are no embeddings of ours; choose another --output")
            files.write_whole(path, json.dumps(settings, indent=1) + "\n")

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self._folder / f"part-{number:05d}.{self._form}"

    def write(self, number: int, part: Part) -> None:
        """Writes a part, whole or not at all. Raises OSError."""
        unreadable = json.dumps(dict(part.unreadable))
        if self._form == "safetensors":
            facts = {NAME: json.dumps(list(part.names)), UNREADABLE: unreadable}
            files.write_tensors(self.path(number), {EMBEDDING: part.embedding}, facts)
        else:
            files.write_whole(self.path(number), _parquet(part, unreadable))

    def unreadable(self, number: int) -> dict[str, str] | None:
        """Why some of a part were not embedded, by name; None where it is still to be made. Raises UserError."""
        path = self.path(number)
        if not path.is_file():
            return None
        try:
            if self._form == "safetensors":
                with safe_open(path, "np") as file:
                    facts = file.metadata()[UNREADABLE]
            else:
                facts = _arrow().read_schema(path).metadata[UNREADABLE.encode()]
            return json.loads(facts)
        except (SafetensorError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is damaged; delete it and run again") from None


def _refuse_other(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        told = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
        raise UserError(f"{path}: made with other settings ({told}); choose another --output or delete it")


def _parquet(part: Part, unreadable: str) -> bytes:
    parquet, arrow = _arrow(), importlib.import_module("pyarrow")
    values = arrow.array(part.embedding.reshape(-1))
    columns = [arrow.array(list(part.names), arrow.string())]
    columns.append(arrow.FixedSizeListArray.from_arrays(values, part.embedding.shape[1]))
    table = arrow.table(columns, [NAME, EMBEDDING]).replace_schema_metadata({UNREADABLE: unreadable})
    stored = io.BytesIO()
    parquet.write_table(table, stored)
    return stored.getvalue()


def _arrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError("parquet needs pyarrow: pip install pyarrow, or choose --format=safetensors") from None
