"""A hundred damaged or hostile checkpoint folders: each is refused in one line, and nothing in one is ever run."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import foreign
import numpy as np
import pytest

from clinicclip import importing
from clinicclip.errors import UserError
from clinicclip.models import tensor_file

MUTANTS = 100
FILE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
Mutation = Callable[[Path, np.random.Generator], None]


class Evil:
    """What a pickle may do to whoever opens it: here, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of a BERT, a Swin, a whole model and a script's state, all of them sound."""
    folder, params = tmp_path_factory.mktemp("sound"), foreign.random_params(foreign.MICRO)
    foreign.write_tower(folder / "text", params, foreign.MICRO, "text")
    foreign.write_tower(folder / "image", params, foreign.MICRO, "image", "open_clip")
    foreign.write_whole(folder / "whole", params, foreign.MICRO, "transformers")
    foreign.write_script(folder / "state", params, foreign.MICRO)
    (folder / "state" / "epoch_10.safetensors").rename(folder / "state" / FILE)
    for kind, load in LOADERS.items():
        load(folder / kind)
    return {p.name: {f.name: f.read_bytes() for f in p.iterdir() if f.is_file()} for p in folder.iterdir()}


LOADERS = {
    "text": importing.load_text_tower,
    "image": importing.load_image_tower,
    "whole": importing.load_model,
    "state": importing.load_model,
}


def truncated(folder: Path, rng: np.random.Generator) -> None:
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: int(rng.integers(0, len(content)))])


def absurd_header(folder: Path, rng: np.random.Generator) -> None:
    content, length = (folder / FILE).read_bytes(), [0, 1, 2**31, 2**62, 2**64 - 1][int(rng.integers(5))]
    (folder / FILE).write_bytes(length.to_bytes(8, "little") + content[8:])


def edit_header(folder: Path, change: Callable[[dict], None]) -> None:
    content = (folder / FILE).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change({k: v for k, v in header.items() if k != "__metadata__"})
    written = json.dumps(header).encode()
    (folder / FILE).write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])


def big(arrays: dict, rng: np.random.Generator) -> dict:
    """One array with two different axes."""
    fitting = [facts for facts in arrays.values() if len(facts["shape"]) == 2 and len(set(facts["shape"])) == 2]
    return fitting[int(rng.integers(len(fitting)))]


def lying_offsets(folder: Path, rng: np.random.Generator) -> None:
    lie = [[0, 8], [-4, 0], [2**60, 2**61], [16, 4], ["0", "4"]][int(rng.integers(5))]
    edit_header(folder, lambda arrays: big(arrays, rng).update(data_offsets=lie))


def lying_shape(folder: Path, rng: np.random.Generator) -> None:
    kind = int(rng.integers(4))

    def change(arrays: dict) -> None:
        facts = big(arrays, rng)
        rows, columns = facts["shape"]
        facts["shape"] = [[columns, rows], [rows * columns], [rows, columns, 1], [2**40, 2**40]][kind]

    edit_header(folder, change)


def lying_dtype(folder: Path, rng: np.random.Generator) -> None:
    dtype = str(rng.choice(["I32", "U32", "F64", "F128", "F8_E4M3", "BOOL", ""]))
    edit_header(folder, lambda arrays: big(arrays, rng).update(dtype=dtype))


def arrays_changed(
    folder: Path, change: Callable[[dict[str, np.ndarray], str], None], rng: np.random.Generator
) -> None:
    tensors = tensor_file.read(folder / FILE)
    # of a tower: a projection may bear any name
    matrices = [k for k, t in tensors.items() if "layer" in k and t.ndim == 2 and len(set(t.shape)) == 2]
    change(tensors, matrices[int(rng.integers(len(matrices)))])
    tensor_file.write(folder / FILE, tensors)


def wrong_dtype(folder: Path, rng: np.random.Generator) -> None:
    dtype = str(rng.choice(["int64", "uint8", "bool"]))
    arrays_changed(folder, lambda tensors, key: tensors.update({key: tensors[key].astype(dtype)}), rng)


def swapped_shape(folder: Path, rng: np.random.Generator) -> None:
    arrays_changed(folder, lambda tensors, key: tensors.update({key: tensors[key].T.copy()}), rng)


def missing_key(folder: Path, rng: np.random.Generator) -> None:
    arrays_changed(folder, lambda tensors, key: tensors.pop(key), rng)


def extra_key(folder: Path, rng: np.random.Generator) -> None:
    arrays_changed(folder, lambda tensors, key: tensors.update({f"{key}.lora_A": tensors[key]}), rng)


def renamed_key(folder: Path, rng: np.random.Generator) -> None:
    arrays_changed(folder, lambda tensors, key: tensors.update({f"{key}_": tensors.pop(key)}), rng)


def not_finite(folder: Path, rng: np.random.Generator) -> None:
    value = rng.choice([np.nan, np.inf])
    arrays_changed(folder, lambda tensors, key: tensors.update({key: np.full_like(tensors[key], value)}), rng)


def disguised_pickle(folder: Path, rng: np.random.Generator) -> None:
    evil = pickle.dumps(Evil(folder / "run"))
    if rng.integers(2):  # as torch has it, in an archive
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("archive/data.pkl", evil)
        evil = archive.getvalue()
    (folder / FILE).unlink()
    (folder / str(rng.choice([FILE, "pytorch_model.bin", "weights.pt"]))).write_bytes(evil)


def escaping_index(folder: Path, rng: np.random.Generator) -> None:
    tensors = list(tensor_file.read(folder / FILE))
    name = str(
        rng.choice(["../sound.safetensors", "/etc/passwd", "a/../model.safetensors", "..\\x.safetensors", "", "x.py"])
    )
    (folder / FILE).rename(folder.parent / "sound.safetensors")
    foreign.write_json(folder / INDEX, {"weight_map": dict.fromkeys(tensors, name)})


def false_index(folder: Path, rng: np.random.Generator) -> None:
    tensors = dict.fromkeys(tensor_file.read(folder / FILE), "part.safetensors")
    (folder / FILE).rename(folder / "part.safetensors")
    stray = {"stray": "part.safetensors"}
    content = [[], {}, {"weight_map": []}, {"weight_map": tensors | stray}, {"weight_map": {}}, "text", None]
    foreign.write_json(folder / INDEX, content[int(rng.integers(len(content)))])


def other_format(folder: Path, rng: np.random.Generator) -> None:
    content = [b"", b"\x89PNG\r\n", b"<!doctype html><title>404</title>", b"version https://git-lfs.github.com/spec/v1"]
    (folder / FILE).write_bytes(content[int(rng.integers(len(content)))])


def false_config(folder: Path, rng: np.random.Generator) -> None:
    wrong = {"model_type": "gpt2"}, {"model_type": "bert"}, {"model_type": "swin", "depths": 3}, {"model_type": 7}
    content = ["[]", "{", "null", "\x00", "[" * 100_000, *map(json.dumps, wrong)]
    (folder / CONFIG).write_text(content[int(rng.integers(len(content)))])


MUTATIONS: tuple[Mutation, ...] = (
    truncated, absurd_header, lying_offsets, lying_shape, lying_dtype, wrong_dtype, swapped_shape, missing_key,
    extra_key, renamed_key, not_finite, disguised_pickle, escaping_index, false_index, other_format, false_config,
)  # fmt: skip


def test_a_hundred_mutants_are_refused_in_one_line_and_none_is_run(sources, tmp_path):
    survivors = []
    for number in range(MUTANTS):
        rng, kind = np.random.default_rng(number), list(LOADERS)[number % len(LOADERS)]
        mutation = MUTATIONS[number // len(LOADERS) % len(MUTATIONS)]
        folder = tmp_path / str(number) / kind
        folder.mkdir(parents=True)
        for name, content in sources[kind].items():
            (folder / name).write_bytes(content)
        mutation(folder, rng)
        try:
            LOADERS[kind](folder)
        except UserError as told:
            if "\n" not in str(told) and str(folder.parent) in str(told):
                continue
        survivors.append(f"{number}: {mutation.__name__} of {kind}")
        assert not (folder / "run").exists()
    assert not survivors
    assert not list(tmp_path.rglob("run"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**9), ("num_attention_heads", 0), ("hidden_size", "768"), ("vocab_size", -1),
     ("hidden_size", 10**30), ("num_attention_heads", 7), ("layer_norm_eps", "tiny"), ("intermediate_size", True)],
)  # fmt: skip
def test_sizes_no_model_can_have_are_refused(sources, key, value, tmp_path):
    (tmp_path / FILE).write_bytes(sources["text"][FILE])
    foreign.write_json(tmp_path / CONFIG, json.loads(sources["text"][CONFIG]) | {key: value})
    with pytest.raises(UserError) as told:
        importing.load_text_tower(tmp_path)
    assert "\n" not in str(told.value)


def test_a_number_in_a_name_sizes_nothing(tmp_path: Path) -> None:
    for number in (999_999_999, 10**30):
        array = np.zeros((2, 2), np.float32)
        tensor_file.write(
            tmp_path / FILE, {"patch_embed.proj.weight": array, f"layers.{number}.blocks.0.norm1.weight": array}
        )
        with pytest.raises(UserError):
            importing.load_image_tower(tmp_path)
