"""Orbax checkpoints of a run: atomic, restorable on any device count, checked against the model they are read into."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from clinicclip.errors import UserError

KEEP = 3


class Checkpoints:
    """The folder ``WORKDIR/checkpoints``: ``STEP/state`` (a pytree of arrays) and ``STEP/meta`` (JSON).

    Saving runs in the background; a save that was cut off is ignored and cleaned up by the next run.
    """

    def __init__(self, folder: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True)
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        with self._storage_faults():
            self._manager.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Saves ``state`` as ``step`` unless that step is already there."""
        if self.latest == step:
            return
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(dict(meta)))
        with self._storage_faults():
            self._manager.save(step, args=items)

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
        return self._manager.restore(step, args=ocp.args.Composite(state=restore))["state"]

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON facts stored beside the state of ``step``."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    @contextlib.contextmanager
    def _storage_faults(self) -> Iterator[None]:
        """Tells a fault of the disk in one line; tensorstore reports it as a ValueError that names the errno."""
        try:
            yield
        except (ValueError, OSError) as fault:
            code = re.search(r"os_error_code='(\d+)'", str(fault))
            number = int(code[1]) if code else getattr(fault, "errno", None)
            if number is None:
                raise
            whole = f"step {self.latest} is whole" if self.latest is not None else "no step is whole yet"
            raise UserError(
                f"{self._folder}: saving failed ({os.strerror(number)}); {whole}; make room there and start again"
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


def read_params(folder: Path, step: int | None = None) -> tuple[int, Any]:
    """Step and parameters (numpy) of a run's checkpoints; the newest complete step unless one is named.

    Raises:
        UserError: there is no checkpoint, or not that one.
    """
    folder = folder.resolve()
    steps = sorted(int(p.name) for p in folder.glob("*") if p.name.isdecimal()) if folder.is_dir() else []
    if not steps or (step is not None and step not in steps):
        there = f"it holds steps {', '.join(map(str, steps))}" if steps else "it holds none"
        raise UserError(f"{folder}: no checkpoint{'' if step is None else f' of step {step}'}; {there}")
    chosen = steps[-1] if step is None else step
    params = {"params": _stored_tree(folder, chosen)["params"]}
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), params)
    restore = ocp.args.PyTreeRestore(item=params, restore_args=arguments, partial_restore=True)
    with ocp.CheckpointManager(folder, item_handlers=_handlers()) as manager:
        tree = manager.restore(chosen, args=ocp.args.Composite(state=restore))["state"]["params"]
    return chosen, tree


def _stored_tree(folder: Path, step: int) -> Any:
    with ocp.CheckpointManager(folder, item_handlers=_handlers()) as manager:
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
