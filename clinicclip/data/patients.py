"""Patients as 64-bit digests of release and id: what a run keeps of those it learnt from.

Ids are compared within a release and those made from it; in another one the same number is somebody else. Two plain
folders of pairs count as one release here, since they may be of one hospital: who is asked can say otherwise. A
digest hides no id from whoever can guess it, so the file stays in the run's folder and is no part of an export.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clinicclip import files
from clinicclip.data.features import digests
from clinicclip.data.schema import Record
from clinicclip.errors import UserError

FILE = "patients.safetensors"
_KEY = "trained_on"
_MADE_FROM = {"ms_cxr": "mimic_cxr", "cxr_align": "mimic_cxr", "rsna": "chestxray14", "siim_acr": "chestxray14"}
_OTHER_IDS = ("rsna", "siim_acr")  # than those of the release they are made from


def people(release: str) -> str:
    """The release whose patients, under the same ids, are those of ``release``: its own name, mostly."""
    return _MADE_FROM.get(release, release)


def untold(one: Mapping[str, Any], other: str) -> bool:
    """Whether the people of a prepared set are those of another release while no id of the set tells who is who.

    ``one`` is the set's manifest. RSNA's ids do tell where its mapping was given: then its patients were counted.
    """
    name = one["name"]
    return name in _OTHER_IDS and "patients" not in one["source"] and people(name) == people(other) and name != other


def of(release: str, records: Iterable[Record]) -> UInt64[np.ndarray, " n"]:
    """The digests of the records' patients, each once, in rising order."""
    return np.unique(digests([f"{people(release)}\n{record['patient']}" for record in records]))


def save(folder: Path, trained_on: UInt64[np.ndarray, " n"]) -> None:
    """Notes in a run's folder whom it learns from."""
    files.write_tensors(folder / FILE, {_KEY: trained_on})


def load(folder: Path) -> UInt64[np.ndarray, " n"]:
    """What `save` noted; empty where nothing is. Raises UserError for a damaged note."""
    path = folder / FILE
    if not path.is_file():
        return np.empty(0, np.uint64)
    try:
        return load_file(path)[_KEY]
    except (SafetensorError, KeyError):
        raise UserError(f"{path} is damaged: restore the file, it tells whom the run learnt from") from None
