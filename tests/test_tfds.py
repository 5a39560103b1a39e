"""TFDS opens what is prepared of every release by name and by folder, without this package."""

import subprocess
import sys
from pathlib import Path

import fault_cases
import judging
import pytest

from clinicclip.data import builder, publish, records
from clinicclip.data.manifest import read_manifest
from clinicclip.data.releases import READERS

OPENED = """
import sys
from pathlib import Path
import tensorflow_datasets as tfds
for place in map(Path, sys.argv[1:]):
    name = place.parent.name
    stored = tfds.builder_from_directory(place)
    for split, held in stored.info.splits.items():
        named = tfds.data_source(name, data_dir=place.parents[1], split=split)
        direct = stored.as_data_source(split=split)
        assert len(named) == len(direct) == held.num_examples > 0, place
        assert named[0]["image"].ndim == 3 and named[0]["patient"] == direct[0]["patient"], place
assert not {"tensorflow", "clinicclip", "jax"} & set(sys.modules)
"""


def test_every_release_is_opened_without_this_package(tmp_path: Path) -> None:
    for name, fake in fault_cases.FAKES.items():
        judging.account(name, fake, fake.make(tmp_path / name / "in"), tmp_path / name / "out")
    options = {"level": "easy", "studies": 6, "size": 64}
    builder.write("phantom", tmp_path / "phantom" / "out", options=options, shorter_side=16)
    places = [tmp_path / name / "out" / read_manifest(tmp_path / name / "out")["folder"] for name in READERS]
    done = subprocess.run([sys.executable, "-c", OPENED, *places], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [place for place in tmp_path.glob("*/out/*/*") if place not in places]  # nothing was fetched


def test_a_folder_under_its_earlier_name_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "DATASET", "{}")
    manifest = builder.write("phantom", tmp_path, options={"level": "easy", "studies": 4, "size": 64}, shorter_side=16)
    monkeypatch.undo()
    assert manifest["folder"] == f"phantom/{records.FORMAT}"
    assert len(builder.open_source(tmp_path, "+".join(manifest["splits"]))) == 4
