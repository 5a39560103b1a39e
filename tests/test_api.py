"""The model in use: what it takes, in whatever batches and on however many devices, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import dicoms
import jax
import micro_export
import numpy as np
import planted
import pytest
from PIL import Image

import clinicclip
from clinicclip import api, guests, towers
from clinicclip.data import images, packing, schema
from clinicclip.errors import UserError
from clinicclip.evals import embedding, prompts
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.exporting import parity

SIDE = micro_export.SPEC.image.image_size
REPORTS = [*parity.TEXTS, "", "no pneumothorax.", "the heart is normal in size. " * 20]


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


def test_the_package_alone_imports_no_jax() -> None:
    subprocess.run([sys.executable, "-c", "import sys, clinicclip; assert 'jax' not in sys.modules"], check=True)
    with pytest.raises(AttributeError, match="no attribute 'ClinicClip'"):
        clinicclip.ClinicClip  # noqa: B018


def test_files_bytes_arrays_and_squares_embed_alike(micro_model: api.ClinicCLIP, radiographs: list[Path]) -> None:
    gray = parity.fixed_pictures()[0]
    png, jpeg, dicom = radiographs
    ways = [png, str(png), png.read_bytes(), gray, dicom, gray.astype(np.float32) * 3 - 7, gray.astype(np.uint16) * 257]
    ways += [Image.open(png), np.stack([gray] * 3, axis=2)]
    embedded = micro_model.embed_images(ways)
    square = micro_model.embed_images(images.resize(gray, SIDE)[None])
    np.testing.assert_allclose(embedded, np.repeat(square, len(ways), axis=0), atol=1e-5)
    np.testing.assert_allclose(micro_model.embed_images([jpeg]), square, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


def test_embeddings_do_not_depend_on_batches_or_devices(
    micro_model: api.ClinicCLIP, micro_folder: Path, squares: np.ndarray
) -> None:
    one = api.ClinicCLIP.from_pretrained(micro_folder, devices=jax.devices()[:1])
    assert len(jax.devices()) == 8
    whole = micro_model.embed_images(squares)
    np.testing.assert_allclose(one.embed_images(squares[:8]), whole[:8], atol=1e-5)
    np.testing.assert_allclose(micro_model.embed_images(squares[18:]), whole[18:], atol=1e-5)
    np.testing.assert_allclose(one.embed_texts(REPORTS), micro_model.embed_texts(REPORTS), atol=1e-5)
    assert micro_model.embed_images(squares[:0]).shape == (0, 10) and micro_model.embed_texts([]).shape == (0, 10)


def test_texts_embed_as_the_model_alone_embeds_them_one_a_row(micro_model: api.ClinicCLIP) -> None:
    slow = parity.Ours(micro_model.spec, micro_model.params, micro_model.tokenizer, micro_model.text_length)
    np.testing.assert_allclose(micro_model.embed_texts(REPORTS), slow.embed_texts(REPORTS), atol=1e-5)


def test_a_batch_size_is_compiled_once(micro_model: api.ClinicCLIP, squares) -> None:
    micro_model.embed_images(squares[:8]), micro_model.embed_images(squares)
    compiled = micro_model._towers._image_fn._cache_size()
    for count in (1, 5, 7, 8, 9, 19):
        micro_model.embed_images(squares[:count])
    assert micro_model._towers._image_fn._cache_size() == compiled <= 2


def test_zero_shot_scores_are_cosines_to_the_prompts(micro_model: api.ClinicCLIP, squares) -> None:
    findings = ("edema", "no_finding")
    found = micro_model.zero_shot(squares[:3], findings)
    vectors = micro_model.embed_images(squares[:3])
    for column, finding in enumerate(findings):
        sides = prompts.embed(finding, micro_model.embed_texts)
        np.testing.assert_allclose(found.positive[:, column], vectors @ sides.positive, atol=1e-5)
        np.testing.assert_allclose(found.pair[:, column], vectors @ (sides.positive - sides.negative), atol=1e-5)
    with pytest.raises(UserError, match="did you mean edema"):
        micro_model.zero_shot(squares[:3], ["edemma"])
    with pytest.raises(UserError, match="name at least one"):
        micro_model.zero_shot(squares[:3], [])


def test_faults_take_the_place_of_images_in_a_stream_and_are_raised_otherwise(
    micro_model: api.ClinicCLIP, radiographs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(radiographs[0].read_bytes()[:900])
    planes, broken = np.zeros((5, 4, 2), np.uint8), tmp_path / "broken.png"
    sources = [radiographs[0], broken, tmp_path / "none.jpg", np.zeros((9, 9)), planes, radiographs[0]]
    rows = list(micro_model.stream_images(sources))
    reasons = [row.reason if isinstance(row, images.ImageFault) else "" for row in rows]
    assert reasons == ["", "image_unreadable", "image_missing", "image_constant", "image_not_gray", ""]
    np.testing.assert_array_equal(rows[0], rows[5])
    with pytest.raises(images.ImageFault, match=r"broken\.png"):
        micro_model.embed_images(sources)
    with pytest.raises(images.ImageFault, match="image 1: not a whole image"), Image.open(broken) as cut_short:
        micro_model.embed_images([cut_short])
    with pytest.raises(images.ImageFault, match="image 1: is a NoneType; expected a path"):
        micro_model.embed_images(each for each in [None])


def test_one_thing_alone_is_not_taken_for_several(micro_model: api.ClinicCLIP, squares: np.ndarray) -> None:
    """A string would be read letter by letter, and an image row by row."""
    with pytest.raises(UserError, match=r"expected a list of images, not one alone: give \[str\]"):
        micro_model.embed_images("a.png")
    for alone in (squares[0], squares[:2, :31], squares / 255):
        with pytest.raises(
            UserError, match=r"expected ready squares \[n, 32, 32\] of uint8; give other images as a list"
        ):
            micro_model.embed_images(alone)
    with pytest.raises(UserError, match="expected a list of texts"):
        micro_model.embed_texts("no edema")
    with pytest.raises(UserError, match="expected a list of findings"):
        micro_model.zero_shot(squares, "edema")
    with pytest.raises(UserError, match="text 2 of 2 is a float; expected a string"):
        micro_model.embed_texts(text for text in ("no edema", float("nan")))
    with pytest.raises(UserError, match="text 1 of 1 holds half a character"):
        micro_model.embed_texts(["\ud800"])


def test_every_finding_has_prompts_that_can_be_scored(micro_model: api.ClinicCLIP) -> None:
    sides = prompts.embed_all(schema.FINDINGS, micro_model.embed_texts)
    assert sides.positive.shape == sides.negative.shape == (len(schema.FINDINGS), 10)


def test_our_export_is_no_guest_to_ourselves(micro_folder: Path) -> None:
    assert guests.find(micro_folder) == "transformers"  # which is how others read it
    assert isinstance(api.load_any(str(micro_folder)), api.ClinicCLIP)


def test_short_texts_are_read_in_short_rows(micro_model: api.ClinicCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    plain = packing.plain
    monkeypatch.setattr(packing, "plain", lambda ids, row, **more: rows.append(row) or plain(ids, row, **more))
    micro_model.embed_texts(REPORTS)
    assert rows == [32, 40]


def test_marks_come_back_from_the_devices_and_a_shuffle_on_the_way_fails_loudly(
    micro_model: api.ClinicCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    evalset = EvalSet.from_records("planted", "test", planted.records(11), SIDE, True)
    found, whole = (micro_model.embed_rows(evalset.images, patches=patches) for patches in (False, True))
    np.testing.assert_array_equal(found.marks, evalset.marks)
    np.testing.assert_allclose(whole.vectors, found.vectors, atol=1e-5)
    assert whole.patches is not None and len(whole.patches) == 11
    fill = towers._filled
    monkeypatch.setattr(towers, "_filled", lambda *sizes: np.roll(fill(*sizes), 1))
    embed = EmbedFns(micro_model.embed_rows, micro_model.embed_texts)
    with pytest.raises(ValueError, match="lost their order"):
        embedding.embed_set(embed, evalset, embedding.TextBank(embed.texts))
