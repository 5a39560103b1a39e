"""Which guest a place holds is told by its files, and of OpenAI's layout by every name and shape."""

import json
from pathlib import Path

import pytest
from openai_layout import shapes

from clinicclip import guests
from clinicclip.guests import openai


def test_a_whole_state_of_openais_layout_has_no_fault() -> None:
    assert openai.recognised(shapes())
    assert not any(openai.faults(shapes() | dict.fromkeys(openai.SETTINGS, ())).values())


def test_every_fault_of_one_is_named() -> None:
    state = shapes()
    del state["ln_final.bias"], state["transformer.resblocks.0.mlp.c_fc.weight"]
    state |= {"visual.adapter": (3,), "visual.proj": (5, 8)}
    assert openai.recognised(state)
    assert openai.faults(state) == {
        "missing": ["ln_final.bias", "transformer.resblocks.0.mlp.c_fc.weight"],
        "unexpected": ["visual.adapter"],
        "of another shape": ["visual.proj (5, 8) instead of (8, 5)"],
    }


@pytest.mark.parametrize("lost", sorted(openai.ANCHORS))
def test_what_lacks_a_sign_of_the_layout_is_not_taken_for_it(lost: str) -> None:
    state = shapes()
    del state[lost]
    assert not openai.recognised(state)
    assert not openai.recognised(shapes() | {lost: (1,) * (openai.ANCHORS[lost] + 1)})


def test_configurations_tell_the_library(tmp_path: Path) -> None:
    assert guests.find(tmp_path) == guests.find(tmp_path / "absent") == ""
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {}, "vision_config": {}}))
    assert guests.find(tmp_path) == "transformers"
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert guests.find(tmp_path) == "open_clip"
