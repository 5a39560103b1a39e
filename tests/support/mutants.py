"""How checkpoint folders come to be damaged or hostile: each entry does one thing to a sound folder."""

import hashlib
import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from clinicclip.models import tensor_file

FILE, INDEX, CONFIG, META = "model.safetensors", "model.safetensors.index.json", "config.json", "clinicclip.json"
MARK = "run"  # what a pickle leaves behind where it is run
DEEP = "[" * 100_000
Mutation = Callable[[Path], object]


class Evil:
    """What a pickle may do to whoever opens it: here, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(name: str, content: str | bytes, folder: Path) -> None:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def at(name: str, key: str, value: Any, folder: Path) -> None:
    """Another value under a dotted key of a JSON file, or none at all for `...`."""

    def change(content: Any) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            content = content[parent]
        content.update({last: value}) if value is not ... else content.pop(last)

    edit(folder / name, change)


def sealed(mutation: Mutation, folder: Path) -> None:
    """The mutation, and an export's digests made to fit what it left."""
    mutation(folder)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.name != META}
    at(META, "files", digests, folder)


# ---------------------------------------------------------------- the bytes of a file of weights


def truncated(end: float, folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    put(FILE, content[: int(end * len(content)) if isinstance(end, float) else end], folder)


def header_length(length: int, folder: Path) -> None:
    put(FILE, length.to_bytes(8, "little") + (folder / FILE).read_bytes()[8:], folder)


def header(change: Callable[[str, dict], str], folder: Path) -> None:
    """Another header, made of the old one as text and of its first matrix that is not square."""
    content = (folder / FILE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].decode()
    matrices = {k: v for k, v in json.loads(text).items() if k != "__metadata__" and uneven(v["shape"])}
    key = min(key for key in matrices if "layer" in key)
    written = change(text, {"key": key, **matrices[key]}).encode()
    put(FILE, len(written).to_bytes(8, "little") + written + content[8 + length :], folder)


def uneven(shape: Any) -> bool:
    return len(shape) == 2 and shape[0] != shape[1]


def lie(facts: dict[str, Any], folder: Path) -> None:
    def change(text: str, old: dict) -> str:
        given = {name: fact(*old["shape"]) if callable(fact) else fact for name, fact in facts.items()}
        arrays = json.loads(text)
        return json.dumps(arrays | {old["key"]: arrays[old["key"]] | given})

    header(change, folder)


def twice(text: str, old: dict) -> str:
    said = json.dumps({old.pop("key"): old | {"shape": old["shape"][::-1]}})[1:-1]
    return text.rstrip()[:-1] + f", {said}" + "}"


# ---------------------------------------------------------------- the arrays in it


def arrays(change: Callable[[dict[str, np.ndarray], str], object], folder: Path, name: str = FILE) -> None:
    """Other arrays, with the metadata that were there; the second is the name of a matrix of a tower."""
    tensors = tensor_file.read(folder / name)
    with safe_open(folder / name, "np") as file:
        metadata = file.metadata()
    change(tensors, min((k for k, t in tensors.items() if "layer" in k and uneven(t.shape)), default=min(tensors)))
    tensor_file.write(folder / name, tensors, metadata=metadata)


ARRAYS = {
    **{f"as {kind}": lambda t, k, kind=kind: t.update({k: t[k].astype(kind)}) for kind in ("int64", "uint8", "bool")},
    **{f"of {v}": lambda t, k, v=v: t.update({k: np.full_like(t[k], v)}) for v in (math.nan, math.inf)},
    "transposed": lambda t, k: t.update({k: t[k].T.copy()}),
    "flat": lambda t, k: t.update({k: t[k].ravel()}),
    "empty": lambda t, k: t.update({k: t[k][:0]}),
    "missing": lambda t, k: t.pop(k),
    "extra": lambda t, k: t.update({f"{k}.lora_A": t[k]}),
    "renamed": lambda t, k: t.update({f"{k}_": t.pop(k)}),
    "ends like a constant": lambda t, k: t.update({f"{k}_position_ids": t.pop(k)}),
    "name escapes": lambda t, k: t.update({f"../../{k}": t.pop(k)}),
    "name is absolute": lambda t, k: t.update({f"/etc/{k}": t.pop(k)}),
    "name is of two lines": lambda t, k: t.update({f"{k}\n\x1b[31mx": t.pop(k)}),
    "name is nothing": lambda t, k: t.update({"": t.pop(k)}),
    "none at all": lambda t, k: t.clear(),
}


def metadata(change: Callable[[dict[str, str]], object], folder: Path) -> None:
    with safe_open(folder / FILE, "np") as file:
        said = dict(file.metadata())
    change(said)
    tensor_file.write(folder / FILE, tensor_file.read(folder / FILE), metadata=said)


def stated(term: str, value: Any, folder: Path) -> None:
    def change(said: dict[str, str]) -> None:
        terms = json.loads(said["clinicclip"])
        terms.update({term: value}) if value is not ... else terms.pop(term)
        said["clinicclip"] = json.dumps(terms)

    metadata(change, folder)


# ---------------------------------------------------------------- what takes the place of weights


def disguised(name: str, archived: bool, folder: Path) -> None:
    evil = pickle.dumps(Evil(folder / MARK))
    if archived:  # as torch has it
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("archive/data.pkl", evil)
        evil = archive.getvalue()
    (folder / FILE).unlink(missing_ok=True)
    put(name, evil, folder)


def shard_called(name: str, folder: Path) -> None:
    tensors = tensor_file.read(folder / FILE)
    (folder / FILE).rename(folder.parent / "sound.safetensors")
    put(INDEX, json.dumps({"weight_map": dict.fromkeys(tensors, name)}), folder)


def indexed(content: Any, folder: Path) -> None:
    """An index that is not true of its one shard; `stray` stands for what that holds."""
    held = dict.fromkeys(tensor_file.read(folder / FILE), "part.safetensors")
    (folder / FILE).rename(folder / "part.safetensors")
    put(INDEX, json.dumps(content(held) if callable(content) else content), folder)


ESCAPES = (
    "../sound.safetensors", "/etc/passwd", "a/../model.safetensors", "..\\x.safetensors", "", ".", "..", "x.py",
    "a\0.safetensors", f"{'x' * 5000}.safetensors", "file:///x.safetensors", "absent.safetensors",
)  # fmt: skip
OTHERS = {
    "a picture": b"\x89PNG\r\n",
    "a page": b"<!doctype html><title>404</title>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1",
}

# Of any file of weights.
WEIGHTS: dict[str, Mutation] = {
    **{f"truncated to {end}": partial(truncated, end) for end in (0, 1, 7, 8, 9, 0.1, 0.5, 0.99, -1)},
    **{f"a header of {n} bytes": partial(header_length, n) for n in (0, 1, 2**31, 2**62, 2**64 - 1)},
    **{
        f"offsets {o}": partial(lie, {"data_offsets": o})
        for o in ([0, 8], [-4, 0], [2**60, 2**61], [16, 4], ["0", "4"], [0], None)
    },
    "shape transposed": partial(lie, {"shape": lambda rows, columns: [columns, rows]}),
    "shape flat": partial(lie, {"shape": lambda rows, columns: [rows * columns]}),
    "shape of three axes": partial(lie, {"shape": lambda rows, columns: [rows, columns, 1]}),
    "shape too large": partial(lie, {"shape": [2**40, 2**40]}),
    "shape below 0": partial(lie, {"shape": lambda rows, columns: [-rows, -columns]}),
    "shape of words": partial(lie, {"shape": "ab"}),
    **{f"dtype {d!r}": partial(lie, {"dtype": d}) for d in ("I32", "F64", "F128", "F8_E4M3", "BOOL", "", 7)},
    "a name twice": partial(header, twice),
    "a header that is no JSON": partial(header, lambda text, old: "x" + text[1:]),
    "a header without end": partial(header, lambda text, old: DEEP),
    **{f"an array {name}": partial(arrays, change) for name, change in ARRAYS.items()},
    **{
        f"a pickle as {name}{' in an archive' * archived}": partial(disguised, name, archived)
        for name in (FILE, "pytorch_model.bin", "weights.pt", "weights.pth")
        for archived in (False, True)
    },
    **{f"a shard called {name[:30]!r}": partial(shard_called, name) for name in ESCAPES},
    **{f"an index of {content}": partial(indexed, content) for content in ([], {}, "text", None, 7)},
    **{f"shards are {content}": partial(indexed, {"weight_map": content}) for content in ([], {}, None, "text")},
    "an index names a stray": partial(indexed, lambda held: {"weight_map": held | {"stray": "part.safetensors"}}),
    "an index lacks a name": partial(indexed, lambda held: {"weight_map": dict(list(held.items())[1:])}),
    "an index of numbers": partial(indexed, lambda held: {"weight_map": dict.fromkeys(held, 7)}),
    **{f"{what} for weights": partial(put, FILE, content) for what, content in OTHERS.items()},
}
DAMAGED = {"a list": "[]", "half": "{", "null": "null", "a zero": "\0", "deep": DEEP, "no text": b"\xff\xfe\xff"}
# Of the configuration of a BERT, or of any other file of weights where that holds a key.
CONFIGS: dict[str, Mutation] = {
    **{f"a config that is {what}": partial(put, CONFIG, content) for what, content in DAMAGED.items()},
    **{
        f"a config of {content}": partial(put, CONFIG, json.dumps(content))
        for content in ({"model_type": "bert"}, {"model_type": "swin", "depths": 3}, {"model_type": 7},
                        {"model_type": "roberta"}, {"model_type": "vision-text-dual-encoder"})
    },
}  # fmt: skip
BERT_SIZES = (
    ("num_hidden_layers", 10**9), ("num_hidden_layers", 200), ("num_attention_heads", 0), ("num_attention_heads", 7),
    ("hidden_size", "768"), ("hidden_size", 10**30), ("vocab_size", -1), ("layer_norm_eps", "tiny"),
    ("layer_norm_eps", math.nan), ("hidden_dropout_prob", -1), ("intermediate_size", True), ("pad_token_id", 10**6),
)  # fmt: skip
BERT = {f"{key} {value}": partial(at, CONFIG, key, value) for key, value in BERT_SIZES}
