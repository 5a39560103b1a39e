"""The arrows between rooms go one way, and heavy libraries stay out of the rooms that must do without them."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clinicclip"
PROGRAMS = {
    "train",
    "evaluate",
    "export",
    "finetune",
    "prepare",
    "doctor",
    "annotate",
    "frozen",
    "reading",
    "labeller",
    "plan",
    "expected",
    "reproduce",
    "runs",
    "scoring",
    "explain",
    "preflight",
    "devices",
    "api",
    "embed",
    "predict",
    "push",
    "sources",
    "towers",
    "vectors",
    "assemble",
    "inputs",
    "skipped",
    "starting",
    "config",
    "cli",
    "__main__",
}
# room -> the rooms of this package it may import; every room may import itself and `errors`
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "losses": set(),
    "training": {"models", "losses"},
    "evals": {"data"},
    "checks": {"data", "losses"},
    "guests": set(),
    "exporting": {"models", "data", "guests"},
    "importing": {"models", "exporting"},
}
MAY_NOT_USE = {
    "data": {"jax", "flax", "optax", "ml_collections", "tensorflow", "torch"},
    "models": {"ml_collections", "tensorflow", "torch"},
    "losses": {"ml_collections", "flax", "tensorflow", "torch"},
    "training": {"ml_collections", "tensorflow", "torch"},
    "evals": {"jax", "flax", "ml_collections", "tensorflow", "torch"},
    "checks": {"flax", "ml_collections", "tensorflow", "torch"},
    "guests": {"jax", "flax", "ml_collections", "tensorflow", "torch", "transformers", "open_clip"},
    "importing": {"jax", "ml_collections", "tensorflow"},
}


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_the_rooms_below_them(room: str) -> None:
    rooms = {"data", "models", "losses", "training", "evals", "checks", "guests", "exporting", "importing"} | PROGRAMS
    faults = []
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            inside = parts[0] == "clinicclip" and len(parts) > 1 and parts[1] in rooms
            if inside and parts[1] not in MAY_IMPORT[room] | {room}:
                faults.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not faults


@pytest.mark.parametrize("room", sorted(MAY_NOT_USE))
def test_rooms_do_without_libraries_that_are_not_theirs(room: str) -> None:
    faults = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] in MAY_NOT_USE[room]
    ]
    assert not faults


def test_nothing_is_unpickled_or_evaluated_and_no_weights_load_leniently() -> None:
    text = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    banned = ("pickle.load", "Unpickler", "allow_pickle=True", "weights_only=False", "load_state_dict(")
    assert not [f"{path.name}: {word}" for path, content in text.items() for word in banned if word in content]
    assert not [path.name for path, content in text.items() if re.search(r"(?<![\w.])(eval|exec)\(", content)]
