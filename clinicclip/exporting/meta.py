"""The facts of an export, in a file of their own: what its weights are, how they came to be, what else is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicclip import files, typed
from clinicclip.errors import UserError
from clinicclip.exporting.origin import Origin
from clinicclip.models.clip import ClipSpec

META = "clinicclip.json"
FORMAT = 1
LEAST_TOKENS = 3
MEND = "export again"


@dataclass(frozen=True)
class Data:
    """The data a run learnt from, by name and split."""

    name: str
    train: str
    validation: str
    test: str


@dataclass(frozen=True)
class Start:
    """Where parameters started: of a whole model, or its towers."""

    init: str | None
    image: "Start | None"
    text: "Start | None"


@dataclass(frozen=True)
class Asked:
    """What evaluations and cards ask of a configuration, where it has it."""

    data: Data | None
    model: Start | None
    imported: tuple[str, ...] | None


@dataclass(frozen=True)
class Meta:
    """What `META` holds; `files` is name -> SHA-256. Raises UserError for texts that the text tower cannot read."""

    format: int
    clinicclip: str  # the version that wrote it
    dialects: tuple[str, ...]
    spec: ClipSpec
    text_length: int
    hub: str  # the id it is to be published under, or ""
    origin: Origin
    config: Mapping[str, Any]  # of the run
    files: Mapping[str, str]

    def __post_init__(self) -> None:
        """Hold the length of texts against the text tower."""
        most = self.spec.text.max_positions
        if not LEAST_TOKENS <= self.text_length <= most:
            raise UserError(f"text_length is {self.text_length}, expected {LEAST_TOKENS} to {most}")

    @classmethod
    def read(cls, folder: Path) -> "Meta":
        """The facts of an export's folder, before anything of it is built or read.

        Raises UserError when they are absent or of a newer version, or one is unfit: it names file and key.
        """
        path = folder / META
        try:
            stored = files.read_json(path, ("format",), MEND)
        except FileNotFoundError:
            raise UserError(f"{folder}: no {META}, so this is not an export of ours") from None
        if stored["format"] != FORMAT:
            raise UserError(f"{path}: format {stored['format']!r}, this version reads {FORMAT}; update it")
        typed.read(Asked, stored.get("config"), path, mend=MEND, part="config")
        return typed.read(cls, stored, path, mend=MEND)
