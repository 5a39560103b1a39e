"""What two evaluations are compared by, kept beside their numbers: bootstrap draws, and scores under image ids.

Draws of equal data, number and seed are paired entry by entry (see `stats.PatientBootstrap`), so that the difference
of any two numbers, whatever they are, has an interval without another look at the data.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open

from clinicclip import files
from clinicclip.errors import UserError
from clinicclip.evals.results import Evaluation
from clinicclip.evals.stats import Draws

RESULTS, DRAWS, SCORES = "results.json", "draws.safetensors", "scores.safetensors"
SETS, IDS, OWNERS = "sets", "ids", "patients"  # in the scores' metadata: whose the rows are
TRUTH = "truth"


class Scored(NamedTuple):
    """Truth and scores of one finding under one rule, under the ids of the images."""

    ids: tuple[str, ...]
    patients: Int[np.ndarray, "r"]  # by number
    truth: Bool[np.ndarray, "r"]
    scores: Float[np.ndarray, "r"]


class Stored(NamedTuple):
    """A result folder as it was written."""

    folder: Path
    records: dict[tuple[str, str], dict[str, Any]]  # by data and metric
    draws: dict[tuple[str, str], Draws]
    scores: dict[tuple[str, str, str], Scored]  # by data, rule and finding


def write(evaluation: Evaluation, folder: Path) -> None:
    """Writes both files."""
    drawn = {
        f"{result.data}/{result.metric}": result.draws.astype(np.float32)
        for result in evaluation.results
        if result.draws is not None and np.isfinite(result.value)
    }
    files.write_tensors(folder / DRAWS, drawn)
    tensors: dict[str, np.ndarray] = {}
    known = {facts.name: {IDS: facts.ids, OWNERS: _numbered(facts.patients)} for facts in evaluation.sets}
    for curve in evaluation.curves:
        for kind, values in ((TRUTH, curve.truth), (curve.rule, curve.scores)):
            column = np.full(len(known[curve.data][IDS]), np.nan, np.float32)
            column[curve.rows] = values
            tensors[f"{curve.data}/{kind}/{curve.finding}"] = column
    files.write_tensors(folder / SCORES, tensors, {SETS: json.dumps(known)})


def _numbered(patients: Sequence[str]) -> list[int]:
    """The patients by number, which tells who is the same and not who it is."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(patient, len(numbers)) for patient in patients]


def read(folder: Path) -> Stored:
    """A result folder. Raises UserError when it is none, or holds no draws to compare by."""
    try:
        rows = json.loads(files.content(folder / RESULTS))
        drawn = files.map_tensors(folder / DRAWS)
        with safe_open(folder / SCORES, "numpy") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as fault:
        missing = Path(str(fault.filename or folder / SCORES)).name
        raise UserError(f"{folder} has no {missing}: give a folder that clinicclip.evaluate wrote") from None
    except (ValueError, KeyError, SafetensorError):
        raise UserError(f"{folder}: its results are damaged; evaluate again") from None
    records = {(row["data"], row["metric"]): row for row in rows}
    draws = {
        key: Draws(row["value"], np.asarray(drawn[name], np.float64), row["redrawn"])
        for key, row in records.items()
        if (name := "/".join(key)) in drawn
    }
    return Stored(folder, records, draws, _scores(tensors, json.loads(metadata.get(SETS, "{}"))))


def joined(first: Stored, second: Stored) -> Stored:
    """Two result folders of one model as one. Raises UserError when both tell of one set."""
    both = {data for data, _ in first.records} & {data for data, _ in second.records}
    if both:
        raise UserError(f"{first.folder} and {second.folder} both hold results on {', '.join(sorted(both))}")
    return Stored(
        first.folder, first.records | second.records, first.draws | second.draws, first.scores | second.scores
    )


def _scores(
    tensors: Mapping[str, Float[np.ndarray, "n"]], known: Mapping[str, Mapping[str, list]]
) -> dict[tuple[str, str, str], Scored]:
    found = {}
    for name, column in tensors.items():
        data, kind, finding = name.rsplit("/", 2)
        if kind != TRUTH:
            kept = np.flatnonzero(np.isfinite(column))
            ids, owners = (np.asarray(known[data][what])[kept] for what in (IDS, OWNERS))
            truth = tensors[f"{data}/{TRUTH}/{finding}"][kept] == 1
            found[data, kind, finding] = Scored(tuple(map(str, ids)), owners, truth, column[kept])
    return found
