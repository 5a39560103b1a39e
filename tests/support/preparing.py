"""What tests of `prepare` share: a small release, the program, what it wrote and how it complains."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clinicclip import cli, prepare
from clinicclip.data import builder
from clinicclip.data.manifest import read_manifest
from clinicclip.errors import UserError

REPORTS = (
    "FINDINGS: The heart is enlarged. There is a small left pleural effusion.\nIMPRESSION: Cardiomegaly.",
    "FINDINGS: The lungs are clear. No pneumothorax or pleural effusion.",
    "IMPRESSION: Left basilar atelectasis.",
)


def pairs(root: Path, count: int, *changes: Mapping[str, Any]) -> Path:
    """A folder release of ``count`` pairs of ``count // 2`` patients; ``changes`` go to the first rows."""
    root.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 255, (40, 48))
        Image.fromarray(noise.astype(np.uint8)).save(root / f"{i}.png")
        rows.append({"image": f"{i}.png", "text": REPORTS[i % 3], "patient": f"p{i // 2}"})
    for number, change in enumerate(changes):
        rows[number] |= change
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def call(*argv: object) -> int:
    """The program's exit code."""
    return cli.call(prepare.main, prepare.parser(), [str(word) for word in argv])


def everything(output: Path) -> dict[str, dict[str, Any]]:
    """The records of all splits, by image."""
    splits = "+".join(read_manifest(output)["splits"])
    return {record["image_id"]: record for record in builder.open_source(output, splits)}


def complaint(call: Callable[[], object]) -> str:
    """The one line of the user error that the call must end in."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
