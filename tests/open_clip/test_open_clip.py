"""Exports as open_clip reads them, from a folder and from a hub's cache, and guests that open_clip reads.

open_clip needs torchvision, so these have a command and an environment of their own (README).
"""

import dataclasses
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import hub_cache
import micro_export
import micro_timm
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms

from clinicclip import ClinicCLIP, api, cli, doctor, guests
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import contract, dialects, parity
from clinicclip.models.clip import ClipSpec
from clinicclip.models.gcn import GcnSpec

recipe = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "recipe.py"))
HUB = "someone/clip"
SUPPORT = Path(micro_timm.__file__).parent


def export(folder: Path, spec: ClipSpec = micro_export.SPEC, **options: str) -> Path:
    """The smallest model, whose image tower timm knows by a name here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "timm_name", lambda swin: micro_timm.NAME)
        micro_export.export(folder, spec, params=recipe["weights"](spec), **options)
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("exports") / "local")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's cache as it is once both folders were uploaded and fetched."""
    place = tmp_path_factory.mktemp("cache")
    folder = export(tmp_path_factory.mktemp("exports") / "published", hub=HUB)
    for name, source in ((HUB, folder), (f"{HUB}-text", folder / "text")):
        shutil.copytree(source, hub_cache.snapshot(place, name))
    return place


def snippet(folder: Path, library: str) -> str:
    """What the card says to run."""
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if f"import {library}" in block or f"from {library}" in block)
    return found


def printed(code: str, place: Path, **environment: str) -> np.ndarray:
    """The numbers a snippet prints in a process of its own, without a network, for a radiograph that lies there."""
    Image.fromarray(parity.fixed_pictures()[0]).save(place / "radiograph.png")
    refuse = "import socket\ndef refuse(*a, **k): raise AssertionError(a)\nsocket.socket.connect = refuse\n"
    known = f"import sys\nsys.path.append({str(SUPPORT)!r})\nimport micro_timm\n"
    done = subprocess.run(
        [sys.executable, "-c", refuse + known + code],
        cwd=place,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return np.array([float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout)])


def expected(folder: Path) -> np.ndarray:
    model = ClinicCLIP.from_pretrained(folder)
    texts = model.embed_texts(["there is a left pleural effusion.", "no pleural effusion."])
    return texts @ model.embed_images([parity.fixed_pictures()[0]])[0]


def test_the_card_of_a_folder_opens_it(local: Path) -> None:
    np.testing.assert_allclose(printed(snippet(local, "open_clip"), local), expected(local), atol=1e-4)


def test_the_card_of_a_published_export_opens_it_by_its_id(cache: Path, tmp_path: Path) -> None:
    folder = next((cache / "models--someone--clip" / "snapshots").iterdir())
    both = "\n".join(snippet(folder, library) for library in ("open_clip", "transformers"))
    found = printed(both, tmp_path, HF_HUB_CACHE=str(cache))
    np.testing.assert_allclose(found, np.tile(expected(folder), 2), atol=1e-4)


def test_doctor_reads_an_export_through_open_clip(local: Path, tmp_path: Path) -> None:
    flags = ["checkpoint", str(local), f"--output={tmp_path}"]
    assert cli.call(doctor.main, doctor.parser(), flags) == 0
    stages = json.loads((tmp_path / "doctor.json").read_text())["sections"]["Stages"]
    assert list(stages[f"open_clip {open_clip.__version__}"]) == [
        "loading", parity.PIXELS, parity.TOKENS, parity.IMAGE, parity.TEXT
    ]  # fmt: skip
    copy = shutil.copytree(local, tmp_path / "copy")
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    flags[1] = str(copy)
    assert cli.call(doctor.main, doctor.parser(), flags) == 1
    says = [finding["says"] for finding in json.loads((tmp_path / "doctor.json").read_text())["findings"]]
    assert [re.search("the first is ([a-z ]+)", text)[1] for text in says] == ["settings", parity.PIXELS]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_open_clip_pools_as_we_do_without_a_pooler(pooling: str, tmp_path: Path, monkeypatch) -> None:
    spec = dataclasses.replace(micro_export.SPEC, text=dataclasses.replace(micro_export.SPEC.text, pooling=pooling))
    folder = export(tmp_path / "out", spec)
    measured = json.loads((folder / parity.REPORT).read_text())["max_abs_difference"]
    assert measured.keys() == {"open_clip"} and not (folder / "config.json").exists()
    assert max(measured["open_clip"][part] for part in ("image", "text")) <= 1e-5
    monkeypatch.setattr(dialects, "timm_name", lambda swin: micro_timm.NAME)
    assert ClinicCLIP.from_pretrained(folder).spec == spec
    with pytest.raises(UserError, match="holds no pooler"):
        ClinicCLIP.from_pretrained(folder, pooling="pooler", force=True)


def test_a_folder_of_open_clip_is_a_guest_with_its_own_preprocessing(local: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(local, tmp_path / "guest")
    for name in ("clinicclip.json", "config.json", "model.safetensors"):
        (folder / name).unlink()
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_pretrained"] = True  # which would be fetched
    config["model_cfg"]["text_cfg"]["hf_model_pretrained"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    guest = api.load_any(str(folder))
    assert isinstance(guest, guests.Guest) and guest.reader.library == "open_clip"
    ours = contract.golden(local / "open_clip_model.safetensors")
    squares = np.stack([guest.square(picture, guest.image_size) for picture in ours.pictures])
    np.testing.assert_allclose(guest.embed_images(squares), ours.image_embedding, atol=1e-4)
    np.testing.assert_allclose(guest.embed_texts(ours.texts), ours.text_embedding, atol=1e-4)
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"mean of the images \[0.485, .* in training, \[0.5, .* here"):
        api.load_any(str(folder))
    assert isinstance(api.load_any(str(folder), force=True), guests.Guest)


def openai_clip() -> torch.nn.Module:
    """A small CLIP of OpenAI's layout, its weights away from their start."""
    torch.manual_seed(0)
    vision = open_clip.model.CLIPVisionCfg(layers=2, width=64, patch_size=16, image_size=64)
    text = open_clip.model.CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=1, layers=2)
    model = open_clip.model.CLIP(32, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def chexzeros(picture: np.ndarray, side: int) -> torch.Tensor:
    """What CheXzero's own steps, and torchvision's, show its model: squares in a file, read as tensors."""
    image, square = Image.fromarray(picture), np.zeros((320, 320), np.float32)
    width, height = (int(length * (320 / max(image.size))) for length in image.size)
    top, left = (320 - height) // 2, (320 - width) // 2
    square[top : top + height, left : left + width] = image.resize((width, height), Image.Resampling.LANCZOS)
    resize = transforms.Resize(side, transforms.InterpolationMode.BICUBIC, antialias=False)
    shown = transforms.Compose([transforms.Normalize([101.48761] * 3, [83.43944] * 3), resize])
    return shown(torch.from_numpy(square).expand(3, -1, -1))


@pytest.mark.parametrize("named", [False, True])
def test_chexzeros_file_is_known_by_its_arrays_and_embeds_as_its_model(named: bool, tmp_path: Path) -> None:
    model, file = openai_clip(), tmp_path / "best_64.pt"
    torch.save(model.state_dict(), file)
    guest, pictures = api.load_any(str(file if named else tmp_path)), parity.fixed_pictures()
    assert isinstance(guest, guests.Guest) and guest.image_size == 320
    assert guest.says.endswith("shown at 64 px, bicubic without antialias")
    squares = np.stack([guest.square(picture, guest.image_size) for picture in pictures])
    with torch.inference_mode():
        pixels = torch.stack([chexzeros(picture, 64) for picture in pictures])
        images = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(open_clip.tokenize(list(parity.TEXTS)), normalize=True).numpy()
    np.testing.assert_allclose(guest.embed_images(squares), images, atol=1e-5)
    np.testing.assert_allclose(guest.embed_texts(parity.TEXTS), texts, atol=1e-5)


def test_a_file_that_is_not_wholly_of_the_layout_is_refused(tmp_path: Path) -> None:
    state = openai_clip().state_dict()
    del state["visual.ln_post.bias"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"not those of a whole OpenAI CLIP: 1 missing: visual\.ln_post\.bias"):
        api.load_any(str(tmp_path))
    torch.save({"layer.weight": torch.zeros(2, 2)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="holds no Swin"):
        api.load_any(str(tmp_path))


def test_a_full_size_export_is_read_alike_by_both_libraries(tmp_path: Path) -> None:
    full = dataclasses.replace(recipe["SIZES"]["full"], graph=GcnSpec())
    pieces = micro_export.TOKENIZER.vocabulary
    unused = tuple(f"[unused{k}]" for k in range(full.text.vocab_size - len(pieces)))
    measured = micro_export.export(
        tmp_path / "full",
        full,
        params=recipe["weights"](full),
        tokenizer=Tokenizer((*pieces, *unused)),
        text_length=64,
    )
    for library in ("transformers", "open_clip"):
        found = measured["max_abs_difference"][library]
        assert max(found["image"], found["text"]) <= 1e-4 and found["pixels"] <= 1 / 255 and found["token_ids_equal"]
        print(library, found)
