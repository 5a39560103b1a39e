"""The model in use: what it takes, in whatever batches and on however many devices, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import dicoms
import jax
import micro_export
import numpy as np
import pytest
from PIL import Image

from clinicclip import api, guests
from clinicclip.data import images, packing, schema
from clinicclip.errors import UserError
from clinicclip.evals import prompts
from clinicclip.exporting import parity

SIDE = micro_export.SPEC.image.image_size
REPORTS = [*parity.TEXTS, "", "no pneumothorax.", "the heart is normal in size. " * 20]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_export.write(tmp_path_factory.mktemp("exports") / "micro")


@pytest.fixture(scope="module")
def model(folder: Path) -> api.ClinicCLIP:
    return api.ClinicCLIP.from_pretrained(folder)


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One picture as PNG, JPEG and DICOM."""
    place, gray = tmp_path_factory.mktemp("radiographs"), parity.fixed_pictures()[0]
    Image.fromarray(gray).save(place / "a.png")
    Image.fromarray(gray).save(place / "b.jpg", quality=95)
    (place / "c.dcm").write_bytes(dicoms.content(dicoms.dataset(gray)))
    return sorted(place.iterdir())


@pytest.fixture
def squares() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (19, SIDE, SIDE), np.uint8)


def test_the_package_shows_the_model_and_imports_no_jax_before_it_is_used() -> None:
    words = "import sys, clinicclip; assert 'jax' not in sys.modules; clinicclip.ClinicCLIP.from_pretrained"
    subprocess.run([sys.executable, "-c", words], check=True)


def test_files_bytes_arrays_and_squares_embed_alike(model: api.ClinicCLIP, radiographs: list[Path]) -> None:
    gray = parity.fixed_pictures()[0]
    png, jpeg, dicom = radiographs
    ways = [png, str(png), png.read_bytes(), gray, dicom, gray.astype(np.float32) * 3 - 7]
    embedded = model.embed_images(ways)
    square = model.embed_images(images.resize(gray, SIDE)[None])
    np.testing.assert_allclose(embedded, np.repeat(square, len(ways), axis=0), atol=1e-5)
    np.testing.assert_allclose(model.embed_images([jpeg]), square, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


def test_embeddings_do_not_depend_on_batches_or_devices(model: api.ClinicCLIP, folder: Path, squares) -> None:
    one = api.ClinicCLIP.from_pretrained(folder, devices=jax.devices()[:1])
    assert len(jax.devices()) == 8
    whole = model.embed_images(squares)
    np.testing.assert_allclose(one.embed_images(squares), whole, atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([model.embed_images(squares[k : k + 1]) for k in (0, 18)]), whole[[0, 18]], atol=1e-5
    )
    np.testing.assert_allclose(one.embed_texts(REPORTS), model.embed_texts(REPORTS), atol=1e-5)
    assert model.embed_images(squares[:0]).shape == (0, 10) and model.embed_texts([]).shape == (0, 10)


def test_texts_embed_as_the_model_alone_embeds_them_one_a_row(model: api.ClinicCLIP) -> None:
    slow = parity.Ours(model.spec, model.params, model.tokenizer, model.text_length)
    np.testing.assert_allclose(model.embed_texts(REPORTS), slow.embed_texts(REPORTS), atol=1e-5)


def test_a_batch_size_is_compiled_once(model: api.ClinicCLIP, squares) -> None:
    model.embed_images(squares[:8]), model.embed_images(squares)
    compiled = model._towers._image_fn._cache_size()
    for count in (1, 5, 7, 8, 9, 19):
        model.embed_images(squares[:count])
    assert model._towers._image_fn._cache_size() == compiled <= 2


def test_zero_shot_scores_are_cosines_to_the_prompts(model: api.ClinicCLIP, squares) -> None:
    findings = ("edema", "no_finding")
    found = model.zero_shot(squares[:3], findings)
    vectors = model.embed_images(squares[:3])
    for column, finding in enumerate(findings):
        sides = prompts.embed(finding, model.embed_texts)
        np.testing.assert_allclose(found.positive[:, column], vectors @ sides.positive, atol=1e-5)
        np.testing.assert_allclose(found.pair[:, column], vectors @ (sides.positive - sides.negative), atol=1e-5)
    with pytest.raises(UserError, match="did you mean edema"):
        model.zero_shot(squares[:3], ["edemma"])
    with pytest.raises(UserError, match="name at least one"):
        model.zero_shot(squares[:3], [])


def test_faults_take_the_place_of_images_in_a_stream_and_are_raised_otherwise(
    model: api.ClinicCLIP, radiographs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(radiographs[0].read_bytes()[:900])
    colour = np.zeros((5, 4, 3), np.uint8)
    sources = [radiographs[0], tmp_path / "broken.png", tmp_path / "none.jpg", np.zeros((9, 9)), colour, radiographs[0]]
    rows = list(model.stream_images(sources))
    reasons = [row.reason if isinstance(row, images.ImageFault) else "" for row in rows]
    assert reasons == ["", "image_unreadable", "image_missing", "image_constant", "image_not_gray", ""]
    np.testing.assert_array_equal(rows[0], rows[5])
    with pytest.raises(images.ImageFault, match="broken.png"):
        model.embed_images(sources)
    with pytest.raises(UserError, match=r"this model takes 32 x 32: pass a list"):
        model.embed_images(np.zeros((2, 31, 31), np.uint8))


def test_every_finding_has_prompts_that_can_be_scored(model: api.ClinicCLIP) -> None:
    sides = prompts.embed_all(schema.FINDINGS, model.embed_texts)
    assert sides.positive.shape == sides.negative.shape == (len(schema.FINDINGS), 10)


def test_our_export_is_no_guest_to_ourselves(folder: Path) -> None:
    assert guests.find(folder) == "transformers"  # which is how others read it
    assert isinstance(api.load_any(str(folder)), api.ClinicCLIP)


def test_short_texts_are_read_in_short_rows(model: api.ClinicCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    plain = packing.plain
    monkeypatch.setattr(packing, "plain", lambda ids, row, **more: rows.append(row) or plain(ids, row, **more))
    model.embed_texts(REPORTS)
    assert rows == [32, 40]
