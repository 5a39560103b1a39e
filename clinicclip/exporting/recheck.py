"""An export's golden inputs run again: here, and by whichever PyTorch libraries are installed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import clinicclip
from clinicclip import guests, terms
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import contract, parity
from clinicclip.exporting.dialects import WEIGHTS
from clinicclip.exporting.folder import Export, load_export, settings
from clinicclip.models import shards

SETTINGS, GOLDEN, LOADING = "settings", "golden file", "loading"


class Reading(NamedTuple):
    """A library with its version, and how near each stage came."""

    reader: str
    stages: list[parity.Stage]


def read_again(folder: Path) -> Iterator[Reading]:
    """Every reader's stages, ours first. Raises UserError when the folder is no export or its weights are damaged."""
    export = load_export(folder, force=True)
    golden = parity.read_sample(folder)
    tokenizer, length = Tokenizer.load(folder), export.meta["text_length"]
    ours = parity.Ours(export.spec, export.params, tokenizer, length)
    stages = [*_files(folder, export), *parity.compare(golden, ours)]
    yield Reading(f"clinicclip {clinicclip.__version__}", stages)
    for library in parity.libraries(folder):
        yield Reading(f"{library} {guests.version(library)}", _theirs(folder, library, golden))


def _files(folder: Path, export: Export) -> list[parity.Stage]:
    """Whether the folder says what its weights say, of its settings and of the golden file."""
    weights = folder / WEIGHTS[export.meta["dialects"][0]]
    _, digest = contract.read(shards.parts(weights)[0])
    same = hashlib.sha256((folder / parity.TENSORS).read_bytes()).hexdigest() == digest
    trained, given = settings(folder, export.spec, export.meta["text_length"], weights.name)
    found = terms.differences(trained, *given)
    return [
        parity.Stage(SETTINGS, float(len(found)), 0.0, "; ".join(found)),
        parity.Stage(GOLDEN, float(not same), 0.0, "" if same else f"{parity.TENSORS} is not the one the weights name"),
    ]


def _theirs(folder: Path, library: str, golden: parity.Sample) -> list[parity.Stage]:
    try:
        reader = guests.open_reader(library, folder)
    except UserError as fault:
        return [parity.Stage(LOADING, 1.0, 0.0, str(fault))]
    return [parity.Stage(LOADING, 0.0, 0.0), *parity.compare(golden, reader)]
