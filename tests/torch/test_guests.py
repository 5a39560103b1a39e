"""Guests: small CLIP folders made here by transformers, scored with their own preprocessing and tokenizer."""

import json
import shutil
from pathlib import Path

import numpy as np
import openai_layout
import pytest
import torch
import transformers
from PIL import Image

from clinicclip import api, cli, evaluate, guests
from clinicclip.data import builder
from clinicclip.data.tokenizer import train_wordpiece
from clinicclip.errors import UserError
from clinicclip.exporting import parity

TEXTS = [*parity.TEXTS, "no pneumothorax."]
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
LENGTH = 48


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights from a seed; CLIP resizes the shorter side and crops, SigLIP squashes."""
    place = tmp_path_factory.mktemp("guests") / request.param
    tokenizer = train_wordpiece(parity.TEXTS, 150)
    tokenizer.save(place, LENGTH)
    text = SIZES | {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": LENGTH}
    vision = SIZES | {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if request.param == "clip":
        text |= {"eos_token_id": tokenizer.encode([""], 9)[0][0][-1]}
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        )
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    else:
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
        processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def guest(folder: Path) -> guests.Guest:
    assert guests.find(folder) == "transformers"
    return guests.Guest(folder, "transformers")


def test_a_guest_sees_images_as_its_own_preprocessing_shows_them(guest: guests.Guest, folder: Path) -> None:
    pictures = parity.fixed_pictures()
    squares = np.stack([guest.square(picture, guest.image_size) for picture in pictures])
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = processor([Image.fromarray(picture).convert("RGB") for picture in pictures], return_tensors="pt")
    with torch.inference_mode():
        theirs = model.get_image_features(**pixels).pooler_output.numpy()
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(guest.embed_images(squares), theirs, atol=1e-5)


def test_a_guest_reads_texts_with_its_own_tokenizer(guest: guests.Guest, folder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    filled_up = model.config.model_type == "siglip"
    rows = []
    for text in TEXTS:  # one by one, so that CLIP's need no filling up
        tokens = tokenizer(text, padding="max_length" if filled_up else False, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model.get_text_features(**tokens).pooler_output.numpy()[0])
    theirs = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(guest.embed_texts(TEXTS), theirs, atol=1e-5)


def test_evaluate_scores_a_guest_through_our_suites(folder: Path, tmp_path: Path, capsys) -> None:
    options = {"level": "easy", "studies": 60, "size": 64}
    builder.write("phantom", tmp_path / "data", options=options, say=lambda line: None)
    flags = [
        f"--checkpoint={folder}",
        f"--data=phantom:{tmp_path / 'data'}",
        f"--output={tmp_path / 'out'}",
        "--draws=9",
    ]
    assert cli.call(evaluate.main, evaluate.parser(), flags) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["preprocessing"] for row in rows} == {"as transformers reads the folder, 32 px"}
    assert all(row["read_by"].startswith(f"transformers {transformers.__version__}") for row in rows)
    assert {row["metric"].split("/")[0] for row in rows} >= {"zero_shot", "cxr_align", "pair_strict", "retrieval"}
    assert "not known" in (tmp_path / "out" / "report.md").read_text()


def test_a_guest_whose_weights_lack_something_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = transformers.AutoModel.from_pretrained(folder)
    kept = {name: tensor for name, tensor in model.state_dict().items() if "fc1.weight" not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(UserError, match=r"fetch both again: [23] missing: .*fc1.weight"):
        guests.Guest(tmp_path, "transformers")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="transformers cannot read it"):
        guests.Guest(tmp_path, "transformers")


def test_a_guest_given_images_of_another_size_is_refused_unless_forced(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "preprocessor_config.json"
    said = json.loads(file.read_text())
    said |= {key: {"height": 48, "width": 48} for key in ("size", "crop_size") if key in said}
    file.write_text(json.dumps(said))
    with pytest.raises(UserError, match="image size 32 in training, 48 here"):
        api.load_any(str(copy))
    guest = api.load_any(str(copy), force=True)
    assert isinstance(guest, guests.Guest) and guest.image_size == 48
    assert guest.describe()["forced"] == "image size 32 in training, 48 here"  # so that no table hides it
    with pytest.raises(UserError, match="transformers cannot embed with it"):  # towers of one size alone
        guest.embed_images(np.zeros((1, 48, 48), np.uint8))


def test_an_export_read_by_others_is_held_to_its_own_word(micro_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(micro_folder, tmp_path / "copy")
    (copy / "clinicclip.json").unlink()
    assert isinstance(api.load_any(str(copy)), guests.Guest)
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_std": [0.5, 0.5, 0.5]}))
    with pytest.raises(UserError, match=r"standard deviation of the images .* in training"):
        api.load_any(str(copy))
    forced = api.load_any(str(copy), force=True)
    assert isinstance(forced, guests.Guest) and forced.describe()["forced"].startswith("standard deviation")


def test_a_file_of_pytorchs_own_is_no_guest_by_its_name_alone(tmp_path: Path) -> None:
    for content in ({"layer.weight": torch.zeros(2, 2)}, [1, 2], {"visual.proj": torch.zeros(2)}):
        torch.save(content, tmp_path / "best.pt")
        assert guests.find(tmp_path) == guests.find(tmp_path / "best.pt") == ""
        with pytest.raises(UserError, match=r"holds no Swin|no PyTorch file of arrays alone") as told:
            api.load_any(str(tmp_path))
        assert "\n" not in str(told.value)


def test_openais_layout_is_known_by_its_arrays(tmp_path: Path) -> None:
    state = {name: torch.zeros(shape) for name, shape in openai_layout.shapes().items()}
    torch.save(state, tmp_path / "best.pt")
    assert guests.find(tmp_path) == guests.find(tmp_path / "best.pt") == "chexzero"
    with pytest.raises(UserError, match=r"as a guest it is read with open_clip \(pip install open_clip_torch\)"):
        api.load_any(str(tmp_path))
