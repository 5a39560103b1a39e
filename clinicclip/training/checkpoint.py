"""Orbax checkpoints of a run: atomic, restorable on any device count, checked against the model they are read into.

A step is sealed before it gets its name: ``STEP/checksums.json`` holds the SHA-256 of each of its files. A step whose
files have changed since, or that has no seal, is damaged; a run renames it to ``STEP.damaged`` and goes on from the one
before.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from clinicclip import files
from clinicclip.errors import UserError
from clinicclip.training import processes
from clinicclip.training.progress import say

KEEP = 3
SEAL = "checksums.json"
UNSEALED = (SEAL, "_CHECKPOINT_METADATA", "commit_success.txt")  # the latter two are Orbax's notes of the renaming
SCORE = "score"
SETTLE = 5.0  # seconds that what is being saved has left once one of several processes has failed
SLOW = 5.0  # seconds that training waits for the last save before it is told
STATUS = re.compile(r"([A-Z]+(?:_[A-Z]+)*): ")  # at the head of what tensorstore tells


class Checkpoints:
    """The folder ``WORKDIR/checkpoints``: ``STEP/state`` (a pytree of arrays) and ``STEP/meta`` (JSON).

    The newest ``keep`` steps stay, and the one with the highest score among those saved with one. Saving runs in the
    background; a save that was cut off is ignored and cleaned up by the next run. All processes make one together.

    Raises:
        UserError: there are steps, and all of them are damaged.
    """

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        policy = ocp.checkpoint_managers
        kept = [
            policy.LatestN(n=keep),
            policy.BestN(get_metric_fn=lambda metrics: metrics[SCORE], n=1, keep_checkpoints_without_metrics=False),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy.AnyPreservationPolicy(kept),
            create=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),  # in the background, then renamed
        )
        self._folder = folder.resolve()
        self._saving: int | None = None
        processes.on_first(self._set_damaged_aside)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(fault, Exception) and jax.process_count() > 1:  # perhaps of this process alone
            closing = threading.Thread(target=self._settle, daemon=True)
            closing.start()
            closing.join(SETTLE)
            return
        with self._storage_faults():
            self._manager.close()

    def _settle(self) -> None:
        with contextlib.suppress(Exception):  # it is another fault that is told
            self._manager.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, meta: Mapping[str, Any], score: float | None = None) -> None:
        """Saves ``state`` as ``step`` unless that step is already there."""
        if self.latest == step:
            return
        began = time.monotonic()
        self.wait()
        if (waited := time.monotonic() - began) > SLOW:
            say(f"{self._folder} is slow: training waited {waited:.0f} s for step {self._saving} to be saved")
        self._saving = step
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(dict(meta)))
        with self._storage_faults():
            self._manager.save(step, args=items, metrics=None if score is None else {SCORE: score})

    def wait(self) -> None:
        """Returns when everything saved so far is complete on disk."""
        with self._storage_faults():
            self._manager.wait_until_finished()

    def restore(self, step: int, like: Any) -> Any:
        """The state of ``step`` with the structure, dtypes and shardings of ``like`` (arrays or shape structs).

        Raises:
            UserError: the checkpoint holds another architecture.
        """
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        self._require_equal_shapes(step, target)
        arguments = ocp.checkpoint_utils.construct_restore_args(target)
        restore = ocp.args.PyTreeRestore(item=target, restore_args=arguments)
        with _damage(self._folder / str(step)):
            return self._manager.restore(step, args=ocp.args.Composite(state=restore))["state"]

    def _seal(self) -> None:
        """Seals the step that is being saved, of which all is written but its name."""
        if processes.first():
            (step,) = self._folder.glob(f"{self._saving}{ocp.path.atomicity.TMP_DIR_SUFFIX}")
            files.write_whole(step / SEAL, json.dumps(_sums(step), indent=1))

    def _set_damaged_aside(self) -> None:
        steps = _steps(self._folder)
        whole = None
        while steps and whole is None:
            newest = self._folder / str(steps.pop())
            flaw = _flaw(newest)
            if flaw is None:
                whole = newest
                continue
            if not steps:
                raise UserError(f"{newest} is damaged ({flaw}) and no older step is left: delete it to start anew")
            names = (f"{newest.name}.damaged{f'.{number}' if number else ''}" for number in itertools.count())
            aside = newest.with_name(next(name for name in names if not (self._folder / name).exists()))
            newest.rename(aside)
            say(f"{newest} is damaged ({flaw}) and now called {aside.name}; going back to step {steps[-1]}")

    @contextlib.contextmanager
    def _storage_faults(self) -> Iterator[None]:
        """Tells a fault of the disk in one line."""
        try:
            yield
        except (ValueError, OSError) as fault:
            why = _fault_of_disk(fault, self._folder)
            if why is None:
                raise
            whole = f"step {self.latest} is whole" if self.latest is not None else "no step is whole yet"
            raise UserError(
                f"{self._folder}: saving failed ({why}); {whole}; make room there, or mend it, then start again"
            ) from None

    def _require_equal_shapes(self, step: int, target: Any) -> None:
        stored = _shapes(_stored_tree(self._folder, step))
        wanted = _shapes(target)
        odd = sorted(k for k in stored.keys() | wanted.keys() if stored.get(k) != wanted.get(k))
        if odd:
            shown = ", ".join(f"{k} is {stored.get(k)}, expected {wanted.get(k)}" for k in odd[:3])
            raise UserError(
                f"{self._folder / str(step)} holds another architecture ({len(odd)} arrays differ: {shown}); "
                "use the config it was trained with or another --workdir"
            )


def _fault_of_disk(fault: ValueError | OSError, folder: Path) -> str | None:
    """What a disk said, which tensorstore tells in a ValueError by errno or by a status of its own; None of others."""
    code = re.search(r"os_error_code='(\d+)'", str(fault))
    number = int(code[1]) if code else getattr(fault, "errno", None)
    if number is not None:
        return os.strerror(number)
    status = STATUS.match(str(fault)) if str(folder) in str(fault) else None
    return status[1].replace("_", " ").lower() if status else None


def read_params(folder: Path, step: int | None = None) -> tuple[int, Any]:
    """Step and parameters (numpy) of a run's checkpoints; the newest complete step unless one is named.

    Raises:
        UserError: there is no checkpoint, or not that one.
    """
    folder = folder.resolve()
    steps = _steps(folder)
    if not steps or (step is not None and step not in steps):
        there = f"it holds steps {', '.join(map(str, steps))}" if steps else "it holds none"
        raise UserError(f"{folder}: no checkpoint{'' if step is None else f' of step {step}'}; {there}")
    chosen = steps[-1] if step is None else step
    if flaw := _flaw(folder / str(chosen)):
        raise UserError(f"{folder / str(chosen)} is damaged ({flaw}): name another step as WORKDIR@STEP")
    params = {"params": _stored_tree(folder, chosen)["params"]}
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), params)
    restore = ocp.args.PyTreeRestore(item=params, restore_args=arguments, partial_restore=True)
    with _damage(folder / str(chosen)), ocp.CheckpointManager(folder, item_handlers=_handlers()) as manager:
        tree = manager.restore(chosen, args=ocp.args.Composite(state=restore))["state"]["params"]
    return chosen, tree


def read_facts(folder: Path, step: int) -> dict[str, Any]:
    """The JSON facts stored beside the state of a step that is there. Raises UserError when they are damaged."""
    folder = folder.resolve()
    with _damage(folder / str(step)), ocp.CheckpointManager(folder, item_handlers=_handlers()) as manager:
        return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]


@contextlib.contextmanager
def _damage(step: Path) -> Iterator[None]:
    """Tells in one line that a step cannot be read, which may be so where its seal is whole."""
    try:
        yield
    except (ValueError, OSError, KeyError) as fault:
        told = str(fault).splitlines()[0][:200] if str(fault) else type(fault).__name__
        raise UserError(f"{step} is damaged ({told}): delete it to use an older step") from None


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdecimal()) if folder.is_dir() else []


def _sums(step: Path) -> dict[str, str]:
    """What the seal of a step holds."""
    names = (path.relative_to(step).as_posix() for path in sorted(step.rglob("*")) if path.is_file())
    return {name: _sha256(step / name) for name in names if name not in UNSEALED}


def _flaw(step: Path) -> str | None:
    """What is not as it was when the step was sealed; None where all is."""
    found = _sums(step)
    try:
        sealed = files.read_json(step / SEAL, ["state/_METADATA"])  # of others, nobody knows whether they must be
    except FileNotFoundError:
        return f"{SEAL} is missing"
    except UserError:
        return f"{SEAL} is no table of its checksums"
    odd = [name for name, told in sealed.items() if found.get(name) != told]
    return f"{odd[0]} {'has changed' if odd[0] in found else 'is missing'}" if odd else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored_tree(folder: Path, step: int) -> Any:
    with _damage(folder / str(step)), ocp.CheckpointManager(folder, item_handlers=_handlers()) as manager:
        metadata = manager.item_metadata(step)["state"]
    if metadata is None:
        raise UserError(f"{folder / str(step)} is damaged: it holds no readable state; delete it to use an older step")
    return metadata.tree if hasattr(metadata, "tree") else metadata


def _handlers() -> dict[str, Any]:
    return {"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)
