"""The doors for weights of others: `model.init` and the towers' `init` in a configuration, and `--checkpoint`."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import foreign
import jax
import micro_export
import numpy as np
import pytest
from ml_collections import ConfigDict

from clinicclip import api, assemble, cli, evaluate, starting
from clinicclip import config as config_files
from clinicclip.data import builder
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError

SPEC = replace(foreign.MICRO, graph=foreign.GRAPH)


@pytest.fixture(scope="module")
def params():
    return foreign.random_params(SPEC)


@pytest.fixture(scope="module")
def towers(params, tmp_path_factory) -> Path:
    """A folder a tower, both with the numbers of `params`."""
    folder, two = tmp_path_factory.mktemp("towers"), {k: v for k, v in params.items() if "graph" not in k}
    foreign.write_tower(folder / "swin", two, foreign.MICRO, "image", "open_clip")
    foreign.write_tower(folder / "bert", two, foreign.MICRO, "text")
    foreign.WORDS.save(folder / "bert", foreign.LENGTH)
    return folder


@pytest.fixture(scope="module")
def whole(params, tmp_path_factory) -> Path:
    """A training script's folder: one weight file of its own names, and the tokenizer."""
    return foreign.write_script(tmp_path_factory.mktemp("script"), params, SPEC)


def config(variant: str = "n_dt_c", **init: str) -> ConfigDict:
    keys = [(f"model.{key.replace('_', '.')}", str(place)) for key, place in init.items()]
    sizes = [("model.image.image_size", "32"), ("data.text_length", str(foreign.LENGTH))]
    return config_files.load(f"configs/{variant}.py:size=micro", [*keys, *sizes])


def resolved(wanted: ConfigDict) -> ConfigDict:
    starting.require_weights(wanted)
    assemble.resolve(wanted, studies=64, tokenizer=foreign.WORDS)
    return wanted


def equal(ours, theirs) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_towers_bring_their_sizes_and_keep_the_runs_images(params, towers):
    wanted = resolved(config(image_init=towers / "swin", text_init=towers / "bert"))
    spec = assemble.model_spec(wanted)
    assert spec.image == replace(foreign.MICRO.image, drop_path=0.0)
    assert spec.text == replace(foreign.MICRO.text, dropout=0.0)
    start = assemble.initial_params(wanted)
    equal(start["image"], params["image"])
    equal(start["text"], params["text"])
    assert start["image_projection"]["kernel"].shape == (16, wanted.model.dim)
    told = list(starting.told(wanted))
    assert [line for line in told if "=" in line] == [
        f"model.image.init={towers / 'swin'}",
        f"model.text.init={towers / 'bert'}",
    ]
    assert any("Swin, 32 px" in line for line in told) and any("BERT, 2 layers" in line for line in told)


def test_a_whole_model_comes_before_towers_and_brings_all_it_has(params, towers, whole):
    wanted = resolved(config(init=whole, text_init=towers / "nowhere"))
    assert (wanted.model.dim, wanted.model.text.depth) == (10, 2)
    assert wanted.model.logit_scale == pytest.approx(np.log(10))
    start = assemble.initial_params(wanted)
    assert "graph" not in start
    for part in ("image", "text", "image_projection", "text_projection"):
        equal(start[part], params[part])
    told = "\n".join(starting.told(wanted))
    assert "net.report_encoder.bert.*" in told and "its graph tower is left behind" in told


def test_a_graph_tower_is_taken_where_it_fits_and_refused_where_not(params, whole):
    wanted = config("g", init=whole)
    wanted.model.features = "tfidf"
    wanted.model.graph.update({"hidden": 6, "width": 7})
    wanted.model.feature_dim = 5
    equal(assemble.initial_params(resolved(wanted))["graph"], params["graph"])
    wanted.model.graph.hidden = 8
    with pytest.raises(UserError, match=r"has the graph tower GcnSpec.*hidden=6"):
        assemble.initial_params(wanted)


def test_pooling_is_the_runs_where_no_file_says_it_and_else_must_agree(params, towers, whole, tmp_path):
    pooled = config(init=whole)
    pooled.model.text.pooling = "mean"
    assert "pooler" not in assemble.initial_params(resolved(pooled))["text"]
    (row,) = (line for line in starting.told(pooled) if line.startswith("text tower"))
    assert "pooling mean" in row and row.endswith("config.json; pooling as asked")
    two = {name: part for name, part in params.items() if "graph" not in name}
    pooled = config(init=foreign.write_whole(tmp_path / "clip", two, foreign.MICRO, "transformers"))
    pooled.model.text.pooling = "mean"
    with pytest.raises(UserError, match="text pooling pooler in training, mean here"):
        resolved(pooled)


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def other_mean(folder: Path) -> None:
    edit(folder / "preprocessor_config.json", lambda said: said.update(image_mean=[0.5] * 3))


SIZE = ("image size 32 in training, 64 here", {"model.image.image_size": "64"})
MEAN = ("mean of the images", {})
POOLING = ("text pooling pooler in training, mean here", {"model.text.pooling": "mean"})
DOORS = {"model.init": (SIZE, MEAN, POOLING), "model.image.init": (SIZE, MEAN), "model.text.init": (POOLING,)}


@pytest.mark.parametrize(("door", "said", "keys"), [(door, *other) for door, all_ in DOORS.items() for other in all_])
def test_weights_trained_otherwise_start_no_run_unless_forced(params, door, said, keys, tmp_path):
    two = {k: v for k, v in params.items() if "graph" not in k}
    folder = foreign.write_whole(tmp_path / "clip", two, foreign.MICRO, "transformers")
    if (said, keys) == MEAN:
        other_mean(folder)
    size = {} if door == "model.text.init" else {"model.image.image_size": "32"}
    wanted = {door: str(folder), "data.text_length": str(foreign.LENGTH)} | size | keys

    def start(force: str) -> ConfigDict:
        asked = wanted | {"model.force": force}
        return resolved(config_files.load("configs/n_dt_c.py:size=micro", list(asked.items())))

    with pytest.raises(UserError, match=f"^{door}=.*{said}") as told:
        start("False")
    assert "--config.model.force=True" in str(told.value)
    forced = start("True")
    assert any(line.startswith(f"note: {door} is forced: {said}") for line in starting.told(forced))
    text = assemble.initial_params(forced)["text"]
    assert ("pooler" in text) == (forced.model.text.pooling == "pooler")


def test_a_tower_is_not_asked_about_the_other(params, tmp_path):
    two = {k: v for k, v in params.items() if "graph" not in k}
    folder = foreign.write_whole(tmp_path / "clip", two, foreign.MICRO, "transformers")
    other_mean(folder)
    keys = [("model.text.init", str(folder)), ("data.text_length", str(foreign.LENGTH))]
    wanted = resolved(config_files.load("configs/n_dt_c.py:size=micro", keys))
    told = list(starting.told(wanted))
    assert told[0] == f"model.text.init={folder}" and not any("note:" in line for line in told)
    (left,) = (line for line in told if line.startswith("left out"))
    assert "text_projection.weight" not in told[1] and " more" in left and "no part of this tower" in left


def test_an_exports_own_word_is_held_against_its_tokenizer(micro_folder, tmp_path):
    folder = shutil.copytree(micro_folder, tmp_path / "export")
    wanted = [("model.init", str(folder)), ("model.image.image_size", "32"), ("data.text_length", "40")]
    load = partial(config_files.load, "configs/g.py:size=micro")
    graph = [("model.graph.hidden", "6"), ("model.graph.width", "7"), ("model.feature_dim", "5")]
    starting.resolve_sizes(load([*wanted, *graph]))
    words = micro_export.TOKENIZER.vocabulary
    Tokenizer((*words[:-2], words[-1], words[-2])).save(folder, micro_export.LENGTH)
    with pytest.raises(UserError, match=r"^model\.init=.*tokenizer .* in training"):
        starting.resolve_sizes(load([*wanted, *graph]))
    starting.resolve_sizes(load([*wanted, *graph, ("model.force", "True")]))


def test_a_tokenizer_of_another_tower_is_refused(towers):
    other = config(text_init=towers / "bert")
    with pytest.raises(UserError, match=r"its vocabulary has .* its text tower 1.. rows"):
        assemble.resolve(other, studies=64, tokenizer=train_wordpiece(("another text",), 110))


def test_weights_that_are_nowhere_are_told_with_the_ways_on():
    wanted = config(text_init="someone/absent")
    with pytest.raises(UserError, match=r"model\.text\.init=someone/absent: no such folder here.*text=scratch") as told:
        starting.require_weights(wanted)
    assert "\n" not in str(told.value)
    starting.resolve_sizes(wanted)  # plan needs no weights: the sizes written down stand
    assert wanted.model.text.width == 128


def test_evaluate_scores_weights_of_others_and_shows_how_it_read_them(whole, tmp_path, capsys):
    options = {"level": "easy", "studies": 40, "size": 64}
    builder.write("phantom", tmp_path / "data", options=options, say=lambda line: None)
    flags = [f"--data=phantom:{tmp_path / 'data'}", f"--output={tmp_path / 'out'}", "--suite=retrieval", "--draws=20"]
    assert cli.call(evaluate.main, evaluate.parser(), [f"--checkpoint={whole}", "--limit=8", *flags]) == 0
    printed = capsys.readouterr().out
    assert "net.img_proj.weight" in printed and " studies of split test" in printed
    missing = tmp_path / "empty"
    missing.mkdir()
    assert cli.call(evaluate.main, evaluate.parser(), [f"--checkpoint={missing}", *flags]) == 1
    assert "holds no weight file" in capsys.readouterr().err


def test_weights_with_another_vocabulary_or_other_pixels_are_not_used(params, tmp_path):
    two = {k: v for k, v in params.items() if "graph" not in k}
    folder = foreign.write_whole(tmp_path / "clip", two, foreign.MICRO, "transformers")
    train_wordpiece(("another text",), 110).save(folder, foreign.LENGTH)
    with pytest.raises(UserError, match="put the tokenizer it was trained with beside the weights"):
        api.load(str(folder))
    foreign.WORDS.save(folder, foreign.LENGTH)
    foreign.write_json(folder / "preprocessor_config.json", {"do_center_crop": True})
    with pytest.raises(UserError, match="way to resize images shortest in training, squash here") as told:
        api.load(str(folder))
    assert "force" in str(told.value)
    forced = api.load(str(folder), force=True)
    assert forced.describe()["forced"] == "way to resize images shortest in training, squash here"
    assert forced.spec.text == replace(foreign.MICRO.text, dropout=forced.spec.text.dropout)
