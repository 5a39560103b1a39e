"""Every test sees eight simulated CPU devices and strict rank promotion; both must be set before jax starts."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # what a worker or a command compiles, no other compiles again
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="clinicclip-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"])

import jax
import pytest

if TYPE_CHECKING:
    import clinicclip

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def quick_compile() -> Iterator[None]:
    """For tests that compile much and run little: XLA leaves out its costly passes."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the smallest model there is, for all tests that leave it as it is."""
    import micro_export  # the package not before the types are watched

    return micro_export.write(tmp_path_factory.mktemp("exports") / "micro")


@pytest.fixture(scope="session")
def micro_model(micro_folder: Path) -> "clinicclip.ClinicCLIP":
    """The model of it, compiled for eight devices wherever a test has used it."""
    import clinicclip

    return clinicclip.ClinicCLIP.from_pretrained(micro_folder)
