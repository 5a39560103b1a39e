"""An export's golden inputs run again: here, and by whichever PyTorch libraries are installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import clinicclip
from clinicclip import guests, terms
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import contract, parity
from clinicclip.exporting.dialects import WEIGHTS, dialects
from clinicclip.exporting.folder import load_export, settings
from clinicclip.models import shards

SETTINGS, LOADING = "settings", "loading"


class Reading(NamedTuple):
    """A library with its version, and how near each stage came."""

    reader: str
    stages: list[parity.Stage]


def read_again(folder: Path) -> Iterator[Reading]:
    """Every reader's stages, ours first. Raises UserError when the folder is no export or its weights are damaged."""
    export = load_export(folder, force=True)
    weights, length = WEIGHTS[dialects(export.spec)[0]], export.meta.text_length
    golden = contract.golden(shards.parts(folder / weights)[0])
    trained, given = settings(folder, export.meta, weights)
    said = terms.differences(trained, *given)
    ours = parity.Ours(export.spec, export.params, Tokenizer.load(folder), length)
    agreed = parity.Stage(SETTINGS, float(len(said)), 0.0, "; ".join(said))
    yield Reading(f"clinicclip {clinicclip.__version__}", [agreed, *parity.compare(golden, ours)])
    for library in parity.libraries(folder):
        yield Reading(f"{library} {guests.version(library)}", _theirs(folder, library, golden))


def _theirs(folder: Path, library: str, golden: parity.Sample) -> list[parity.Stage]:
    try:
        reader = guests.open_reader(library, folder)
    except UserError as fault:
        return [parity.Stage(LOADING, 1.0, 0.0, str(fault))]
    return [parity.Stage(LOADING, 0.0, 0.0), *parity.compare(golden, reader)]
