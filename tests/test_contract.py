"""What weights were trained to be given travels with them: another folder's word is refused, the first fault named."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import micro_export
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from clinicclip import ClinicCLIP, cli, doctor, files, predict, terms
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


def test_what_was_forced_is_refused_of_its_export_too(folder: Path) -> None:
    said = "text length 40 in training, 30"
    CHANGES[said](folder)
    with micro_export.without_torch():
        ClinicCLIP.from_pretrained(folder, force=True).export(folder.parent / "again")
    assert f"not as its weights were trained:** {said} here." in (folder.parent / "again" / "README.md").read_text()
    with pytest.raises(UserError, match=said):
        ClinicCLIP.from_pretrained(folder.parent / "again")
    assert ClinicCLIP.from_pretrained(folder.parent / "again", force=True).forced == [f"{said} here"]


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


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return file.metadata()


def test_every_file_of_weights_says_its_terms_and_those_for_others_hold_the_golden_tensors(micro_folder: Path) -> None:
    for name in ("model.safetensors", "extra.safetensors"):
        trained, said = contract.read(micro_folder / name), metadata(micro_folder / name)
        assert trained["pooling"] == "pooler" and trained["image_size"] == 32 and said["format"] == "pt"
        assert ("golden" in said) == (name == "model.safetensors") and len(said["golden_sha256"]) == 64
    tensors = load(base64.b64decode(metadata(micro_folder / "model.safetensors")["golden"]))  # as the card says
    assert tensors["images"].dtype == np.uint8 and tensors["images"].shape == (3, 32, 32)
    assert tensors["ids"].shape == (3, micro_export.LENGTH)
    golden = contract.golden(micro_folder / "model.safetensors")
    for picture, fixed, square in zip(golden.pictures, parity.fixed_pictures(), tensors["images"], strict=True):
        np.testing.assert_array_equal(picture, fixed)
        np.testing.assert_array_equal(square, images.resize(fixed, 32))
    assert golden.texts == parity.TEXTS
    for name in ("image_embedding", "text_embedding"):
        np.testing.assert_allclose(np.linalg.norm(tensors[name], axis=1), 1, atol=1e-6)
    files.write_tensors(micro_folder.parent / "bare.safetensors", {"a": np.zeros(1, np.float32)}, {"format": "pt"})
    with pytest.raises(UserError, match="does not say how its images and texts were prepared"):
        contract.read(micro_folder.parent / "bare.safetensors")


def relabelled(folder: Path, **said: str | None) -> None:
    """The weights with other metadata, and known to be so to the export."""
    path = folder / "model.safetensors"
    told = {key: value for key, value in (metadata(path) | said).items() if value is not None}
    tensor_file.write(path, tensor_file.read(path), metadata=told)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edited(folder, "clinicclip.json", lambda meta: meta["files"].update({path.name: digest}))


def examine(folder: Path) -> tuple[int, dict]:
    output = folder.parent / "doctor"
    code = cli.call(doctor.main, doctor.parser(), ["checkpoint", str(folder), f"--output={output}"])
    return code, json.loads((output / "doctor.json").read_text())


def test_doctor_finds_nothing_odd_in_an_export_as_written(folder: Path, capsys) -> None:
    code, told = examine(folder)
    assert code == 0 and "nothing odd was found" in capsys.readouterr().out
    stages = next(iter(told["sections"]["Stages"].values()))
    assert list(stages) == ["settings", *(parity.PIXELS, parity.TOKENS, parity.IMAGE, parity.TEXT)]
    assert all(stage["holds"] for stage in stages.values())


@pytest.mark.parametrize("stage", [parity.PIXELS, parity.TOKENS, parity.IMAGE])
def test_doctor_names_the_first_stage_that_differs(folder: Path, stage: str, monkeypatch, capsys) -> None:
    if stage == parity.PIXELS:
        square = images.square
        monkeypatch.setattr(images, "square", lambda *given: 255 - square(*given))
    elif stage == parity.TOKENS:
        other_tokenizer(folder)
    else:
        golden = contract.golden(folder / "model.safetensors")
        packed = parity.packed(golden._replace(image_embedding=-golden.image_embedding))
        relabelled(
            folder, **contract.metadata({}, packed) | {terms.KEY: metadata(folder / "model.safetensors")[terms.KEY]}
        )
    code, told = examine(folder)
    found = [finding["says"] for finding in told["findings"]]
    first = "settings" if stage == parity.TOKENS else stage
    assert code == 1 and len(found) == 1 and f"the first is {first}: " in found[0]
    assert not next(iter(told["sections"]["Stages"].values()))[stage]["holds"]
    assert "Spoils an evaluation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"golden": "no base64"}, "base64"),
        ({"golden": "AAAA"}, "those of their digest"),
        ({"golden": None}, "golden"),
        ({"golden_sha256": None}, "golden"),
    ],
)
def test_doctor_tells_damaged_golden_tensors_in_one_line(folder: Path, change: dict, says: str, capsys) -> None:
    relabelled(folder, **change)
    assert cli.call(doctor.main, doctor.parser(), ["checkpoint", str(folder), f"--output={folder.parent}"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "its golden inputs cannot be read" in error and says in error


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


GOLDEN = {
    "no picture": lambda t: t.pop("picture_1"),
    "a stranger": lambda t: t.update(more=t["ids"]),
    "pictures of floats": lambda t: t.update(picture_0=t["picture_0"].astype("float32")),
    "flat squares": lambda t: t.update(images=t["images"].ravel()),
    "ids of floats": lambda t: t.update(ids=t["ids"].astype("float32")),
    "no texts": lambda t: t.update(texts=bytes_of("7")),
    "deep texts": lambda t: t.update(texts=bytes_of("[" * 100_000)),
    "half a text": lambda t: t.update(texts=bytes_of("{")),
}


@pytest.mark.parametrize("fault", GOLDEN)
def test_golden_tensors_of_another_form_are_told_in_one_line(folder: Path, fault: str) -> None:
    arrays = load(parity.packed(contract.golden(folder / "model.safetensors")))
    GOLDEN[fault](arrays)
    with safe_open(folder / "model.safetensors", "np") as file:
        stated = {terms.KEY: file.metadata()[terms.KEY]}
    relabelled(folder, **contract.metadata({}, save(arrays)) | stated)
    with pytest.raises(UserError, match="its golden inputs cannot be read") as told:
        contract.golden(folder / "model.safetensors")
    assert "\n" not in str(told.value)
