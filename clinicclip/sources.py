"""What a command line names as input: images in files, folders and lists, texts in a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from clinicclip.data.images import SUFFIXES
from clinicclip.errors import UserError

LIST = ".txt"  # ends the name of a list of image files, one a line, or of a file of texts


def image_files(words: Sequence[str]) -> list[Path]:
    """The files named: images as they stand, of a folder all below it by suffix, of a list its lines.

    What a list names is looked for beside it. Raises UserError for a folder or list without any image, for none at all,
    and for a name that could not be written down.
    """
    found: list[Path] = []
    for path in map(Path, words):
        if path.is_dir():
            here = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        elif path.suffix.lower() == LIST:
            here = [path.parent / line.strip() for line in _lines(path) if line.strip()]
        else:
            here = [path]
        if not here:
            raise UserError(f"{path}: names no image; expected files {' '.join(f'*{s}' for s in SUFFIXES)}")
        found += here
    if not found:
        raise UserError("no images: name files, folders, or lists of files (*.txt)")
    for name in map(str, found):
        if name != name.encode("utf-8", "replace").decode():  # no table or record could hold it
            raise UserError(f"{name!a}: its name is not in UTF-8; rename it")
    return found


def texts(path: Path) -> tuple[list[str], list[str]]:
    """Names and texts of a file: its lines, named by number, or of ``*.jsonl`` "text" and, where given, "id".

    Raises UserError naming the line that is otherwise, never its text.
    """
    lines = _lines(path)
    if path.suffix.lower() != ".jsonl":
        return [str(number) for number in range(1, len(lines) + 1)], lines
    names, found = [], []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError(f'{path} line {number}: expected {{"text": ...}}, with "id" if you like')
        names.append(str(row.get("id", number)))
        found.append(row["text"])
    return names, found


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8") from None
    if not content.strip():
        raise UserError(f"{path}: is empty; write one a line")
    lines = content.split("\n")
    return lines if lines[-1] else lines[:-1]
