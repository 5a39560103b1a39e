"""Where weights come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clinicclip import files, typed
from clinicclip.errors import UserError

FILE = "origin.json"  # in a run's folder
UNKNOWN = "unknown"  # as data


@dataclass(frozen=True)
class Origin:
    """Where weights come from, as the card must say it; `studies` counts image-report pairs by role."""

    name: str  # of the model, e.g. the config's name
    data: str  # name of the prepared set
    data_title: str
    data_licence: str
    data_citation: str
    data_open: bool  # its images and texts may be shown
    phantom: bool
    steps: int
    studies: Mapping[str, int] = field(default_factory=dict)
    # False for a vocabulary trained on restricted reports as they are: its rare pieces may be names.
    vocabulary_public: bool = True

    @classmethod
    def of_run(cls, workdir: Path) -> "Origin":
        """What a run learns from, as it noted at its start. Raises UserError when the note is missing."""
        try:
            return typed.read(cls, files.read_json(workdir / FILE, ()), workdir / FILE, mend="restore the file")
        except FileNotFoundError:
            raise UserError(f"{workdir / FILE}: not found; every run writes it at its start, restore it") from None

    @classmethod
    def of_others(cls, place: str | Path) -> "Origin":
        """What can be said of weights that others trained: where they are from, and that their terms are not ours."""
        return cls(
            name=Path(place).name,
            data=UNKNOWN,
            data_title="not known here, the weights were trained elsewhere",
            data_licence=f"those of the weights, {Path(place).name}",
            data_citation="",
            data_open=False,
            phantom=False,
            steps=0,
        )
