"""What a run reads: made and stored in its folder at the first start, read back when it goes on.

In several processes, process 0 makes and writes it, and the others read that.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt64
from ml_collections import ConfigDict

from clinicclip import annotate, assemble, dataset, files, starting
from clinicclip import config as config_files
from clinicclip.data import patients
from clinicclip.data.features import FeatureTable
from clinicclip.data.sources import Readable, Remembered, Source
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import ORIGIN, Origin
from clinicclip.training import processes

# What may change between the first start of a run and its resumption: nothing that alters its result.
FREE_TO_CHANGE = (
    "log_every",
    "checkpoint_every",
    "checkpoint_keep",
    "checkpoint_best",
    "evaluate_every",
    "watchdog",
    "heartbeat_timeout",
    "data.workers",
    "data.threads",
    "data.memory_bytes",
    "data.max_corrupt",
    "data.dir",
    "data.allow_overlap",
    "evals.",
)


class RunInputs(NamedTuple):
    """What a run reads: its training records, what makes arrays of them, and what they are."""

    source: Source
    tokenizer: Tokenizer
    features: FeatureTable | None
    origin: Origin


def open_inputs(config: ConfigDict, workdir: Path) -> RunInputs:
    """Opens the data; makes what a first start makes of them, or reads from ``workdir`` what was made before.

    Raises:
        UserError: as `set_up`, or this process does not see what process 0 wrote.
    """
    stored = workdir / "config.json"
    if not processes.first() and not stored.exists():
        raise UserError(
            f"process {jax.process_index()} does not see {stored}: all processes must share the run's folder"
        )
    manifest = dataset.require_data(config)
    starting.require_weights(config)
    source = Remembered(dataset.split_of(config, "train"), config.data.memory_bytes)
    config.data.digest = annotate.data_digest(manifest)
    origin = dataset.origin(config, manifest, workdir.name)
    make = resume_inputs if stored.exists() else first_inputs
    tokenizer, features = make(config, workdir, source, manifest)
    origin = dataclasses.replace(origin, steps=config.total_steps)
    if processes.first():
        files.write_whole(workdir / ORIGIN, json.dumps(dataclasses.asdict(origin), indent=1) + "\n")
    return RunInputs(source, tokenizer, features, origin)


def require_disjoint(config: ConfigDict, source: Source, release: str) -> UInt64[np.ndarray, " n"]:
    """The patients a run learns from, as digests, of whom its evaluations may hold none.

    Raises:
        UserError: some are evaluated too, and data.allow_overlap is not set.
    """
    data = config.data
    trained_on = patients.of(release, map(source.__getitem__, range(len(source))))
    for role in ("validation", "test"):
        evaluated = patients.of(release, dataset.split_of(config, role))
        shared = len(np.intersect1d(trained_on, evaluated))
        if shared and not data.allow_overlap:
            raise UserError(
                f"{data.dir}: {shared} of {len(evaluated)} patients of the {role} split ({data[role]}) are trained on "
                f"(data.train={data.train}): choose other splits, or set --config.data.allow_overlap=True"
            )
    return trained_on


def first_inputs(
    config: ConfigDict, workdir: Path, source: Source, manifest: dict[str, Any]
) -> tuple[Tokenizer, FeatureTable | None]:
    """Makes of the records that can be read tokenizer and frozen features, and stores them.

    So are whose records they are and, last, the resolved configuration. Raises UserError as `open_inputs`.
    """
    data, read = config.data, Readable(source)
    if len(source) - len(read) > data.max_corrupt:
        raise UserError(
            f"{data.dir}: {len(source) - len(read)} of {len(source)} records of data.train={data.train} cannot be "
            f"read, more than data.max_corrupt={data.max_corrupt}: delete the folder and run clinicclip.prepare again"
        )
    trained_on = require_disjoint(config, read, manifest["name"])
    files.make_folder(workdir)
    tokenizer = dataset.make_tokenizer(config, read, manifest)
    assemble.resolve(config, studies=len(source), tokenizer=tokenizer)
    tokenizer.save(workdir / "tokenizer", data.text_length)
    features = dataset.frozen_features(config, manifest, read, workdir)
    patients.save(workdir, trained_on)
    config_files.save(config, workdir / "config.json")
    return tokenizer, features


def resume_inputs(
    config: ConfigDict, workdir: Path, source: Source, manifest: dict[str, Any]
) -> tuple[Tokenizer, FeatureTable | None]:
    """Reads what the first start stored, after checking that this is the same run.

    Raises:
        UserError: the settings differ from those the run was started with.
    """
    tokenizer = Tokenizer.load(str(workdir / "tokenizer"))
    assemble.resolve(config, studies=len(source), tokenizer=tokenizer)
    require_same_run(workdir / "config.json", config)
    return tokenizer, dataset.stored_features(config, manifest, workdir)


def require_same_run(stored: Path, config: ConfigDict) -> None:
    """Raises UserError when the settings in a run's folder differ from ``config`` in what alters a result."""
    changed = config_files.differences(config_files.restore(stored), config)
    changed = [key for key in changed if not key.startswith(FREE_TO_CHANGE)]
    if changed:
        shown = ", ".join(changed[:5])
        where = stored.parent
        raise UserError(f"{where} holds a run with other settings ({shown}); choose another --workdir or delete it")
