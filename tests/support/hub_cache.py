"""A hub's cache as its own client leaves it."""

from pathlib import Path

COMMIT = "0" * 40


def snapshot(cache: Path, name: str) -> Path:
    """The place, not yet there, for the files of a repository at its main revision."""
    entry = cache / f"models--{name.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text(COMMIT)
    return entry / "snapshots" / COMMIT
