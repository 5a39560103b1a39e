"""Imported towers give timm's own features, also for windows they were not trained with; whole folders open_clip's."""

import runpy
from pathlib import Path

import foreign
import jax
import numpy as np
import pytest
from PIL import Image

from clinicclip import ClinicCLIP, importing
from clinicclip.exporting import parity
from clinicclip.importing.resize import resize_table
from clinicclip.models import convert, tensor_file
from clinicclip.models.clip import IMAGE_STD
from clinicclip.models.swin import Swin

GOLDEN = Path(__file__).parent / "golden"
recipe = runpy.run_path(str(GOLDEN / "recipe.py"))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "weights.npz")


@pytest.mark.parametrize(("old", "new"), recipe["WINDOWS"])
def test_tables_are_resized_as_timm_resizes_them(golden, old, new):
    resized = resize_table(recipe["table"](old), new)
    np.testing.assert_allclose(resized, golden[f"table/{old}_{new}"], atol=1e-5)


def test_a_table_of_the_same_window_is_left_alone():
    np.testing.assert_array_equal(resize_table(recipe["table"](7), 7), recipe["table"](7))


def timm_file(folder, spec):
    """The file that timm itself would have saved."""
    tensors = convert.to_torch(recipe["weights"](spec), spec, "open_clip")
    trunk = {k.removeprefix("visual.trunk."): t for k, t in tensors.items() if k.startswith("visual.trunk.")}
    tensor_file.write(folder / "model.safetensors", trunk)
    return folder


@pytest.mark.parametrize("name", [*recipe["SWINS"], "resized"])
def test_features_of_an_imported_swin_are_those_of_timm(golden, name, tmp_path):
    source = recipe["SWINS"].get(name, recipe["SWINS"]["tiny"])
    target = recipe["SWINS"]["base_384"].image if name == "resized" else source.image
    place = timm_file(tmp_path, source)
    spec, params = importing.load_image_tower(place, image_size=target.image_size, window_size=target.window_size)
    images = recipe["images"](recipe["SWINS"]["base_384"] if name == "resized" else source, count=1)
    pooled, tokens = jax.jit(lambda p, x: Swin(spec).apply({"params": p}, x))(params, images)
    assert np.abs(pooled - golden[f"{name}/pooled"]).max() <= 1e-4
    fourth = np.asarray(tokens).reshape(1, -1, spec.out_width)[:, 3]
    assert np.abs(fourth - golden[f"{name}/token"]).max() <= 1e-4


def test_an_open_clip_folder_gives_what_open_clip_gives(tmp_path):
    """From files and words on: pixels to a gray level, ids exactly, embeddings."""
    golden = np.load(GOLDEN / "open_clip.npz")
    folder = foreign.write_whole(tmp_path / "clip", recipe["weights"](foreign.MICRO), foreign.MICRO, "open_clip")
    model, pictures = ClinicCLIP.from_pretrained(folder), parity.fixed_pictures()
    ours = parity.Ours(model.spec, model.params, model.tokenizer, model.text_length)
    deviation = np.asarray(IMAGE_STD, np.float32)[None, :, None, None]
    pixels = ours.pixels([Image.fromarray(picture) for picture in pictures])
    assert np.abs((pixels - golden["pixels"]) * deviation).max() <= 1 / 255 + 1e-6
    np.testing.assert_array_equal(ours.ids(parity.TEXTS), golden["ids"])
    assert np.abs(model.embed_images(list(pictures)) - golden["image"]).max() <= 1e-4
    assert np.abs(model.embed_texts(parity.TEXTS) - golden["text"]).max() <= 1e-4
