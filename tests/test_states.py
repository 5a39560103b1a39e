"""What a frozen text tower makes of every text a step can show, computed once instead of in every step."""

import dataclasses
from pathlib import Path

import bert_folder
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loading import make_record

from clinicclip import annotate, assemble, config, dataset, frozen, starting
from clinicclip.data import draws, label_sentences, packing
from clinicclip.data.draws import DrawStudy
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training.embed import check

RECORDS = [make_record(index) for index in range(6)]


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_stored_states_stand_for_whatever_is_drawn(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert_folder.write(tmp_path / "bert", pooling="pooler")
    settings = {"init": tmp_path / "bert", "frozen": True, "pooling": pooling, "dropout": 0.5}
    chosen = config.load(
        "configs/entail.py:data=phantom,size=micro",
        [(f"model.text.{key}", str(value)) for key, value in settings.items()]
        + [
            ("data.dir", str(tmp_path)),
            ("data.text_mode", "report"),
            ("data.text_length", "12"),
            ("data.label_findings", "all"),
        ],
    )
    tokenizer = Tokenizer.load(tmp_path / "bert")
    assemble.resolve_widths(chosen, tokenizer.vocab_size)
    spec, model = assemble.train_spec(chosen), ClinicCLIP(assemble.model_spec(chosen))
    assert spec.states
    table = dataset.frozen_states(chosen, {"files": {}}, RECORDS, tmp_path)
    known = DrawStudy(spec, tokenizer, None, table)
    read = DrawStudy(dataclasses.replace(spec, states=False), tokenizer, None)
    places = [(record, seed) for record in [*RECORDS, draws.empty_record()] for seed in range(8)]
    ours = [known.random_map(record, np.random.default_rng(seed)) for record, seed in places]
    theirs = [read.random_map(record, np.random.default_rng(seed)) for record, seed in places]
    assert 0 < sum(study["truncated"] for study in ours) < len(places)
    params = {"params": jax.tree.map(jnp.asarray, starting.initial_params(chosen, model.spec))}
    for name in ("text", "negated"):
        said = [study for study in theirs if study[f"{name}_tokens"]]
        packed = map(jnp.asarray, packing.pack([study[f"{name}_tokens"] for study in said], length=12))
        found = np.stack([study[f"{name}_state"] for study in ours])
        assert found.any(axis=1).tolist() == [bool(study[f"{name}_tokens"]) for study in theirs]
        states = jnp.asarray(found[found.any(axis=1)])
        computed = jax.jit(lambda *texts: model.apply(params, *texts, method=model.embed_text))(*packed)
        np.testing.assert_allclose(model.apply(params, states, method=model.embed_state), computed, atol=1e-5)

    monkeypatch.setattr(frozen, "States", None)  # the next run finds them
    again = dataset.frozen_states(chosen, {"files": {}}, RECORDS, tmp_path / "other")
    assert again is not None and table is not None
    np.testing.assert_array_equal(again.lookup(label_sentences.every()), table.lookup(label_sentences.every()))
    assert [path.parent for path in tmp_path.rglob("features.json")] == list(
        (tmp_path / annotate.FOLDER).glob("states*")
    )


@pytest.mark.parametrize(
    "key, value",
    [("data.text_mode", "sentences"), ("data.sentence_filter", "abnormal"), ("model.text.frozen", "False")],
)
def test_texts_that_cannot_be_listed_and_towers_that_learn_are_read_in_the_step(key: str, value: str) -> None:
    fixed = [("model.text.init", "FOLDER"), ("model.text.frozen", "True")]
    listed = config.load("configs/dt_c.py:data=openi,size=micro", fixed)
    assert assemble.train_spec(listed).states
    assert not assemble.train_spec(config.load("configs/dt_c.py:data=openi,size=micro", [*fixed, (key, value)])).states


def test_states_are_refused_by_a_model_that_trains_its_text_tower() -> None:
    chosen = config.load("configs/baseline.py:data=phantom,size=micro", [])
    model, loss = ClinicCLIP(assemble.model_spec(chosen)), assemble.loss_spec(chosen)
    with pytest.raises(UserError, match="states of a text tower that is trained"):
        check(model, {"image": jnp.zeros((1, 4, 4)), "text_state": jnp.zeros((1, 8))}, loss)
