"""RadGraph's file: streamed in little memory, joined by study, and told in one line where it is broken."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import preparing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicclip import cli, prepare
from clinicclip.data import builder, graphs, radgraph, records
from clinicclip.data.manifest import DROPPED, read_manifest
from clinicclip.data.radgraph import RadGraphFile, key_of, places
from clinicclip.errors import UserError

ROOT = Path(__file__).parents[1]


def entry(words: str = "small effusion", label: str = "OBS-DP", **changes: Any) -> dict[str, Any]:
    first, second = words.split()
    entities = {
        "1": {"tokens": first, "label": label, "start_ix": 0, "end_ix": 0, "relations": [["modify", "2"]]},
        "2": {"tokens": second, "label": label, "start_ix": 1, "end_ix": 1, "relations": []} | changes,
    }
    return {"text": words, "entities": entities}


def write(path: Path, entries: Mapping[str, Any], **options: Any) -> Path:
    path.write_text(json.dumps(entries, **options), encoding="utf-8")
    return path


def test_names_of_mimic_are_patient_and_study_and_others_a_study() -> None:
    assert key_of("p10/p10000032/s50414267.txt") == ("10000032", "50414267")
    assert key_of("files/p10/p10000032/s50414267.txt") == ("10000032", "50414267")
    assert key_of("s50414267") == ("", "50414267")
    assert key_of("visit-3.txt") == ("", "visit-3") and key_of("17") == ("", "17")


@pytest.mark.parametrize(
    "shape",
    [
        entry(),
        entry(label="Observation::definitely present"),
        entry() | {"data_source": None, "data_split": "inference"},  # as the radgraph package writes it
    ],
    ids=["1.0", "XL", "package"],
)
def test_every_form_of_the_file_gives_the_same_graph(shape: dict[str, Any], tmp_path: Path) -> None:
    found = RadGraphFile(write(tmp_path / "g.json", {"p1/p10/s7.txt": shape}))
    for name in ("7", "s7", "p1/p10/s7.txt"):
        assert found.graph(name) == (("small", "effusion"), ((0, 0), (1, 1)), (1, 1), ((0, 1),))
    assert found.graph("8") is None and len(found) == 1


NAMES = st.dictionaries(st.text(max_size=8).map(lambda name: f"n{name}"), st.text(max_size=30), max_size=6)


@settings(max_examples=60, deadline=None)
@given(NAMES, st.sampled_from([1, 3, 17, 1 << 20]), st.booleans(), st.sampled_from([None, 1]))
def test_any_window_finds_what_reading_the_whole_file_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str], window: int, ascii_only: bool, indent: int | None
) -> None:
    entries = {name: {"text": text, "entities": {}} for name, text in texts.items()}
    path = write(tmp_path_factory.mktemp("g") / "g.json", entries, ensure_ascii=ascii_only, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radgraph, "WINDOW", window)
        found = {place.name: json.loads(path.read_bytes()[place.start : place.end]) for place in places(path)}
    assert found == entries


@pytest.mark.parametrize(
    "content, words",
    [
        ('{"a": {"text": "", "entities": {}}, "a.txt": {"text": "", "entities": {}}}', "study a has an entry already"),
        ('{"a": {"text": ""}}', "entry a: not a graph"),
        ('{"a": 3}', "entry a: not a graph"),
        ('{"a": {"text": "", "entities": {}}, "b": {"text": "", "ent', "entry b is cut short"),
        ('{"a": {"text": "", "entities": {}}', "what follows entry a is cut short"),
        ('{"a": {"text": "", "entities": {}} "b": 1}', "what follows entry a is cut short or not RadGraph"),
        ('{"a": {"text": \'\'}}', "entry a is cut short or not RadGraph"),
        ('{3: {"text": "", "entities": {}}}', "its first entry"),
        ("[]", "its beginning"),
        ("", "its beginning"),
        ("{}", "holds no graphs"),
        ("\x1f\x8b", "gunzip"),
    ],
)
def test_a_broken_file_is_one_line_with_file_and_entry(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=words) as caught:
        RadGraphFile(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken, words",
    [
        (entry(label="OBS-XX"), "unknown entity label 'OBS-XX'"),
        (entry(end_ix=9), "spans tokens 1-9 of 2"),
        (entry(relations=[["modify", "9"]]), "points at entity 9"),
        (entry(relations=7), "field of another type"),
        (entry(start_ix="first"), "field of another type"),
        ({"text": "small effusion", "entities": {"1": {"label": "OBS-DP"}}}, "lacks 'start_ix'"),
        ({"text": "small effusion", "entities": None}, "field of another type"),
    ],
)
def test_a_broken_entry_is_one_line_without_its_text(broken: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = RadGraphFile(write(tmp_path / "graphs.json", {"p1/p10/s7.txt": broken}))
    with pytest.raises(UserError, match=words) as caught:
        found.graph("7")
    assert f"{tmp_path / 'graphs.json'}: entry 7" in str(caught.value) and "effusion" not in str(caught.value)


def test_an_entry_as_long_as_a_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(radgraph, "LONGEST", 1000)
    monkeypatch.setattr(radgraph, "WINDOW", 100)
    path = tmp_path / "graphs.json"
    path.write_text('{"a": {"text": "' + "x" * 5000)
    with pytest.raises(UserError, match="entry a is cut short or not"):
        RadGraphFile(path)


def test_a_file_takes_memory_by_its_entries_not_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    one = json.dumps(entry() | {"text": "small effusion " + "word " * 1600})
    with path.open("w") as file:
        file.write("{" + ", ".join(f'"p1/p10/s{i}.txt": {one}' for i in range(6000)) + "}")
    script = """
import resource, sys
from pathlib import Path
from clinicclip.data.radgraph import RadGraphFile
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
found = RadGraphFile(Path(sys.argv[1]))
assert len(found) == 6000 and found.graph("5999").spans
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 45 << 20 and float(done.stdout) < 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    report = {"text": "FINDINGS: There is a small effusion.", "split": "train"}
    return preparing.pairs(tmp_path / "in", 4, *(report | {"study": f"s{i}"} for i in range(4)))


def test_prepare_joins_the_file_by_study_and_builds_the_rest_by_rules(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"p1/p10/s1.txt": entry("big shadow"), "p1/p10/s2.txt": {"text": "", "entities": {}}, "s7": entry()}
    file = write(tmp_path / "graphs.json", given)
    argv = ["folder", f"--source={source}", f"--output={tmp_path / 'out'}", f"--radgraph={file}"]
    assert cli.call(prepare.main, prepare.parser(), argv) == 0
    assert "3 report graphs (2 by rules, 1 by radgraph)" in capsys.readouterr().out.replace(
        "1 by radgraph, 2 by rules", "2 by rules, 1 by radgraph"
    )
    stored = {record["study"]: record for record in builder.open_source(tmp_path / "out", "train")}
    assert {study: record["graph_by"] for study, record in stored.items()} == {
        "s0": "rules",
        "s1": "radgraph",
        "s2": "",  # RadGraph read it and found nothing
        "s3": "rules",
    }
    assert records.stored_graph(stored["s1"]) == graphs.parse(entry("big shadow"))
    assert read_manifest(tmp_path / "out")["settings"]["radgraph"]["file"] == str(file.resolve())
    lines = map(json.loads, (tmp_path / "out" / DROPPED).read_text().splitlines())
    assert {line["id"]: line["reason"] for line in lines} == {
        **{"s0": "graph_missing", "s3": "graph_missing", "7": "graph_without_report"}
    }


@pytest.mark.parametrize(
    "name, argv, words",
    [
        ("elsewhere", ["folder"], "none of its 1 graphs"),
        ("s0", ["phantom"], "generated with graphs"),
    ],
)
def test_a_file_that_cannot_be_joined_is_refused(
    name: str, argv: list[str], words: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "graphs.json", {name: entry()})
    argv = [*argv, f"--output={tmp_path / 'out'}", f"--radgraph={file}"]
    if argv[0] == "folder":
        argv.append(f"--source={source}")
    assert cli.call(prepare.main, prepare.parser(), argv) != 0
    assert words in capsys.readouterr().err


def test_a_missing_file_is_named(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["folder", f"--source={source}", f"--output={tmp_path / 'out'}", "--radgraph=nowhere.json"]
    assert cli.call(prepare.main, prepare.parser(), argv) == 1
    assert "--radgraph=nowhere.json: no such file" in capsys.readouterr().err
