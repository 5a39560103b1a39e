"""A model scored on prepared folders, and the setting that says how, so that it can be scored so again."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from clinicclip import annotate, api, files, guests
from clinicclip.data import builder
from clinicclip.data.images import marks
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import prompts, report, sets, suites
from clinicclip.evals.base import EmbedFns, EvalSet, Rows
from clinicclip.evals.embedding import Store
from clinicclip.evals.results import Evaluation
from clinicclip.evals.truth import View
from clinicclip.importing import hub

BATCH = 256  # images that a guest is given at once
SETTING = "setting.json"  # beside the results
Model = api.ClinicCLIP | guests.Guest


@dataclass(frozen=True)
class Place:
    """A prepared folder, and its splits that are scored, learnt from and chosen by ("" = none); `limit` 0 = all."""

    folder: str
    split: str
    limit: int = 0
    train: str = ""
    validation: str = ""
    digest: str = ""  # of the stored records, as they were scored

    def splits(self) -> tuple[str, ...]:
        """All that are read."""
        return tuple(filter(None, (self.split, self.train, self.validation)))

    def is_as_scored(self) -> bool:
        """Whether the folder holds the records that were scored. Raises UserError when it holds none."""
        return self.digest == data_digest(Path(self.folder))


@dataclass(frozen=True)
class Checkpoint:
    """Weights, as anywhere on this machine they are named, and how they are loaded (`api.load_any`)."""

    place: str
    pooling: str = ""
    force: bool = False

    def __str__(self) -> str:
        return self.place

    def load(self) -> Model:
        """The model. Raises UserError."""
        return api.load_any(self.place, pooling=self.pooling, force=self.force)


@dataclass(frozen=True)
class Setting:
    """All that decides the numbers of an evaluation, beside the code."""

    checkpoint: Checkpoint
    data: dict[str, Place]
    suites: tuple[str, ...]
    findings: tuple[str, ...]
    prompts: str  # name of a prompt set, or its file
    draws: int
    seed: int

    def save(self, folder: Path) -> None:
        """Writes it beside the results."""
        files.write_whole(folder / SETTING, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Setting":
        """Reads it back. Raises UserError when the folder has none."""
        try:
            keys = [field.name for field in dataclasses.fields(cls)]
            told = files.read_json(folder / SETTING, keys, "evaluate again")
        except FileNotFoundError:
            raise UserError(f"{folder} has no {SETTING}: give a folder that clinicclip.evaluate wrote") from None
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        try:
            fields["checkpoint"] = Checkpoint(**told["checkpoint"])
            fields["data"] = {name: Place(**place) for name, place in told["data"].items()}
            return cls(**fields)
        except (AttributeError, TypeError):
            raise UserError(f"{folder / SETTING}: is damaged, or of another version; evaluate again") from None


def absolute(checkpoint: str) -> str:
    """``WORKDIR[@STEP]`` or a folder, as it is named from anywhere; an id of the hub is named so already."""
    folder, step = files.at(checkpoint)
    if hub.is_id(checkpoint) and not files.exists(Path(folder)):
        return checkpoint
    return f"{Path(folder).resolve()}{step and '@'}{step}"


class Where(NamedTuple):
    """A prepared folder, and the split that is asked for ("" = the one that was held out)."""

    folder: Path
    split: str = ""


def places(text: str) -> dict[str, Where]:
    """What ``NAME:DIR[@SPLIT][,NAME:DIR[@SPLIT]]`` names. Raises UsageError for what is not of this form."""
    found: dict[str, Where] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, place = item.partition(":")
        folder, split = files.at(place)
        if not (name and colon and folder) or (folder != place and not split):
            raise UsageError(f"{item}: expected NAME:DIR or NAME:DIR@SPLIT, such as openi:data/openi")
        if name in found:
            raise UsageError(f"{name!r} is named twice; give each set a name of its own")
        found[name] = Where(Path(folder), split)
    return found


def data_digest(folder: Path) -> str:
    """Twelve hex digits that stand for the records of a prepared folder. Raises UserError when there are none."""
    return annotate.data_digest(builder.read_manifest(folder))


class Opened(NamedTuple):
    """A set to be measured, and the splits beside it."""

    measured: EvalSet
    beside: suites.Beside


def open_sets(setting: Setting, model: Model) -> Iterator[Opened]:
    """The sets of a setting, images as a model takes them.

    Raises: UserError when one cannot be opened, or shares patients with a split beside it.
    """
    view = View(model.square, model.says)
    for name, place in setting.data.items():
        read = functools.partial(
            sets.open_set, name, place.folder, image_size=model.image_size, view=view, limit=place.limit
        )
        measured = read(place.split)
        beside = {role: read(split) for role in suites.Beside._fields if (split := getattr(place, role))}
        for role, other in beside.items():
            shared = len(set(other.patients) & set(measured.patients))
            if shared:
                raise UserError(
                    f"{name}: {shared} patients are both in split {place.split} and in {other.split}; choose another "
                    f"--{role}_split"
                )
        yield Opened(measured, suites.Beside(**beside))


def score(setting: Setting, model: Model, opened: Sequence[Opened], cache: Path | None = None) -> Evaluation:
    """The evaluation of a loaded model on the setting's opened sets; embeddings go to, and come from, the cache."""
    store = Store(cache, _model_digest(model.describe())) if cache else None
    return suites.run_suites(
        _embed_fns(model),
        [found.measured for found in opened],
        setting.suites,
        findings=setting.findings,
        draws=setting.draws,
        seed=setting.seed,
        beside={found.measured.name: found.beside for found in opened},
        wording=prompts.PromptSet.load(setting.prompts),
        store=store,
    )


def _embed_fns(model: Model) -> EmbedFns:
    """The model as evaluations know it; a guest has no patches that are known to lie in the space of texts."""
    if isinstance(model, guests.Guest):
        return EmbedFns(functools.partial(_guest_rows, model), model.embed_texts)
    return EmbedFns(model.embed_rows, model.embed_texts, functools.partial(model.embed_rows, patches=True))


def _guest_rows(guest: guests.Guest, squares: UInt8[np.ndarray, "n s s"]) -> Rows:
    """Vectors and marks, both of one batch after the other."""
    parts = [squares[first : first + BATCH] for first in range(0, len(squares), BATCH)]
    return Rows(*map(np.concatenate, zip(*((guest.embed_images(part), marks(part)) for part in parts), strict=True)))


def publish(evaluation: Evaluation, folder: Path, setting: Setting, provenance: Mapping[str, str]) -> None:
    """Writes the report, and beside it the setting."""
    report.write(evaluation, folder, provenance=provenance)
    setting.save(folder)


def _model_digest(facts: Mapping[str, str]) -> str:
    """Of what an embedding depends on beside the input: parameters, tokenizer and code, not where they lie."""
    told = json.dumps({key: value for key, value in facts.items() if key != "checkpoint"}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
