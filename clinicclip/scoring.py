"""A model scored on prepared folders, and the setting that says how, so that it can be scored so again."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicclip import api, files
from clinicclip.errors import UserError
from clinicclip.evals import report, sets, suites
from clinicclip.evals.base import EmbedFns, EvalSet, Evaluation
from clinicclip.evals.embedding import Store

SETTING = "setting.json"  # beside the results


@dataclass(frozen=True)
class Place:
    """A prepared folder and which of its studies are scored; `limit` 0 = all."""

    folder: str
    split: str
    limit: int = 0


@dataclass(frozen=True)
class Setting:
    """All that decides the numbers of an evaluation, beside the code."""

    checkpoint: str
    data: dict[str, Place]
    suites: tuple[str, ...]
    findings: tuple[str, ...]
    draws: int
    seed: int

    def save(self, folder: Path) -> None:
        """Writes it beside the results."""
        files.write_whole(folder / SETTING, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Setting":
        """Reads it back. Raises UserError when the folder has none."""
        try:
            told = json.loads((folder / SETTING).read_text())
        except FileNotFoundError:
            raise UserError(f"{folder} has no {SETTING}: give a folder that clinicclip.evaluate wrote") from None
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        fields["data"] = {name: Place(**place) for name, place in told["data"].items()}
        return cls(**fields)


def absolute(checkpoint: str) -> str:
    """``WORKDIR[@STEP]`` or a folder, as it is named from anywhere."""
    folder, at, step = checkpoint.partition("@")
    return f"{Path(folder).resolve()}{at}{step}"


def open_sets(setting: Setting, image_size: int) -> Iterator[EvalSet]:
    """The sets of a setting, images at the size a model takes. Raises UserError when one cannot be opened."""
    for name, place in setting.data.items():
        yield sets.open_set(name, place.folder, place.split, image_size=image_size, limit=place.limit)


def score(setting: Setting, model: api.ClinicCLIP, opened: Sequence[EvalSet], cache: Path | None = None) -> Evaluation:
    """The evaluation of a loaded model on the setting's opened sets; embeddings go to, and come from, the cache."""
    store = Store(cache, _model_digest(model.describe())) if cache else None
    return suites.run_suites(
        EmbedFns(model.embed_images, model.embed_texts),
        opened,
        setting.suites,
        findings=setting.findings,
        draws=setting.draws,
        seed=setting.seed,
        store=store,
    )


def publish(evaluation: Evaluation, folder: Path, setting: Setting, provenance: Mapping[str, str]) -> None:
    """Writes the report, and beside it the setting."""
    report.write(evaluation, folder, provenance=provenance)
    setting.save(folder)


def _model_digest(facts: Mapping[str, str]) -> str:
    """Of what an embedding depends on beside the input: parameters, tokenizer and code, not where they lie."""
    told = json.dumps({key: value for key, value in facts.items() if key != "checkpoint"}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
