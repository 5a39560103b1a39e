"""Finding, reading, overriding and storing the configuration of a run.

A configuration is a Python file with ``get_config(arg)`` that returns an ``ml_collections.ConfigDict``; it is named
``FILE`` or ``FILE:ARG`` on the command line. Every key is written out in the file, so an override with an unknown
key or another type is an error.
"""

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import clinicclip
from clinicclip import files
from clinicclip.errors import UsageError, UserError, a, nearest


def load(name: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The configuration ``FILE[:ARG]`` with ``KEY=VALUE`` overrides applied. Raises UsageError."""
    file, _, arg = name.partition(":")
    path = _find(Path(file))
    config = _get_config(path)(arg)
    for key, value in overrides:
        _override(config, key, value)
    return config


def default_workdir(name: str) -> Path:
    """``runs/<config name>[-<arg>]``."""
    file, _, arg = name.partition(":")
    stem = Path(file).stem
    return Path("runs") / (f"{stem}-{arg}".replace(",", "-").replace("=", "_").replace("/", "_") if arg else stem)


def save(config: ConfigDict, path: Path) -> None:
    """Writes the resolved configuration as JSON."""
    files.write_whole(path, json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")


def restore(path: Path) -> ConfigDict:
    """Reads a stored configuration; lists become tuples as in the config files. Raises UserError."""
    try:
        return ConfigDict(_tuples(files.read_json(path, ())))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; a run's folder holds config.json, is {path.parent} one?") from None


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """The dotted keys whose values differ between two configurations."""
    before, after = dict(leaves(old)), dict(leaves(new))
    return sorted(k for k in before.keys() | after.keys() if before.get(k, ...) != after.get(k, ...))


def _find(path: Path) -> Path:
    if path.is_absolute():
        candidates = [path]
    else:
        candidates = [Path.cwd() / path, Path(clinicclip.__file__).resolve().parents[1] / path]
    for candidate in candidates:
        if candidate.is_file() and candidate.suffix == ".py":
            return candidate
    folders = {c.parent for c in candidates} | {Path(clinicclip.__file__).resolve().parents[1] / "configs"}
    known = {p.stem for folder in folders for p in folder.glob("*.py") if p.stem != "common"}
    hint = re.sub(r"mean (\w+)", r"mean configs/\1.py", nearest(path.stem, known))
    raise UsageError(f"no config file {path}{hint}")


def _get_config(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"clinicclip_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A config file imports `configs.common` from the checkout it belongs to.
    sys.path.insert(0, str(path.resolve().parents[1]))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not hasattr(module, "get_config"):
        raise UsageError(f"{path} has no get_config(arg)")
    return module.get_config


def _override(config: ConfigDict, key: str, text: str) -> None:
    *parents, leaf = key.split(".")
    node = config
    for depth, name in enumerate([*parents, leaf]):
        if not isinstance(node, ConfigDict) or name not in node:
            known = [".".join(k.split(".")[: depth + 1]) for k, _ in leaves(config)]
            known += [k for k, _ in leaves(config)]
            raise UsageError(f"unknown config key {key}{nearest(key, known)}")
        if depth < len(parents):
            node = node[name]
    node[leaf] = _typed(key, text, node[leaf])


def _typed(key: str, text: str, default: Any) -> Any:
    if isinstance(default, ConfigDict):
        raise UsageError(f"config key {key} is a group; set one of {', '.join(default)}")
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text.capitalize() if text in ("true", "false") else text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        value = tuple(value)
    if type(value) is not type(default):
        raise UsageError(f"config key {key} takes {a(type(default).__name__)} such as {default!r}, not {text!r}")
    return value


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key that holds a value, with it."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
