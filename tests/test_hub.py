"""What lies on a hub is found in its client's own cache, and what is no id of one is never asked for."""

import shutil
from pathlib import Path

import foreign
import hub_cache
import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import filter_repo_objects

from clinicclip import ClinicCLIP, importing
from clinicclip.errors import UserError
from clinicclip.importing import hub
from clinicclip.models import hf_config


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_an_id_is_read_without_a_network(cache: Path) -> None:
    params, place = foreign.random_params(foreign.MICRO), hub_cache.snapshot(cache, "someone/bert")
    foreign.write_tower(place, params, foreign.MICRO, "text")
    for name in ("someone/bert", f"someone/bert@{hub_cache.COMMIT}"):
        jax.tree.map(np.testing.assert_array_equal, importing.load_text_tower(name)[1], params["text"])
    assert importing.cached("someone/bert") == place
    assert importing.cached("someone/else") is None
    with pytest.raises(UserError, match="someone/else: no such folder here, and the hub did not give it") as told:
        importing.locate("someone/else")
    assert "\n" not in str(told.value)


def test_an_export_is_loaded_by_the_id_it_was_published_under(cache: Path, micro_folder: Path) -> None:
    shutil.copytree(micro_folder, hub_cache.snapshot(cache, "someone/clip"))
    model, local = (ClinicCLIP.from_pretrained(place) for place in ("someone/clip", micro_folder))
    assert model.origin == local.origin and model.config == local.config
    assert model.describe() == local.describe() | {"checkpoint": "clip"}


def test_what_a_cache_lacks_the_weights_of_is_not_there(cache: Path) -> None:
    place = hub_cache.snapshot(cache, "someone/pickled")
    foreign.write_json(place / "config.json", hf_config.bert_config(foreign.MICRO.text))
    assert importing.cached("someone/pickled") is None  # as a reader of the configuration alone leaves it
    (place / "pytorch_model.bin").write_bytes(b"")
    assert importing.cached("someone/pickled") == importing.locate("someone/pickled") == place


def test_one_of_the_files_of_a_repository_is_named_behind_a_colon(cache: Path) -> None:
    params, place = foreign.random_params(foreign.MICRO), hub_cache.snapshot(cache, "someone/eight")
    foreign.write_script(place, params, foreign.MICRO)
    foreign.write_tower(place / "towers" / "bert", params, foreign.MICRO, "text")
    for variant in ("dt", "g"):
        shutil.copy(place / "epoch_10.safetensors", place / f"{variant}.safetensors")
    with pytest.raises(UserError, match=r"holds 3 weight files \(dt.safetensors, .*ORG/NAME:FILE"):
        importing.load_model("someone/eight")
    for name in ("someone/eight:g.safetensors", f"someone/eight:g.safetensors@{hub_cache.COMMIT}"):
        assert importing.cached(name) == importing.locate(name) == place / "g.safetensors"
        assert importing.load_model(name).spec == foreign.MICRO
    for name in ("someone/eight:towers/bert", "someone/eight:towers/bert/model.safetensors"):
        jax.tree.map(np.testing.assert_array_equal, importing.load_text_tower(name)[1], params["text"])
    for name in ("someone/eight:h.safetensors", "someone/eight:none"):
        with pytest.raises(UserError, match=f"{name}: someone/eight came without"):
            importing.locate(name)
        assert importing.cached(name) is None


def test_of_a_named_file_nothing_but_it_and_the_texts_beside_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **named: asked.append({"n": name, **named}) or "/none"
    )
    with pytest.raises(UserError, match="came without"):
        importing.locate("a/b:fold/dt.safetensors@v1")
    assert asked[0]["n"] == "a/b" and asked[0]["revision"] == "v1"
    names = ("fold/dt.safetensors", "fold/g.safetensors", "dt.safetensors", "fold/vocab.txt", "fold/dt.bin")
    patterns = {"allow_patterns": asked[0]["allow_patterns"], "ignore_patterns": asked[0]["ignore_patterns"]}
    assert list(filter_repo_objects(names, **patterns)) == ["fold/dt.safetensors", "fold/vocab.txt"]
    with pytest.raises(UserError, match="came without"):
        importing.locate("a/b:fold/model.safetensors.index.json")
    names = ("fold/model.safetensors.index.json", "fold/model-00001-of-00002.safetensors", "fold/other.safetensors")
    assert list(filter_repo_objects(names, allow_patterns=asked[1]["allow_patterns"])) == list(names[:2])


BAD = ["../secret/bert", "/etc/none", "bert", "a/b/c", "./text", "a/../b", "a/b:../c", "a/b:/c", "a/b:", "x" * 5000]


@pytest.mark.parametrize("place", BAD)
def test_what_is_no_id_is_never_asked_of_the_hub(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_fetch", lambda *arguments, **named: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match="no such file or folder, and no hub id"):
        importing.locate(place)
    assert importing.cached(place) is None
