"""Faults planted in fakes of every release, and whether `prepare` tells them: by name in its account, or in a line."""

import contextlib
import functools
import io
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import dicoms
import numpy as np
import pydicom
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from planting import NOBODY, Plant, cells, put, raw, tail, write

from clinicclip import cli, prepare
from clinicclip.data import records
from clinicclip.data.manifest import DROPPED, read_manifest

DICOM = (".dcm", ".dicom")


class Sheet(NamedTuple):
    """A table of a fake; ``coded`` are columns with a value that none of them may have."""

    path: str
    id: str
    coded: Mapping[str, str]
    needed: bool = True  # whether the release cannot be read without it
    listed: bool = True  # whether a row that is lost, or names something else, is noticed: another list has it, too
    repeats: bool = False  # whether a row may be there twice
    columns: tuple[str, ...] = ()  # others than the id that have to be there


class Fake(NamedTuple):
    """A release in small, and what can be wrong with it."""

    make: Callable[[Path], Path]
    sheets: tuple[Sheet, ...] = ()
    folder: str = ""  # where to put an image that no table names; "" = not noticed
    options: tuple[str, ...] = ()  # of `prepare`; {root} stands for the folder of the fake
    special: Mapping[str, Plant] = {}


class Fault(NamedTuple):
    """Something to plant in the fake of a reader."""

    reader: str
    kind: str
    plant: Plant


class Told(NamedTuple):
    """How `prepare` ended: stopped, dropped or flagged something by name; silent, unnamed, or with a traceback."""

    how: str
    words: str

    @property
    def handled(self) -> bool:
        """Whether a person learns of the fault."""
        return self.how in ("stopped", "dropped", "flagged")


class Account(NamedTuple):
    """What a run says it left out and marked."""

    code: int
    words: str
    drops: Counter[tuple[str, str]]  # (id, reason)
    flags: Counter[tuple[str, str]]  # (image, flag)


def grid(name: str, fake: Fake, images: Sequence[Path]) -> Iterator[Fault]:
    """Every fault that fits a fake whose used ``images`` (paths below its folder) are these."""
    for sheet in fake.sheets:
        table = Path(sheet.path).name.removesuffix(".gz")
        for kind, plant in _of_table(sheet):
            yield Fault(name, f"{kind} ({table})", plant)
    for kind, damage in IMAGES.items():
        yield Fault(name, kind, _of_image(damage, images))
    if fake.folder:
        yield Fault(name, "image without row", _extra(fake.folder, images))
    for kind, plant in fake.special.items():
        yield Fault(name, kind, plant)


def judge(fault: Fault, fake: Fake, folder: Path, seed: int, clean: Account) -> Told:
    """Plants the fault in a fresh fake below ``folder``, prepares it, and compares with the ``clean`` account."""
    root = fake.make(folder / "in")
    names = fault.plant(root, random.Random(f"{seed} {fault.reader} {fault.kind}"))
    try:
        found = account(fault.reader, fake, root, folder / "out")
    except Exception as error:
        return Told("traceback", f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder)
    if found.code:
        whole = found.code == 1 and found.words.startswith("error: ") and found.words.count("\n") == 1
        return Told("stopped" if whole and _named(names, found.words) else "unnamed", found.words)
    told = {"dropped": found.drops - clean.drops, "flagged": found.flags - clean.flags}
    for how, new in told.items():
        if any(_named(names, identity) for identity, _ in new):
            return Told(how, str(dict(new)))
    return Told("unnamed" if any(told.values()) else "silent", str(told))


def _named(names: Sequence[str], told: str) -> bool:
    """Whether one of the names is told, as a word of its own."""
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", told) for name in names)


def account(reader: str, fake: Fake, root: Path, output: Path) -> Account:
    """What preparing the fake in ``root`` says."""
    argv = [reader, f"--source={root}", f"--output={output}", "--shorter_side=16"]
    argv += [option.format(root=root) for option in fake.options]
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = cli.call(prepare.main, prepare.parser(), argv)
    if code:
        return Account(code, errors.getvalue(), Counter(), Counter())
    lines = [json.loads(line) for line in (output / DROPPED).read_text().splitlines()]
    drops = Counter((line["id"], line["reason"]) for line in lines)
    return Account(code, "", drops, _flags(output))


def _flags(output: Path) -> Counter[tuple[str, str]]:
    """The flags of every record, which the manifest has to count."""
    manifest, found = read_manifest(output), Counter[tuple[str, str]]()
    for shard in output.glob(f"{manifest['folder']}/*.array_record*"):
        made = map(records.restore, ArrayRecordReader(str(shard)).read_all())
        found.update((record["image_id"], flag) for record in made for flag in record["image_flags"])
    assert Counter(flag for _, flag in found.elements()) == manifest["image_flags"]
    return found


def _of_table(sheet: Sheet) -> Iterator[tuple[str, Plant]]:
    """The kinds of faults of any table."""
    name = Path(sheet.path).name.removesuffix(".gz")

    def edited(change: Callable[[list[list[str]], int, int], str]) -> Plant:
        """A fault in a row (counted with the header) and the column of ids; told is what it returns, or the file."""

        def plant(root: Path, chance: random.Random) -> Sequence[str]:
            table = cells(root, sheet.path)
            column = [word.strip() for word in table[0]].index(sheet.id)
            told = change(table, chance.randrange(1, len(table)), column)
            write(root, sheet.path, table)
            return (name, *[told, NOBODY] * bool(told))

        return plant

    def spoilt(change: Callable[[bytes, int], bytes]) -> Plant:
        """A fault in the bytes, at a place behind the header."""

        def plant(root: Path, chance: random.Random) -> Sequence[str]:
            content = raw(root, sheet.path)
            write(root, sheet.path, change(content, chance.randrange(content.index(b"\n") + 1, len(content) - 1)))
            return (name,)

        return plant

    if sheet.needed:
        yield "table missing", _removed(sheet.path, name)
    yield "table empty", spoilt(lambda content, at: b"")
    yield "table without rows", spoilt(lambda content, at: content[: content.index(b"\n") + 1])
    yield "table not UTF-8", spoilt(lambda content, at: content[:at] + b"\xff\xfe" + content[at:])
    yield "table with zeros", spoilt(lambda content, at: content[:at] + bytes(64) + content[at:])
    yield "table cut short", spoilt(lambda content, at: content[: content.index(b",", content[:-2].rindex(b"\n"))])
    yield "quote left open", spoilt(lambda content, at: content[: content.index(b"\n", 0) + 1] + b'"' + content[at:])
    if sheet.path.endswith(".gz"):
        yield "gzip cut short", _gzip(sheet.path, lambda content: content[: len(content) // 2])
        yield "gzip flipped", _gzip(sheet.path, lambda content: content[:30] + b"\xff\xff\xff" + content[33:])
    yield "column missing", edited(lambda table, row, at: table[0].__setitem__(at, "other") or sheet.id)
    for column in sheet.columns:
        yield f"column {column} missing", edited(functools.partial(_without, column=column))
    yield "column twice", edited(lambda table, row, at: _twice(table, at))
    if not sheet.repeats:
        yield "row twice", edited(lambda table, row, at: table.append(table[row]) or table[row][at])
    yield "row short", edited(lambda table, row, at: table[row].pop())
    yield "row long", edited(lambda table, row, at: table[row].append("1") or "")
    if sheet.listed:
        yield "row lost", edited(lambda table, row, at: _lost(table, row, at))
        yield "id blank", edited(lambda table, row, at: _renamed(table, row, at, ""))
        yield "id of nobody", edited(lambda table, row, at: _renamed(table, row, at, NOBODY))
    for column, value in sheet.coded.items():
        yield f"bad {column}", put(sheet.path, value, column, name=sheet.id)


def _twice(table: list[list[str]], at: int) -> str:
    for row in table:
        row.append(row[at])
    return table[0][at]


def _without(table: list[list[str]], row: int, at: int, *, column: str) -> str:
    lost = [word.strip() for word in table[0]].index(column)
    table[:] = [[*cells[:lost], *cells[lost + 1 :]] for cells in table]
    return column


def _lost(table: list[list[str]], row: int, at: int) -> str:
    told = table[row][at]
    table[:] = [table[0], *(other for other in table[1:] if other[at] != told)]
    return tail(told)


def _renamed(table: list[list[str]], row: int, at: int, name: str) -> str:
    told, table[row][at] = table[row][at], name
    return tail(told)


def _removed(path: str, name: str) -> Plant:
    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).unlink()
        return (name,)

    return plant


def _gzip(path: str, change: Callable[[bytes], bytes]) -> Plant:
    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        (root / path).write_bytes(change((root / path).read_bytes()))
        return (Path(path).name.removesuffix(".gz"),)

    return plant


def _constant(path: Path) -> None:
    if path.suffix in DICOM:
        path.write_bytes(dicoms.content(dicoms.dataset(np.full((40, 48), 9, np.uint8))))
    else:
        Image.fromarray(np.full((40, 48), 9, np.uint8)).save(path)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def spoilt(stream: bytes, spoil: Callable[[bytes], bytes]) -> bytes:
    """A JPEG or PNG with the middle third of its coded pixels damaged."""
    start = max(stream.find(word) + len(word) for word in (b"\xff\xda", b"IDAT"))
    third = (len(stream) - start) // 3
    return stream[: start + third] + spoil(stream[start + third : -third]) + stream[-third:]


def _inside(path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Damages pixels, of DICOM as JPEG: what is stored plain may have any value."""
    if path.suffix in DICOM:
        made = pydicom.dcmread(path)
        syntax, _, _, encode = dicoms.SYNTAXES["jpeg_baseline"]
        frame = spoilt(encode(made.pixel_array, made.BitsStored), spoil)
        path.write_bytes(dicoms.content(dicoms.compress(made, syntax, frame)))
    else:
        path.write_bytes(spoilt(path.read_bytes(), spoil))


INSIDE: Mapping[str, Callable[[bytes], bytes]] = {
    "zeros": lambda coded: bytes(len(coded)),
    "bytes lost": lambda coded: coded[: len(coded) // 2],
    "noise": lambda coded: random.Random(0).randbytes(len(coded)),
}
IMAGES: Mapping[str, Callable[[Path], object]] = {
    "image missing": Path.unlink,
    "image empty": lambda path: path.write_bytes(b""),
    "image cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "image a few bytes short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "image a web page": lambda path: path.write_text("<!DOCTYPE html><title>Sign in</title>"),
    "image without picture": _constant,
    "image a folder": _as_folder,
    **{f"image with {kind} inside": functools.partial(_inside, spoil=spoil) for kind, spoil in INSIDE.items()},
}


def _of_image(damage: Callable[[Path], object], images: Sequence[Path]) -> Plant:
    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        path = root / chance.choice(images)
        damage(path)
        return (path.stem, "/".join(path.parts[-4:]))

    return plant


def _extra(folder: str, images: Sequence[Path]) -> Plant:
    def plant(root: Path, chance: random.Random) -> Sequence[str]:
        path = root / folder / f"CXR9999_IM-9999-9999{images[0].suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / chance.choice(images), path)
        return (path.stem,)

    return plant
