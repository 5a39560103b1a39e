"""Guests: small CLIP folders made here by transformers, scored with their own preprocessing and tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from clinicclip import cli, evaluate, guests
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
    with pytest.raises(UserError, match=r"the weights lack [23] arrays, such as"):
        guests.Guest(tmp_path, "transformers")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="transformers cannot read it"):
        guests.Guest(tmp_path, "transformers")
