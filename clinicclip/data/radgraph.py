"""RadGraph's JSON file as graphs by study, without ever holding the file in memory.

One pass notes where each entry lies; an entry is parsed when its study asks for it. Read are RadGraph 1.0
(``MIMIC-CXR_graphs.json``), RadGraph-XL, and what the ``radgraph`` package writes, with short or long labels.
"""

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from clinicclip.data import graphs
from clinicclip.data.schema import Drop, Graph, Sketch, Study
from clinicclip.errors import UserError

NAME = "radgraph"  # of these graphs in a record's `graph_by`
WINDOW = 1 << 20  # bytes read at a time
LONGEST = 1 << 24  # bytes of an entry; real ones have some thousands

_MIMIC = re.compile(r"(?:.*?/)??(?:p(?P<patient>\d+)/)?s(?P<study>\d+)(?:\.txt)?")
_SPACE = re.compile(r"[ \t\r\n]*")


class Key(NamedTuple):
    """Whose report an entry is about; `patient` is empty where its name does not say."""

    patient: str
    study: str


class Place(NamedTuple):
    """An entry's name and where its value lies, in bytes."""

    name: str
    start: int
    end: int


def key_of(name: str) -> Key:
    """Whose an entry is: ``p10/p10000032/s50414267.txt`` or ``s50414267`` is MIMIC-CXR's study 50414267, another
    name is itself a study's, without ``.txt``."""
    match = _MIMIC.fullmatch(name)
    return Key(match["patient"] or "", match["study"]) if match else Key("", name.removesuffix(".txt"))


class RadGraphFile:
    """The graphs of a RadGraph file by study. Holds some tens of bytes an entry.

    Raises UserError naming file and entry: no JSON object of graphs, cut short, or a study's second entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, int] = {}
        self._starts, self._ends = array("q"), array("q")
        for name, start, end in places(path):
            study = key_of(name).study
            if study in self._rows:
                raise UserError(f"{path}: entry {name}: study {study} has an entry already; remove one of the two")
            self._rows[study] = len(self._starts)
            self._starts.append(start)
            self._ends.append(end)
        if not self._rows:
            raise UserError(f"{path}: holds no graphs")

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        """The studies, as `key_of` names them."""
        return iter(self._rows)

    def graph(self, study: str) -> Graph | None:
        """The graph of a study, named as the release does or as the file's entry is; None when it has none.

        Raises UserError naming file and entry when the entry is no graph.
        """
        row = self._rows.get(key_of(study).study)
        if row is None:
            return None
        with self.path.open("rb") as file:
            file.seek(self._starts[row])
            content = file.read(self._ends[row] - self._starts[row])
        try:
            entry = json.loads(content)
        except ValueError:
            raise UserError(f"{self.path}: entry {study}: not JSON in UTF-8; fetch the file again") from None
        return graphs.parse(entry, f"{self.path}: entry {study}")


class Join:
    """Gives studies without a graph of their own the one a RadGraph file has of them."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"--radgraph={path}: no such file; give RadGraph's JSON, such as MIMIC-CXR_graphs.json")
        self._path = path

    def settings(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"radgraph": {"file": str(self._path.resolve()), "bytes": self._path.stat().st_size}}

    def __call__(self, items: Iterator[Study | Sketch | Drop]) -> Iterator[Study | Sketch | Drop]:
        """A Drop names each study of which there is no graph, and each graph of which there is no report.

        Raises UserError for a faulty file, or when none of its graphs is of a study that was read.
        """
        found, known, used = RadGraphFile(self._path), set[str](), 0
        for item in items:
            if isinstance(item, Drop):
                known.update([key_of(item.id).study] * (item.kind == "report"))
            elif isinstance(item, Study) and item.graph is None:
                graph, key = found.graph(item.study), key_of(item.study).study
                if graph is None and key not in known:
                    yield Drop("label", item.study, "graph_missing")
                known.add(key)
                used += graph is not None
                item = replace(item, graph=graph, graph_by=NAME if graph else "")
            yield item
        yield from (Drop("label", study, "graph_without_report") for study in found if study not in known)
        if not used:
            raise UserError(
                f"{self._path}: none of its {len(found):,} graphs is of a study that was read; its entries must be "
                "named as the studies are, or p10/p10000032/s50414267.txt"
            )


def places(path: Path) -> Iterator[Place]:
    """Every entry of the file, in order.

    Raises UserError naming file and entry when it is not a JSON object of {"text", "entities"}, or is cut short.
    """
    with path.open("rb") as file:
        window = _Window(file, path)
        window.take("{", "its beginning")
        name, separator = "", "" if window.peek() == "}" else ","
        while separator == ",":
            name = _name(window, f"what follows entry {name}" if name else "its first entry")
            window.take(":", f"entry {name}")
            start, end, value = window.value(f"entry {name}")
            if not isinstance(value, dict) or not {"text", "entities"} <= value.keys():
                raise UserError(f'{path}: entry {name}: not a graph {{"text": ..., "entities": {{...}}}}')
            yield Place(name, start, end)
            separator = window.take(",}", f"what follows entry {name}")


def _name(window: "_Window", where: str) -> str:
    start, end, value = window.value(where)
    try:
        name = json.loads(window.content(start, end)) if isinstance(value, str) else None
    except UnicodeDecodeError:
        name = None
    if name is None:
        raise window.fault(where)
    return str(name)


class _Window:
    """Reads JSON values one after the other, keeping only what is around the current one.

    Bytes are decoded one to one (Latin-1), so that places in the text are places in the file; JSON's own signs
    are the same in UTF-8.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self._file, self._text, self._base, self._at = file, "", 0, 0
        self._decode = json.JSONDecoder().raw_decode
        self._grow()
        if self._text.startswith("\x1f\x8b"):
            raise UserError(f"{path}: is compressed; unpack it with gunzip first")
        self._at = 3 if self._text.startswith("\xef\xbb\xbf") else 0

    def peek(self) -> str:
        """The next sign that is not space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, signs: str, where: str) -> str:
        """Steps over the next sign, which must be one of `signs`."""
        sign = self.peek()
        if not sign or sign not in signs:
            raise self.fault(where)
        self._at += 1
        return sign

    def value(self, where: str) -> tuple[int, int, Any]:
        """Where the next value starts and ends in the file, and the value (its text not yet decoded from UTF-8)."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except (json.JSONDecodeError, RecursionError):
                if len(self._text) - self._at > LONGEST or not self._grow():
                    raise self.fault(where) from None
            else:
                start, self._at = self._at, end
                return self._base + start, self._base + end, value

    def content(self, start: int, end: int) -> bytes:
        """The bytes of the value just read."""
        return self._text[start - self._base : end - self._base].encode("latin-1")

    def fault(self, where: str) -> UserError:
        """The one line that says where the file is not what it should be."""
        return UserError(f"{self.path}: {where} is cut short or not RadGraph's JSON; fetch the file again")

    def _grow(self) -> bool:
        """Lets go of what was read and reads on; False at the end of the file."""
        more = self._file.read(WINDOW).decode("latin-1")
        self._text, self._base, self._at = self._text[self._at :] + more, self._base + self._at, 0
        return bool(more)
