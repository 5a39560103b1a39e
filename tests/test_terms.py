"""What the configuration files of others say of how images and texts were prepared, brought to one set of terms."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clinicclip import terms
from clinicclip.errors import UserError
from clinicclip.exporting import contract

HALF = [0.5, 0.5, 0.5]
SAID = {
    "transformers, squashed": (
        {"preprocessor_config.json": {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": HALF}},
        {"image_size": 224, "resize": "squash", "interpolation": "bilinear", "mean": HALF},
    ),
    "transformers, cropped": (
        {"preprocessor_config.json": {
            "do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
        }},
        {"image_size": 224, "resize": "shortest"},
    ),
    "transformers 5": (
        {"processor_config.json": {"image_processor": {"size": 384, "do_normalize": False, "do_rescale": False}}},
        {"image_size": 384, "resize": "squash", "mean": [0.0] * 3, "std": [1.0] * 3, "scale": 1},
    ),
    "open_clip, unsaid": (
        {"open_clip_config.json": {"model_cfg": {}}},
        {"resize": "shortest", "interpolation": "bicubic", "mean": terms.OPENAI_MEAN, "std": terms.OPENAI_STD},
    ),
    "open_clip, texts": (
        {"open_clip_config.json": {
            "model_cfg": {"text_cfg": {"context_length": 77}}, "preprocess_cfg": terms.UNSCALED,
        }},
        {"resize": "shortest", "interpolation": "bicubic", "text_length": 77, **terms.UNSCALED},
    ),
    "timm": (
        {"config.json": {"architecture": "swin", "pretrained_cfg": {
            "input_size": [3, 384, 384], "mean": HALF, "std": HALF, "interpolation": "bicubic", "crop_pct": 0.9,
        }}},
        {"image_size": 384, "mean": HALF, "std": HALF, "interpolation": "bicubic"},
    ),
    "sentence-transformers": (
        {"1_Pooling/config.json": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}},
        {"pooling": "mean"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SAID))
def test_every_kind_of_file_is_read_in_the_same_terms(kind: str, tmp_path: Path) -> None:
    files, said = SAID[kind]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    assert terms.beside(tmp_path) == (said,)


def test_terms_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    said = {terms.KEY: "[" * 100_000}
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "model.safetensors", metadata=said)
    assert terms.stated(tmp_path / "model.safetensors") == {}


def test_what_nobody_says_is_held_against_nobody(tmp_path: Path) -> None:
    assert terms.beside(tmp_path) == () and terms.stated(tmp_path / "model.safetensors") == {}
    assert terms.require("x", [{}, {"mean": HALF}], {"std": HALF}, {}, force=False) == []


def test_every_other_word_is_refused_in_one_line_and_returned_when_forced() -> None:
    given = contract.images(224)
    trained = [{"image_size": 384, "mean": HALF}, {"image_size": 384}]
    with pytest.raises(UserError, match=r"^PLACE: not as .* \(image size 384 .*, 224 here; mean of the .*\)") as told:
        terms.require("PLACE", trained, given, force=False)
    assert all(word in str(told.value) for word in ("--force", "force=True", "--config.model.force=True"))
    assert len(terms.require("PLACE", trained, given, force=True)) == 2
