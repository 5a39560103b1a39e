"""Configurations: the variants are what they claim, and every override is checked."""

import dataclasses
from pathlib import Path

import pytest

from clinicclip import assemble, reproduce
from clinicclip import config as config_files
from clinicclip.errors import UsageError, UserError

# variant -> (streams in use, graph tower, negation): the published table of variants
VARIANTS = {
    "baseline": ("", False, False),
    "dt": ("t", False, False),
    "dt_c": ("tc", False, False),
    "n": ("", False, True),
    "n_dt_c": ("tc", False, True),
    "g": ("g", True, False),
    "g_dtcg": ("tcg", True, False),
    "n_g_dtcg": ("tcg", True, True),
}
LETTER = {"text": "t", "clinical": "c", "graph": "g"}


@pytest.mark.parametrize("name", sorted(VARIANTS))
@pytest.mark.parametrize("arg", ["", ":demo"])
def test_each_variant_is_the_published_one(name: str, arg: str) -> None:
    spec = assemble.loss_spec(config_files.load(f"configs/{name}.py{arg}"))
    streams, graph, negation = VARIANTS[name]
    assert "".join(LETTER[stream] for stream in spec.streams) == streams
    assert (spec.graph > 0, spec.negation > 0, spec.clip > 0) == (graph, negation, True)


def test_entail_is_n_with_clinical_soft_labels_its_own_term_label_sentences_and_temperature() -> None:
    ours, published = (config_files.load(f"configs/{name}.py:data=phantom,size=micro") for name in ("entail", "n"))
    expected = dataclasses.replace(assemble.loss_spec(published), clinical=1.0, entailment=3.0)
    assert assemble.loss_spec(ours) == expected
    changed = ["data.label_sentences", "loss.clinical", "loss.entailment", "model.logit_scale"]
    assert config_files.differences(published, ours) == changed


def test_off_clip_has_its_two_terms_its_filter_and_the_published_start() -> None:
    config = config_files.load("configs/off_clip.py")
    spec = assemble.loss_spec(config)
    assert (spec.clip, spec.off, spec.abnormal) == (0.0, 1.0, 1.0)
    assert config.model.logit_bias == -10.0
    assert assemble.train_spec(config).sentence_filter == "abnormal"


def test_the_default_is_the_full_size_model_on_mimic() -> None:
    config = config_files.load("configs/n_g_dtcg.py")
    assert (config.data.name, config.model.image.embed_dim, config.model.text.width) == ("mimic_cxr", 96, 768)


def test_a_fold_is_held_out_and_the_claim_fold_is_never_trained_on() -> None:
    data = config_files.load("configs/dt_c.py:data=openi,size=micro,fold=1").data
    assert (data.train, data.test) == ("fold0+fold2+fold3", "fold1")
    claim = config_files.load("configs/dt_c.py:data=openi,size=micro,fold=4").data
    assert (claim.train, claim.validation, claim.test) == ("fold0+fold1+fold2", "fold3", "fold4")


def test_overrides_take_the_type_of_the_default() -> None:
    overrides = [("loss.alpha", "1"), ("model.image.depths", "(1,1)"), ("model.remat", "true"), ("data.dir", "x")]
    config = config_files.load("configs/dt.py:demo", overrides)
    assert (config.loss.alpha, config.model.image.depths, config.model.remat) == (1.0, (1, 1), True)


@pytest.mark.parametrize(
    ("name", "override", "says"),
    [
        ("configs/n_g_dtg.py", None, "did you mean configs/n_g_dtcg.py?"),
        ("configs/dt.py:dta=openi", None, "did you mean data?"),
        ("configs/dt.py:data=mimic", None, "one of mimic_cxr"),
        ("configs/dt.py:data=openi,fold=7", None, "folds 0 to 4"),
        ("configs/dt.py:fold=3", None, "only data=openi"),
        ("configs/dt.py:demo,data=openi", None, "stands alone"),
        ("configs/dt.py", ("loss.alhpa", "1.0"), "did you mean loss.alpha?"),
        ("configs/dt.py", ("epochs", "0.5"), "takes an int"),
        ("configs/dt.py", ("loss", "1"), "is a group"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(name: str, override: tuple[str, str] | None, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        config_files.load(name, [override] if override else [])


def test_a_stored_config_reads_back_equal(tmp_path: Path) -> None:
    config = config_files.load("configs/n_g_dtcg.py:demo")
    config_files.save(config, tmp_path / "config.json")
    assert config_files.differences(config, config_files.restore(tmp_path / "config.json")) == []
    with pytest.raises(UserError, match="not found"):
        config_files.restore(tmp_path / "other.json")


def test_differences_are_named() -> None:
    old, new = (config_files.load("configs/dt.py", [("seed", str(s))]) for s in (0, 1))
    assert config_files.differences(old, new) == ["seed"]


def test_the_default_workdir_carries_config_and_argument() -> None:
    assert config_files.default_workdir("configs/dt_c.py:data=openi,fold=0") == Path("runs/dt_c-data_openi-fold_0")


def test_every_variant_has_a_configuration_and_is_reproduced() -> None:
    known = {path.stem for path in Path("configs").glob("*.py")} - {"__init__", "common"}
    assert known == set(reproduce.VARIANTS)
