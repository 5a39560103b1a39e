"""Predict and embed at their doors: what they write, what they go on after, what they refuse."""

import csv
import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from safetensors import safe_open

from clinicclip import api, cli, embed, predict, sources, vectors
from clinicclip.data import schema
from clinicclip.errors import UserError
from clinicclip.exporting import parity


@pytest.fixture(autouse=True)
def loaded(micro_model: api.ClinicCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program gets the model that is compiled already."""
    monkeypatch.setattr(api, "load", lambda checkpoint, **named: micro_model)


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    """Seven radiographs, one of them damaged, in two folders."""
    place = tmp_path / "radiographs"
    (place / "b").mkdir(parents=True)
    for number in range(6):
        gray = np.roll(parity.fixed_pictures()[0], 31 * number, axis=1)
        Image.fromarray(gray).save(place / ("b" if number % 2 else ".") / f"{number}.png")
    (place / "b" / "6.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (place / "notes.md").write_text("no image")
    return place


def run(program, *flags: object) -> int:
    return cli.call(program.main, program.parser(), [*map(str, flags), "--checkpoint=x"])


def test_predict_writes_a_line_an_image_and_finding_and_names_what_it_cannot_read(
    radiographs: Path, micro_model: api.ClinicCLIP, capsys
) -> None:
    assert run(predict, radiographs, "--findings=edema,no_finding") == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [(row["image"], row["finding"]) for row in rows[2:4]] == [
        (str(radiographs / "2.png"), "edema"),
        (str(radiographs / "2.png"), "no_finding"),
    ]
    assert len(rows) == 12 and "6.jpg: image_unreadable" in printed.err and "1 of 7 images" in printed.err
    expected = micro_model.zero_shot([radiographs / "2.png"], ["edema", "no_finding"])
    for row, pair, positive in zip(rows[2:4], expected.pair[0], expected.positive[0], strict=True):
        assert float(row["pair"]) == pytest.approx(pair, abs=1e-5)
        assert float(row["positive"]) == pytest.approx(positive, abs=1e-5)


def test_predict_writes_a_record_an_image_by_default_of_the_fourteen(radiographs: Path, capsys) -> None:
    assert run(predict, radiographs / "0.png", radiographs / "b" / "1.png", "--output=json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(record["image"]).name for record in records] == ["0.png", "1.png"]
    assert tuple(records[0]["pair"]) == tuple(records[0]["positive"]) == schema.CHEXPERT


@pytest.mark.parametrize(
    ("program", "flags", "code", "says"),
    [
        (predict, ["x.png", "--findings=edemma"], 2, "did you mean edema"),
        (predict, ["empty", "--findings=edema"], 1, "names no image"),
        (predict, ["x.png", "--output=xml"], 2, "none of csv, json"),
        (embed, ["--output=out"], 2, "either images or --texts"),
        (embed, ["x.png", "x.png", "--output=out"], 1, "named twice"),
        (embed, ["x.png", "--output=empty/full"], 1, "no embeddings of ours"),
        (embed, ["--texts=none.txt", "--output=out"], 1, "cannot be read"),
        (embed, ["--texts=/dev/null", "--output=out"], 1, "/dev/null: is empty"),
    ],
)
def test_faults_are_one_line(program, flags, code, says, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "full").mkdir(parents=True)
    (tmp_path / "empty" / "full" / "thesis.doc").write_text("years of work")
    assert run(program, *flags) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


def test_embed_keeps_vectors_under_their_names_in_parts(
    radiographs: Path, micro_model: api.ClinicCLIP, tmp_path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "embeddings.json.tmp").write_text("{")  # as a kill at the very start leaves it
    assert run(embed, radiographs, f"--output={tmp_path / 'out'}", "--part=3") == 1
    names, rows = [], []
    for part in sorted((tmp_path / "out").glob("part-*")):
        with safe_open(part, "np") as file:
            names += json.loads(file.metadata()["name"])
            rows.append(file.get_tensor("embedding"))
    assert names == [str(radiographs / name) for name in ("0.png", "2.png", "4.png", "b/1.png", "b/3.png", "b/5.png")]
    np.testing.assert_allclose(np.concatenate(rows), micro_model.embed_images(names), atol=1e-5)


def test_embed_writes_parquet_with_the_same_content(radiographs: Path, tmp_path: Path) -> None:
    for form in vectors.FORMATS:
        assert run(embed, radiographs, f"--output={tmp_path / form}", f"--format={form}") == 1
    table = pyarrow.parquet.read_table(tmp_path / "parquet" / "part-00000.parquet")
    with safe_open(tmp_path / "safetensors" / "part-00000.safetensors", "np") as file:
        assert table["name"].to_pylist() == json.loads(file.metadata()["name"])
        np.testing.assert_array_equal(
            np.array(table["embedding"].to_pylist(), np.float32), file.get_tensor("embedding")
        )
    assert json.loads(table.schema.metadata[b"unreadable"]) == {str(radiographs / "b" / "6.jpg"): "image_unreadable"}


def test_embed_stopped_goes_on_with_the_same_command_and_refuses_another(
    radiographs: Path, micro_model: api.ClinicCLIP, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = tmp_path / "out"
    write: Callable = vectors.Store.write

    def stopping(store: vectors.Store, number: int, part: vectors.Part) -> None:
        if number == 1:
            signal.raise_signal(signal.SIGTERM)
        write(store, number, part)

    with monkeypatch.context() as patch:
        patch.setattr(vectors.Store, "write", stopping)
        assert run(embed, radiographs, f"--output={out}", "--part=3") == cli.PREEMPTED
    assert {path.name for path in out.iterdir()} == {"embeddings.json", "part-00000.safetensors"}
    first = (out / "part-00000.safetensors").stat()
    assert run(embed, radiographs, f"--output={out}", "--part=3") == 1
    assert len(list(out.iterdir())) == 4 and (out / "part-00000.safetensors").stat() == first
    assert "6 of 7 images embedded" in capsys.readouterr().out
    shutil.copy(radiographs / "0.png", radiographs / "7.png")
    assert run(embed, radiographs, f"--output={out}", "--part=3") == 1
    assert "made with other settings (count was 7, is 8; input_sha256" in capsys.readouterr().err
    (radiographs / "7.png").unlink()
    (out / "part-00000.safetensors").write_bytes(b"")
    assert run(embed, radiographs, f"--output={out}", "--part=3") == 1
    assert "is damaged; delete it" in capsys.readouterr().err


def test_embed_reads_texts_by_line_and_by_record(micro_model: api.ClinicCLIP, tmp_path: Path, capsys) -> None:
    texts = ["no pneumothorax.", "small left effusion."]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"s{k}", "text": t}) + "\n" for k, t in enumerate(texts))
    )
    for suffix, expected in ((".txt", ["1", "2"]), (".jsonl", ["s0", "s1"])):
        out = tmp_path / f"out{suffix}"
        assert run(embed, f"--texts={tmp_path / f'texts{suffix}'}", f"--output={out}") == 0
        with safe_open(out / "part-00000.safetensors", "np") as file:
            assert json.loads(file.metadata()["name"]) == expected
            np.testing.assert_allclose(file.get_tensor("embedding"), micro_model.embed_texts(texts), atol=1e-5)
    assert "2 of 2 texts embedded" in capsys.readouterr().out


def test_lists_name_files_beside_them_and_a_bad_line_is_told_by_number_alone(radiographs: Path, tmp_path) -> None:
    (radiographs / "list.txt").write_text("b/1.png\n\n0.png\n")
    assert sources.image_files([str(radiographs / "list.txt")]) == [radiographs / "b/1.png", radiographs / "0.png"]
    (radiographs / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(UserError, match="its name is not in UTF-8"):
        sources.image_files([str(radiographs)])
    (tmp_path / "texts.jsonl").write_text('{"text": "private"}\n{"txt": "private"}\n')
    with pytest.raises(UserError, match=r"texts\.jsonl line 2: expected") as caught:
        sources.texts(tmp_path / "texts.jsonl")
    assert "private" not in str(caught.value)
