"""Exports: what is in the folder, what is refused and why, and that a folder is whole or not there."""

import dataclasses
import json
import shutil

import jax
import micro_export
import numpy as np
import pytest
from micro_export import LENGTH, ORIGIN, TOKENIZER, export
from micro_export import SPEC as MICRO

from clinicclip import api, cli, exporting
from clinicclip import export as program
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError
from clinicclip.exporting import contract, load_export, parity
from clinicclip.exporting.card import public
from clinicclip.exporting.dialects import config_files, dialects, timm_name
from clinicclip.models import tensor_file
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec, init_params
from clinicclip.models.swin import SwinSpec

MEASURED = {"value": 0.75, "ci_low": 0.5, "ci_high": 0.875, "n": 9, "data": "phantom", "split": "test"}
COMMON = {
    "README.md",
    "clinicclip.json",
    "extra.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}
TRANSFORMERS = {"config.json", "model.safetensors"}
OPEN_CLIP = {"open_clip_config.json", "open_clip_model.safetensors", "text/config.json"}


@pytest.fixture(autouse=True)
def without_torch():
    with micro_export.without_torch():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("exports") / "micro"
    with micro_export.without_torch():
        rows = [MEASURED | {"metric": f"zero_shot/phantom/auroc/pair/{row}"} for row in ("macro", "edema")]
        assert export(output, results=rows) is None
    return output


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_micro_model_is_written_in_the_transformers_dialect_alone(folder):
    assert files(folder) == COMMON | TRANSFORMERS
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.safetensors")} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_reading_an_export_gives_the_model_back_bit_for_bit(folder):
    export = load_export(folder)
    assert export.spec == MICRO
    jax.tree.map(np.testing.assert_array_equal, export.params, init_params(MICRO, 0))
    assert Tokenizer.load(export.tokenizer) == TOKENIZER
    assert export.meta.text_length == LENGTH
    assert export.meta.origin == ORIGIN
    assert export.meta.config["data"]["dir"] == "data"


def test_the_three_text_lengths_and_the_vocabulary_agree(folder):
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == LENGTH
    text = json.loads((folder / "config.json").read_text())["text_config"]
    rows = tensor_file.read(folder / "model.safetensors")["text_model.embeddings.word_embeddings.weight"]
    assert text["vocab_size"] == len(rows) == TOKENIZER.vocab_size
    contents = config_files(ClipSpec(SwinSpec(), MICRO.text), text_length=LENGTH, logit_scale=2.0)
    assert contents["open_clip_config.json"]["model_cfg"]["text_cfg"]["context_length"] == LENGTH
    assert contents["text/config.json"] == {"architectures": ["BertModel"], **text}


def test_the_card_says_what_a_stranger_must_know(folder):
    text = (folder / "README.md").read_text()
    for said in (
        "license: apache-2.0",
        "Research use only. Not a medical device",
        "PHANTOM data",
        "Terms of the data: Apache-2.0",
        "training 1,200",
        "| zero_shot/phantom/auroc/pair/macro | 0.750 | 0.500 to 0.875 | 9 | phantom, test |",
        "VisionTextDualEncoderModel.from_pretrained",
        "logit bias",
        "equality was not measured",
        "No open_clip file",
    ):
        assert said in text
    assert "someone" not in text and "create_model_and_transforms" not in text
    assert text.index("auroc/pair/macro") < text.index("By finding") < text.index("auroc/pair/edema")


def test_absolute_paths_of_a_configuration_keep_their_last_name_only():
    assert public({"a": ["/x/y", "b/c"], "d": ("~/z", 2)}) == {"a": ["y", "b/c"], "d": ["z", 2]}


@pytest.mark.parametrize(
    ("image", "pooling", "expected"),
    [
        (SwinSpec(), "pooler", ("transformers", "open_clip")),
        (SwinSpec(depths=(2, 2, 18, 2)), "pooler", ("transformers", "open_clip")),
        (SwinSpec(), "mean", ("open_clip",)),
        (SwinSpec(), "cls", ("open_clip",)),
        (SwinSpec(depths=(2, 2, 8, 2)), "pooler", ("transformers",)),
        (SwinSpec(image_size=448), "pooler", ("transformers",)),
        (MICRO.image, "pooler", ("transformers",)),
    ],
)
def test_dialects_are_those_that_can_say_the_model(image, pooling, expected):
    assert dialects(ClipSpec(image, BertSpec(pooling=pooling))) == expected


def test_registered_swins_have_their_timm_names():
    assert timm_name(SwinSpec()) == "swin_tiny_patch4_window7_224"
    base = SwinSpec(embed_dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32))
    assert timm_name(base) == "swin_base_patch4_window7_224"
    assert timm_name(dataclasses.replace(base, mlp_ratio=2.0)) is None


def test_what_no_dialect_can_say_is_refused_with_the_reason(tmp_path):
    mean = dataclasses.replace(MICRO, text=dataclasses.replace(MICRO.text, pooling="mean"))
    with pytest.raises(UserError, match="only open_clip has text pooling 'mean', and it can only name Swin tiny"):
        export(tmp_path / "out", spec=mean)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_or_length_of_another_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has \d+ pieces, the text tower \d+ rows"):
        export(tmp_path / "out", tokenizer=train_wordpiece(parity.TEXTS, 120))
    with pytest.raises(UserError, match="texts of 99 tokens exceed the 40 positions"):
        export(tmp_path / "out", text_length=99)
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_of_restricted_reports_does_not_leave(tmp_path):
    with pytest.raises(UserError, match="may hold names"):
        export(tmp_path / "out", origin=dataclasses.replace(ORIGIN, vocabulary_public=False))


def test_a_folder_that_is_no_export_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds files that are no export"):
        export(tmp_path)
    assert files(tmp_path) == {"thesis.txt"}
    with pytest.raises(UserError, match="is a file"):
        export(tmp_path / "thesis.txt")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for place in (".", tmp_path / "empty"):
        with pytest.raises(UserError, match="is a mount or where this runs"):
            export(place)


def test_an_empty_folder_and_an_earlier_export_are_replaced(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    export(output)
    (output / "notes.txt").write_text("the owner's")
    with pytest.raises(UserError, match=r"holds files beside an export \(notes.txt, 1 in all\)"):
        export(output)
    (output / "notes.txt").unlink()
    (output / "README.md").write_text("completed by its owner")
    export(output, params=init_params(MICRO, 1))
    assert files(output) == COMMON | TRANSFORMERS
    jax.tree.map(np.testing.assert_array_equal, load_export(output).params, init_params(MICRO, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_halfway_leaves_what_was_there(tmp_path, monkeypatch):
    def full_disk(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.folder, "card", full_disk)
    with pytest.raises(OSError, match="No space"):
        export(tmp_path / "out")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(parity, "_installed", lambda *modules: False)
    export(tmp_path / "out")
    monkeypatch.setattr(exporting.folder, "card", full_disk)
    with pytest.raises(OSError, match="No space"):
        export(tmp_path / "out", params=init_params(MICRO, 1))
    jax.tree.map(np.testing.assert_array_equal, load_export(tmp_path / "out").params, init_params(MICRO, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damaged_exports_are_refused(tmp_path):
    output = tmp_path / "out"
    with pytest.raises(UserError, match="not an export of ours"):
        load_export(output)
    export(output)
    meta = json.loads((output / "clinicclip.json").read_text())
    (output / "extra.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"extra\.safetensors: absent or changed"):
        load_export(output)
    (output / "clinicclip.json").write_text(json.dumps(meta | {"format": 2}))
    with pytest.raises(UserError, match="format 2, this version reads 1"):
        load_export(output)
    (output / "clinicclip.json").write_text("{")
    with pytest.raises(UserError, match=r"clinicclip\.json is damaged \(not JSON"):
        load_export(output)


def test_mean_pooling_at_a_registered_size_is_an_open_clip_matter_alone():
    spec = ClipSpec(SwinSpec(), dataclasses.replace(MICRO.text, pooling="mean"))
    contents = config_files(spec, text_length=LENGTH, logit_scale=2.0)
    assert set(contents) == {"preprocessor_config.json", "open_clip_config.json", "text/config.json"}
    assert contents["open_clip_config.json"]["model_cfg"]["text_cfg"]["hf_pooler_type"] == "mean_pooler"


def test_a_registered_size_is_written_in_both_dialects(tmp_path, folder, monkeypatch):
    golden = contract.golden(folder / "model.safetensors")
    monkeypatch.setattr(parity, "sample", lambda *arguments: golden)  # no compiling at full size
    export(tmp_path / "out", spec=ClipSpec(SwinSpec(), MICRO.text))
    assert files(tmp_path / "out") == COMMON | TRANSFORMERS | OPEN_CLIP
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'create_model_and_transforms("local-dir:.")' in text and "- open_clip\n" in text


def test_the_program_writes_an_export_and_says_so(folder, tmp_path, capsys):
    source = shutil.copytree(folder, tmp_path / "source")
    rows = [MEASURED | {"metric": "cxr_align/task_a"}]
    (source / "report").mkdir()
    same = api.load(str(source)).describe()
    others = [same | {"parameters_sha256": "other"}, same | {"pooling": "cls"}, same | {"forced": "text length"}]
    for told in (same, *others):
        said = "| cxr_align/task_a | 0.750 |" if told is same else "Not evaluated."
        stored = [row | told for row in rows]
        (source / "report" / "results.json").write_text(json.dumps(stored))
        flags = [f"--checkpoint={source}", f"--output={tmp_path / 'out'}"]
        assert cli.call(program.main, program.parser(), flags) == 0
        assert said in (tmp_path / "out" / "README.md").read_text()
    assert "no parity.json: equality was not measured" in capsys.readouterr().out
    for damaged in ("[{", "{}x", '["a"]', json.dumps([same])):
        (source / "report" / "results.json").write_text(damaged)
        assert cli.call(program.main, program.parser(), flags) == 1
        assert "results.json is damaged" in capsys.readouterr().err
    jax.tree.map(np.testing.assert_array_equal, load_export(tmp_path / "out").params, init_params(MICRO, 0))


def test_the_program_tells_a_fault_in_one_line(tmp_path, capsys):
    flags = [f"--checkpoint={tmp_path}", f"--output={tmp_path / 'out'}"]
    assert cli.call(program.main, program.parser(), flags) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_will_be_published_names_its_place_and_how_to_send_it(folder, tmp_path, capsys):
    """Of the transformers dialect alone the id goes into the card; open_clip also finds its text tower by it."""
    flags = [f"--checkpoint={folder}", f"--output={tmp_path / 'out'}"]
    assert cli.call(program.main, program.parser(), [*flags, "--hub=someone/clip"]) == 0
    assert f"python -m clinicclip.push {tmp_path / 'out'}\n" in capsys.readouterr().out
    assert 'folder = "someone/clip"' in (tmp_path / "out" / "README.md").read_text()
    for name in ("clip", "a/b/c", "some one/clip", ""):
        assert cli.call(program.main, program.parser(), [*flags, f"--hub={name}"]) == 2
    contents = config_files(ClipSpec(SwinSpec(), MICRO.text), text_length=LENGTH, logit_scale=2.0, hub="someone/clip")
    text = contents["open_clip_config.json"]["model_cfg"]["text_cfg"]
    assert (text["hf_model_name"], text["hf_tokenizer_name"]) == ("someone/clip-text", "someone/clip")


def test_a_place_that_takes_no_folder_is_one_line(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(UserError, match=r"out: nothing can be written there \(Permission denied\)"):
        export(tmp_path / "out")
