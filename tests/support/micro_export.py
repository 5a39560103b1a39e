"""The smallest model there is, and how a test exports it or another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clinicclip.data.tokenizer import train_wordpiece
from clinicclip.exporting import Origin, parity, write_export
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec, init_params
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec

TOKENIZER = train_wordpiece(parity.TEXTS, 150)
LENGTH = 40
SPEC = ClipSpec(
    SwinSpec(image_size=32, window_size=4, embed_dim=8, depths=(1, 1), heads=(2, 4)),
    BertSpec(TOKENIZER.vocab_size, width=12, depth=1, heads=3, mlp_width=20, max_positions=LENGTH),
    GcnSpec(feature_width=5, hidden=6, width=7),
    dim=10,
)
ORIGIN = Origin(
    name="micro",
    data="phantom",
    data_title="Phantom radiographs",
    data_licence="Apache-2.0",
    data_citation="",
    data_open=True,
    phantom=True,
    steps=3,
    studies={"training": 1200},
)


SPLITS = {"train": "train", "validation": "validation", "test": "test"}
CONFIG = {"seed": 0, "data": {"dir": "/home/someone/data", "name": "phantom", **SPLITS}}


def export(folder: Path, spec: ClipSpec = SPEC, **changes: Any) -> dict[str, Any] | None:
    """Writes an export as `write_export`, with what is said here where it is not said otherwise."""
    usual = {"tokenizer": TOKENIZER, "text_length": LENGTH, "config": CONFIG, "origin": ORIGIN}
    if "params" not in changes:
        usual["params"] = init_params(spec, 0)
    return write_export(folder, spec=spec, **(usual | changes))


@contextmanager
def without_torch() -> Iterator[None]:
    """Where PyTorch is installed an export has a parity.json besides; tests/torch is about that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "_installed", lambda *modules: False)
        yield


def write(folder: Path) -> Path:
    """Writes it with fresh parameters, without asking PyTorch."""
    with without_torch():
        export(folder)
    return folder
