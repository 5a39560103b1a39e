"""What weights were trained to be given travels with them: another folder's word is refused, the first fault named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import micro_export
import numpy as np
import pytest
from safetensors import safe_open

from clinicclip import ClinicCLIP, cli, doctor, files, predict
from clinicclip.data import images
from clinicclip.data.tokenizer import train_wordpiece
from clinicclip.errors import UserError
from clinicclip.exporting import contract, load_export, parity
from clinicclip.models import tensor_file


@pytest.fixture
def folder(micro_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(micro_folder, tmp_path / "copy")


def edited(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def other_tokenizer(folder: Path) -> None:
    words = micro_export.TOKENIZER.vocabulary
    train_wordpiece(parity.TEXTS, 150).__class__((*words[:-2], words[-1], words[-2])).save(folder, micro_export.LENGTH)


CHANGES = {
    "image size 32 in training, 64": lambda f: edited(
        f, "clinicclip.json", lambda c: c["spec"]["image"].update(image_size=64)
    ),
    "mean of the images": lambda f: edited(
        f, "preprocessor_config.json", lambda c: c.update(image_mean=[0.5, 0.5, 0.5])
    ),
    "standard deviation": lambda f: edited(
        f, "preprocessor_config.json", lambda c: c.update(image_std=[0.5, 0.5, 0.5])
    ),
    "tokenizer": other_tokenizer,
    "text length 40 in training, 30": lambda f: edited(f, "clinicclip.json", lambda c: c.update(text_length=30)),
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("clinicclip.json", "[]"),
        ("clinicclip.json", None),
        ("clinicclip.json", "[" * 100_000),
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"model": 1}'),
    ],
)
def test_a_damaged_export_is_refused_in_one_line(folder: Path, name: str, content: str | None) -> None:
    if content is None:
        edited(folder, name, lambda meta: meta.pop("files"))
    else:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=name):
        load_export(folder)


@pytest.mark.parametrize("said", sorted(CHANGES))
def test_settings_other_than_those_of_the_training_are_refused_unless_forced(folder: Path, said: str) -> None:
    CHANGES[said](folder)
    with pytest.raises(UserError, match=f"not as its weights were trained .*{said}") as caught:
        load_export(folder)
    assert "force" in str(caught.value)
    assert load_export(folder, force=True).spec.dim == 10


@pytest.fixture(scope="module")
def own_texts(micro_folder: Path) -> np.ndarray:
    return ClinicCLIP.from_pretrained(micro_folder).embed_texts(parity.TEXTS[:2])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_another_pooling_is_refused_unless_forced(folder: Path, pooling: str, own_texts: np.ndarray, capsys) -> None:
    said = f"text pooling pooler in training, {pooling} here"
    with pytest.raises(UserError, match=f"not as its weights were trained .*{said}"):
        ClinicCLIP.from_pretrained(folder, pooling=pooling)
    forced = ClinicCLIP.from_pretrained(folder, pooling=pooling, force=True)
    assert forced.forced == [said] and forced.describe()["pooling"] == forced.spec.text.pooling == pooling
    assert "pooler" not in forced.params["text"]
    assert np.abs(forced.embed_texts(parity.TEXTS[:2]) - own_texts).max() > 0.01
    flags = [str(folder / "none.png"), f"--checkpoint={folder}", f"--pooling={pooling}"]
    assert cli.call(predict.main, predict.parser(), flags) == 1 and said in capsys.readouterr().err


def test_a_pooling_that_is_none_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="pooling 'max' must be one of pooler, cls, mean"):
        ClinicCLIP.from_pretrained(folder, pooling="max")


def test_every_file_of_weights_names_the_golden_file(micro_folder: Path) -> None:
    for name in ("model.safetensors", "extra.safetensors"):
        trained, digest = contract.read(micro_folder / name)
        assert trained["pooling"] == "pooler" and trained["image_size"] == 32 and len(digest) == 64
        with safe_open(micro_folder / name, "np") as file:
            assert file.metadata()["format"] == "pt"
    files.write_tensors(micro_folder.parent / "bare.safetensors", {"a": np.zeros(1, np.float32)}, {"format": "pt"})
    with pytest.raises(UserError, match="does not say how its images and texts were prepared"):
        contract.read(micro_folder.parent / "bare.safetensors")


def examine(folder: Path) -> tuple[int, dict]:
    output = folder.parent / "doctor"
    code = cli.call(doctor.main, doctor.parser(), ["checkpoint", str(folder), f"--output={output}"])
    return code, json.loads((output / "doctor.json").read_text())


def test_doctor_finds_nothing_odd_in_an_export_as_written(folder: Path, capsys) -> None:
    code, told = examine(folder)
    assert code == 0 and "nothing odd was found" in capsys.readouterr().out
    stages = next(iter(told["sections"]["Stages"].values()))
    assert list(stages) == ["settings", "golden file", *(parity.PIXELS, parity.TOKENS, parity.IMAGE, parity.TEXT)]
    assert all(stage["holds"] for stage in stages.values())


@pytest.mark.parametrize("stage", [parity.PIXELS, parity.TOKENS, parity.IMAGE])
def test_doctor_names_the_first_stage_that_differs(folder: Path, stage: str, monkeypatch, capsys) -> None:
    if stage == parity.PIXELS:
        square = images.square
        monkeypatch.setattr(images, "square", lambda *given: 255 - square(*given))
    elif stage == parity.TOKENS:
        other_tokenizer(folder)
    else:
        golden = parity.read_sample(folder)
        parity.write_sample(folder, golden._replace(image_embedding=-golden.image_embedding))
        weights = tensor_file.read(folder / "model.safetensors")
        trained, _ = contract.read(folder / "model.safetensors")
        told = contract.metadata(trained, folder / parity.TENSORS)
        tensor_file.write(folder / "model.safetensors", weights, metadata=told)
        from clinicclip.exporting import folder as export_folder

        monkeypatch.setattr(export_folder, "_read_whole", lambda place, name, meta: tensor_file.read(place / name))
    code, told = examine(folder)
    found = [finding["says"] for finding in told["findings"]]
    first = "settings" if stage == parity.TOKENS else stage
    assert code == 1 and len(found) == 1 and f"the first is {first}: " in found[0]
    assert not next(iter(told["sections"]["Stages"].values()))[stage]["holds"]
    assert "Spoils an evaluation" in capsys.readouterr().out


GOLDEN = {
    "no picture": (lambda t: t.pop("picture_1"), None),
    "a stranger": (lambda t: t.update(more=t["ids"]), None),
    "pictures of floats": (lambda t: t.update(picture_0=t["picture_0"].astype("float32")), None),
    "flat squares": (lambda t: t.update(images=t["images"].ravel()), None),
    "ids of floats": (lambda t: t.update(ids=t["ids"].astype("float32")), None),
    "no texts": (lambda t: None, "7"),
    "deep texts": (lambda t: None, "[" * 100_000),
    "texts that are none": (lambda t: None, "{"),
}


@pytest.mark.parametrize("fault", GOLDEN)
def test_doctor_tells_damaged_golden_inputs_in_one_line(folder: Path, fault: str, capsys) -> None:
    change, texts = GOLDEN[fault]
    arrays = tensor_file.read(folder / parity.TENSORS)
    change(arrays)
    tensor_file.write(folder / parity.TENSORS, arrays, metadata={"texts": texts or json.dumps(parity.TEXTS)})
    assert cli.call(doctor.main, doctor.parser(), ["checkpoint", str(folder), f"--output={folder.parent}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{parity.TENSORS}: holds no golden inputs of this version" in error
