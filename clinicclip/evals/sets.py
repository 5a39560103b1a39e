"""From a prepared folder to the set that evaluations score."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt64

from clinicclip.data import builder, patients
from clinicclip.errors import UserError
from clinicclip.evals.base import EvalSet
from clinicclip.evals.truth import SQUASH, View

TEST = "test"


def open_set(
    name: str, data_dir: Path | str, split: str, *, image_size: int, view: View = SQUASH, limit: int = 0
) -> EvalSet:
    """The records of one split (all, or the first `limit`), images brought to `image_size` pixels.

    Raises: UserError when the folder or the split does not exist.
    """
    manifest = builder.read_manifest(data_dir)
    source = builder.open_source(data_dir, split)
    records = itertools.islice(source, limit or len(source))
    phantom = manifest["name"] == "phantom"
    title = manifest["title"] + (f", level {manifest['settings']['level']}" if phantom else "")
    opened = EvalSet.from_records(
        name,
        split,
        records,
        image_size,
        open=manifest["open"],
        phantom=phantom,
        title=title,
        release=manifest["name"],
        labeller=_labeller(manifest["settings"]),
        view=view,
    )
    asked = min(limit, len(source)) if limit else len(source)
    if len(opened) + len(opened.unread) != asked:
        raise UserError(f"{data_dir}: {asked} records were asked for and {len(opened)} came; prepare the data again")
    return opened


def _labeller(settings: Mapping) -> str:
    """Who labelled the reports of prepared data; "" = the rules that read what the text mentions."""
    if "labeller" in settings:
        return str(settings["labeller"]["model"])
    table = settings.get("labels", "text")
    return "" if table == "text" else Path(table).name


def other_split(data_dir: Path | str, role: str, split: str, config: Mapping) -> str:
    """The split to learn from (role ``train``) or to choose by (``validation``) beside ``split``; "" = there is none.

    The run's own where it is of this data set, else the folder's of that name; never one that shares a part with
    ``split``.
    """
    manifest = builder.read_manifest(data_dir)
    own = config["data"].get(role, "") if "data" in config and config["data"]["name"] == manifest["name"] else role
    known = all(part in manifest["splits"] for part in _parts(own))
    return own if own and known and not _parts(own) & _parts(split) else ""


def held_out_split(data_dir: Path | str, config: Mapping) -> str:
    """The split to score by default: the one the run kept out of training, else the folder's own test split.

    Raises: UserError when the folder has no test split and the model was not trained on this data set.
    """
    manifest = builder.read_manifest(data_dir)
    if "data" in config and config["data"]["name"] == manifest["name"]:
        return config["data"]["test"]
    if TEST in manifest["splits"]:
        return TEST
    raise UserError(
        f"{data_dir} has no split {TEST!r}; choose with --split or DIR@SPLIT among {', '.join(manifest['splits'])}"
    )


def has_splits(data_dir: Path | str, splits: Sequence[str]) -> bool:
    """Whether a prepared folder has every part of splits such as ``fold0+fold1[:50]``, and none of it is in two."""
    parts = [part for split in splits for part in _parts(split)]
    return len(set(parts)) == len(parts) and set(parts) <= set(builder.read_manifest(data_dir)["splits"])


def overlap(data_dir: Path | str, split: str, config: Mapping, trained_on: UInt64[np.ndarray, " n"]) -> str:
    """Who of the split was trained on, in words, or "".

    Told by the patients' digests; where they are not known, as for an export, by the name of the split.

    Raises: UserError when the folder or the split does not exist.
    """
    release = builder.read_manifest(data_dir)["name"]
    if len(trained_on):
        evaluated = patients.of(release, builder.open_source(data_dir, split))
        shared = len(np.intersect1d(evaluated, trained_on))
        return f"{shared} of {len(evaluated)} patients" if shared else ""
    same = "data" in config and config["data"]["name"] == release
    shared_parts = _parts(split) & _parts(config["data"]["train"]) if same else set()
    return f"{'+'.join(sorted(shared_parts))} of the same release" if shared_parts else ""


def kinship(data_dir: Path | str, config: Mapping) -> str:
    """In words, that a set's people are those of the release trained on while no id tells who is who; or "".

    Raises: UserError when the folder does not exist.
    """
    manifest = builder.read_manifest(data_dir)
    learnt = config["data"]["name"] if "data" in config else ""
    if not patients.untold(manifest, learnt):
        return ""
    return f"the images of {manifest['name']} are {patients.people(learnt)}'s, and so may be those trained on"


def _parts(split: str) -> set[str]:
    return {part.strip().partition("[")[0] for part in split.split("+")}
