"""A run of the demo, made small, from the command line to its export, as transformers reads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_run import TINY

from clinicclip import ClinicCLIP, cli, doctor
from clinicclip.data.phantom import world
from clinicclip.exporting import parity
from clinicclip.models.clip import IMAGE_STD

IMAGES = 16


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in earnest: steps large enough that nothing stays near its start."""
    place = tmp_path_factory.mktemp("runs")
    wanted = TINY | {"optim.learning_rate": 0.01, "evals.suites": "('retrieval',)"}
    flags = [f"--config.{key}={value}" for key, value in wanted.items()]
    where = [f"--workdir={place / 'demo'}", f"--data_dir={place / 'phantom'}"]
    line = [sys.executable, "-m", "clinicclip.train", "--config=configs/n_g_dtcg.py:demo", *where, *flags]
    quick = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False, env=quick)
    assert done.returncode == 0, done.stderr
    return place / "demo"


@pytest.fixture(scope="module")
def sides(workdir: Path) -> tuple[ClinicCLIP, torch.nn.Module, transformers.ProcessorMixin]:
    """Ours from the checkpoint, theirs from the export beside it."""
    folder = workdir / "export"
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder).eval()
    processor = transformers.VisionTextDualEncoderProcessor.from_pretrained(folder, backend="pil")
    return ClinicCLIP.from_run(workdir), model, processor


@pytest.fixture(scope="module")
def studies() -> tuple[list[np.ndarray], list[str]]:
    """Radiographs, not of the model's size, and reports that the run has not seen."""
    made = [world.make("easy", 10_000 + index, seed=1, size=150) for index in range(IMAGES)]
    return [study.image for study in made], [f"{study.findings} {study.impression}" for study in made]


def test_every_array_of_both_towers_was_trained(workdir: Path) -> None:
    before, after = (ClinicCLIP.from_run(workdir, step).params for step in (TINY["checkpoint_every"], None))
    for part in ("image", "text", "image_projection", "text_projection"):
        moved = [
            not np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (before[part], after[part])), strict=True)
        ]
        assert all(moved)


def test_embeddings_of_a_trained_demo_equal_those_of_transformers(sides, studies) -> None:
    ours, model, processor = sides
    images, texts = studies
    pictures = [Image.fromarray(image) for image in images]
    inputs = processor(text=texts, images=pictures, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        out = model(**inputs)
    for mine, theirs in ((ours.embed_images(images), out.image_embeds), (ours.embed_texts(texts), out.text_embeds)):
        assert np.abs(mine - theirs.numpy()).max() <= 1e-4
        assert np.ptp(mine, axis=0).max() > 0.01  # they tell studies apart


def test_pixels_and_token_ids_of_a_trained_demo_equal_those_of_transformers(sides, studies) -> None:
    ours, _, processor = sides
    images, texts = studies
    mine = parity.normalized(np.stack([ours.square(image, ours.image_size) for image in images]))
    theirs = processor.image_processor([Image.fromarray(image) for image in images], return_tensors="np")[
        "pixel_values"
    ]
    deviation = np.asarray(IMAGE_STD, np.float32)[None, :, None, None]
    assert np.abs((mine - theirs) * deviation).max() <= 1 / 255 + 1e-6
    assert processor.tokenizer(texts, truncation=True)["input_ids"] == ours.tokenizer.encode(texts, ours.text_length)[0]


def test_doctor_finds_nothing_odd_in_the_export_of_a_trained_demo(workdir: Path, tmp_path: Path) -> None:
    flags = ["checkpoint", str(workdir / "export"), f"--output={tmp_path}"]
    assert cli.call(doctor.main, doctor.parser(), flags) == 0
    told = json.loads((tmp_path / "doctor.json").read_text())
    assert f"transformers {transformers.__version__}" in told["sections"]["Stages"] and not told["findings"]
