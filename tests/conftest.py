"""Every test sees eight simulated CPU devices and strict rank promotion; both must be set before jax starts."""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true") == "true":
    # Much is compiled here and little is run: without costly passes and by its older emitters, XLA needs half the time.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
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


# Files that take minutes: begun first, so that no worker is left alone with one at the end.
LONG = ("test_processes.py", "test_forms.py", "test_step.py", "test_train.py", "test_faults.py", "test_plan.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first; xdist deals files out in this order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


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


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 prepared phantom studies, made once for all workers, for all tests that leave them as they are."""
    from clinicclip.data import builder

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (root / "phantom.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second finds them complete
        options = {"level": "easy", "studies": 160, "size": 64}
        builder.write("phantom", root / "phantom", options=options, say=lambda line: None)
    return root / "phantom"
