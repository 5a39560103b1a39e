"""Hundreds of damaged or hostile checkpoint folders: each is refused in one line, and nothing in one is ever run."""

import hashlib
from pathlib import Path

import foreign
import micro_export
import numpy as np
import pytest
from mutant_exports import EXPORTS
from mutants import BERT, CONFIGS, FILE, MARK, WEIGHTS, Mutation

from clinicclip import ClinicCLIP, importing
from clinicclip.errors import UserError
from clinicclip.models import tensor_file

LOADERS = {
    "text": importing.load_text_tower,
    "image": importing.load_image_tower,
    "whole": importing.load_model,
    "state": importing.load_model,
    "export": ClinicCLIP.from_pretrained,
}
FOREIGN = ("text", "image", "whole", "state")
# What is the same for all forms is done to each in turn.
CASES: dict[str, tuple[str, Mutation]] = {
    **{f"{(k := FOREIGN[n % 4])}: {name}": (k, change) for n, (name, change) in enumerate((WEIGHTS | CONFIGS).items())},
    **{f"text: {name}": ("text", change) for name, change in BERT.items()},
    **{f"export: {name}": ("export", change) for name, change in EXPORTS.items()},
}
seen: dict[str, str] = {}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of a BERT, a Swin, a whole model, a script's state and an export, all of them sound."""
    folder, params = tmp_path_factory.mktemp("sound"), foreign.random_params(foreign.MICRO)
    foreign.write_tower(folder / "text", params, foreign.MICRO, "text")
    foreign.write_tower(folder / "image", params, foreign.MICRO, "image", "open_clip")
    foreign.write_whole(folder / "whole", params, foreign.MICRO, "transformers")
    foreign.write_script(folder / "state", params, foreign.MICRO)
    (folder / "state" / "epoch_10.safetensors").rename(folder / "state" / FILE)
    micro_export.write(folder / "export")
    for kind, load in LOADERS.items():
        load(folder / kind)
    return {p.name: {f.name: f.read_bytes() for f in p.iterdir() if f.is_file()} for p in folder.iterdir()}


@pytest.mark.parametrize("case", CASES)
def test_a_mutant_is_refused_in_one_line_and_is_not_run(sources, case, tmp_path):
    kind, mutate = CASES[case]
    folder = tmp_path / kind
    folder.mkdir()
    for name, content in sources[kind].items():
        (folder / name).write_bytes(content)
    mutate(folder)
    digest = hashlib.sha256(kind.encode())
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    assert seen.setdefault(digest.hexdigest(), case) == case  # no two are alike, nor like the sound one
    with pytest.raises(UserError) as told:
        LOADERS[kind](folder)
    said = str(told.value)
    assert str(folder) in said and "\n" not in said and len(said) < 2000
    assert not list(tmp_path.rglob(MARK))


def test_there_are_hundreds_of_them():
    assert len(CASES) > 300 and sum(kind == "export" for kind, _ in CASES.values()) > 200


def test_a_number_in_a_name_sizes_nothing(tmp_path: Path) -> None:
    for number in (999_999_999, 10**30):
        array = np.zeros((2, 2), np.float32)
        tensor_file.write(
            tmp_path / FILE, {"patch_embed.proj.weight": array, f"layers.{number}.blocks.0.norm1.weight": array}
        )
        with pytest.raises(UserError):
            importing.load_image_tower(tmp_path)
