"""CheXbert as an option of prepare: labels of the impression, and one line where something is missing."""

import sys
from pathlib import Path

import bert_folder
import chexbert_folder
import numpy as np
import preparing
import pytest

from clinicclip import cli, labeller, prepare
from clinicclip.data import builder
from clinicclip.data.manifest import read_manifest
from clinicclip.data.schema import ABSENT, CHEXPERT, PRESENT, UNCERTAIN, UNKNOWN, Drop
from clinicclip.errors import UserError
from clinicclip.models import chexbert

IMPRESSIONS = ("Small left pleural effusion.", "Lungs are clear.", "", "The heart is normal. Lungs are clear.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chexbert")
    chexbert_folder.write(path)
    return path


def test_conditions_are_the_fourteen_and_a_class_is_the_highest_score() -> None:
    assert sorted(chexbert.CONDITIONS) == sorted(CHEXPERT) and chexbert.CONDITIONS[-1] == "no_finding"
    params = {
        f"head_{i}": {"kernel": np.zeros((2, n), np.float32), "bias": np.eye(n, dtype=np.float32)[i % n]}
        for i, n in enumerate(chexbert.HEAD_CLASSES)
    }
    found = chexbert.classes(chexbert.logits(params, np.ones((3, 2), np.float32)))
    assert found.tolist() == [[i % n for i, n in enumerate(chexbert.HEAD_CLASSES)]] * 3


def test_equal_impressions_have_equal_labels_whatever_is_read_with_them(folder: Path) -> None:
    join = labeller.Join(folder)
    together = join.label(IMPRESSIONS)
    assert together == [labels for text in IMPRESSIONS for labels in labeller.Join(folder).label([text])]
    assert together[2] == {} and all(set(labels) == set(CHEXPERT) for labels in together if labels)
    assert {value for labels in together for value in labels.values()} == {PRESENT, ABSENT, UNCERTAIN}


def test_what_is_no_study_passes_in_its_place(folder: Path) -> None:
    drops = [Drop("image", str(i), "any") for i in range(600)]
    assert list(labeller.Join(folder)(iter(drops))) == drops


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = ["FINDINGS: There is a fracture.\n" + f"IMPRESSION: {said}" * bool(said) for said in IMPRESSIONS]
    changes = [{"text": text, "labels": {"Edema": 1}, "split": "train"} for text in texts]
    return preparing.pairs(tmp_path / "in", len(texts), *changes)


def prepared(source: Path, output: Path, *flags: str) -> int:
    return preparing.call("folder", f"--source={source}", f"--output={output}", *flags)


def test_prepare_stores_its_labels_instead_of_the_releases_own(source: Path, folder: Path, tmp_path: Path) -> None:
    assert prepared(source, tmp_path / "out", f"--labeller={folder / 'chexbert.safetensors'}") == 0
    expected = labeller.Join(folder).label(IMPRESSIONS)
    stored = {record["image_id"]: record for record in builder.open_source(tmp_path / "out", "train")}
    for i, labels in enumerate(expected):
        assert stored[f"{i}.png"]["labels"].tolist() == [labels.get(name, UNKNOWN) for name in CHEXPERT]
    told = read_manifest(tmp_path / "out")["settings"]["labeller"]
    assert told["model"] == "CheXbert" and len(told["sha256"]) == 64


def test_data_labelled_otherwise_are_not_taken_for_these(
    source: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepared(source, tmp_path / "out") == 0
    assert prepared(source, tmp_path / "out", f"--labeller={folder}") == 1
    assert "already prepared with labeller=None" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--labeller=nowhere"], 1, "--labeller=nowhere: no such file; expected CheXbert's file"),
        (["--labeller=."], 1, "expected one of chexbert.safetensors"),
        (["--labeller_tokenizer=."], 2, "belongs to --labeller=FILE"),
    ],
)
def test_a_labeller_that_is_not_there_is_one_line(
    flags: list[str], code: int, words: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepared(source, tmp_path / "out", *flags) == code
    assert words in capsys.readouterr().err


def test_a_file_without_vocabulary_says_where_to_get_it(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "chexbert.safetensors"
    alone.write_bytes((folder / "chexbert.safetensors").read_bytes())
    with pytest.raises(UserError, match="bert-base-uncased beside its file, or its folder as --labeller_tokenizer"):
        labeller.Join(alone)
    assert labeller.Join(alone, folder).label(IMPRESSIONS) == labeller.Join(folder).label(IMPRESSIONS)


def test_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    bert_folder.tokenizer(size=112).save(tmp_path, 512)
    with pytest.raises(UserError, match="a vocabulary of 112 pieces"):
        labeller.Join(folder, tmp_path).label(["Clear."])


def test_faulty_weights_are_named(folder: Path, tmp_path: Path) -> None:
    tensors = chexbert_folder.write(tmp_path / "short", positions=64)
    with pytest.raises(UserError, match="knows 64 positions"):
        labeller.Join(tmp_path / "short").label(["Clear."])
    del tensors["module.linear_heads.13.bias"]
    with pytest.raises(UserError, match=r"x: .*1 missing: linear_heads\.13\.bias"):
        chexbert.from_torch(tensors, "x")
    with pytest.raises(UserError, match="is not CheXbert's file"):
        chexbert.from_torch({"weight": np.zeros(3, np.float32)}, "x")


def test_the_published_file_without_pytorch_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chexbert.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'clinicclip\[torch\]'"):
        labeller.Join(tmp_path / "chexbert.pth", folder).label(["Clear."])


def test_a_generated_world_needs_no_labeller(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["phantom", f"--output={tmp_path / 'out'}", f"--labeller={folder}"]
    assert cli.call(prepare.main, prepare.parser(), argv) == 2
    assert "--labeller: phantom is generated with graphs and labels of its own" in capsys.readouterr().err
