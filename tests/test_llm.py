"""Negated reports by a language model: what is sent, what is accepted, what is kept, and how faults end."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import preparing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from language_model import LanguageModel, Reply, denial, serve
from PIL import Image
from preparing import call, everything

from clinicclip import prepare
from clinicclip.data import builder
from clinicclip.data.generators import endpoint, llm, templates
from clinicclip.data.generators.endpoint import Endpoint, Patience
from clinicclip.data.generators.llm import Question
from clinicclip.data.manifest import PARTIAL, read_manifest
from clinicclip.data.schema import INDEX

ROOT = Path(__file__).parents[1]
FINDINGS = ("pleural effusion", "pneumothorax", "nodule", "atelectasis", "consolidation", "granuloma")
STATEMENTS = [f"{size} {side} {x}." for size in ("Small", "Large") for side in ("left", "right") for x in FINDINGS]
QUICK = Patience(timeout=0.3, attempts=3, pause=0.01)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pair for each statement, and a normal one."""
    root = tmp_path_factory.mktemp("release")
    rows = []
    for i, statement in enumerate([*STATEMENTS, "The lungs are clear."]):
        noise = np.random.default_rng(i).integers(0, 255, (32, 32))
        Image.fromarray(noise.astype(np.uint8)).save(root / f"{i}.png")
        rows.append({"image": f"{i}.png", "text": f"FINDINGS: The heart is normal. {statement}", "patient": f"p{i}"})
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel()


@pytest.fixture
def url(model: LanguageModel) -> Iterator[str]:
    with serve(model) as address:
        yield address


def write(source: Path, output: Path, url: str, **options: Any) -> dict[str, Any]:
    made = llm.Model(Endpoint(url, patience=options.pop("patience", QUICK)), **options.pop("model", {}))
    return builder.write("folder", output, source=source, shorter_side=32, model=made, **options)


def complaint(call: Callable[[], object]) -> str:
    told = preparing.complaint(call)
    assert not any(statement in told for statement in STATEMENTS)
    return told


# What is sent, and what becomes of it


def test_records_hold_what_the_model_wrote_and_say_so(
    source: Path, tmp_path: Path, model: LanguageModel, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    args = ("folder", f"--source={source}", f"--output={output}", "--generator=llm", f"--base_url={url}")
    assert call(*args) == 0
    assert not capsys.readouterr().err
    records = everything(output).values()
    assert len(records) == len(STATEMENTS) + 1
    for record in records:
        statement = record["sentences"][-1]
        if statement in STATEMENTS:
            finding = statement.split(" ", 2)[2].rstrip(".")
            assert record["negated"] == f"The heart is normal. {denial(finding, statement)}"
            assert (record["omitted"], record["negated_by"]) == ("The heart is normal.", "llm")
        else:
            assert (record["negated"], record["negated_by"], record["not_negated"]) == ("", "", "normal")
    manifest = read_manifest(output)
    assert manifest["settings"]["generator"] == "llm"
    assert manifest["language_model"] == {"name": "small-model", "prompt": llm.PROMPT_VERSION}
    assert manifest["language"]["records_with_negated_report"] == len(STATEMENTS)
    assert not (output / PARTIAL).exists()
    assert call(*args) == 0 and "nothing to do" in capsys.readouterr().out


def test_a_statement_is_sent_alone_and_asked_once(source: Path, tmp_path: Path, model: LanguageModel, url: str) -> None:
    write(source, tmp_path / "out", url)
    assert sorted(statement for _, statement in model.asked) == sorted(STATEMENTS)
    assert "heart" not in json.dumps(model.requests)
    assert {request["model"] for request in model.requests} == {"small-model"}
    assert {request["temperature"] for request in model.requests} == {0}


def test_records_depend_neither_on_workers_nor_on_concurrency(source: Path, tmp_path: Path, url: str) -> None:
    one = write(source, tmp_path / "one", url, model={"concurrency": 1})
    assert one == write(source, tmp_path / "two", url, workers=2, model={"concurrency": 7})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Left effusion, nodule, pneumothorax and consolidation are present.", "not_denied"),
        ("The study is unremarkable", "not_denied"),
        ("", "no_denial"),
        ("Sure! Here is the sentence:\nNo finding.", "no_denial"),
        ("Lorem ipsum. " * 40, "no_denial"),
    ],
)
def test_an_answer_that_does_not_flip_the_finding_is_dropped_and_counted(
    source: Path, tmp_path: Path, model: LanguageModel, url: str, answer: str, reason: str
) -> None:
    model.answer = lambda finding, statement: answer
    manifest = write(source, tmp_path / "out", url)
    assert manifest["language"][f"records_not_negated_{reason}"] == len(STATEMENTS)
    assert "records_with_negated_report" not in manifest["language"]
    assert {
        record["negated"] + record["omitted"] + record["negated_by"] for record in everything(tmp_path / "out").values()
    } == {""}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("No left nodule.", "No left nodule."),
        (' "no nodule" \n', "No nodule."),
        ("<think>A nodule.\n\nDeny it.</think>\n\nNo nodule.", "No nodule."),
        ("No nodule. No mass.", ""),
        ("No nodule.\nNo mass.", ""),
        ("Nodule is absent.", ""),  # how the evaluation generator writes
        ("x" * 400, ""),
        ("", ""),
    ],
)
def test_only_one_sentence_that_is_not_kept_for_evaluation_is_accepted(answer: str, sentence: str) -> None:
    assert llm.clean(answer) == sentence


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400) | st.from_regex(r"(?i)no [a-z ]{1,20} is seen\.?", fullmatch=True))
def test_whatever_the_model_says_a_denial_is_one_line_and_no_evaluation_phrase(answer: str) -> None:
    denial = llm.clean(answer)
    assert "\n" not in denial and len(denial) <= llm.LONGEST + 1 and denial not in templates.EVAL


# Faults


def test_a_server_that_is_not_there_is_one_line(source: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    message = complaint(lambda: write(source, tmp_path / "out", f"http://127.0.0.1:{free}/v1"))
    assert "cannot be reached" in message and "run the same command again" in message


def test_one_of_several_models_must_be_named(source: Path, tmp_path: Path, model: LanguageModel, url: str) -> None:
    model.models = ("a", "b")
    assert "offers a, b: name one with --model" in complaint(lambda: write(source, tmp_path / "out", url))
    write(source, tmp_path / "out", url, model={"name": "b"})
    assert {request["model"] for request in model.requests} == {"b"}


# Resuming


def test_a_failed_run_keeps_its_answers(source: Path, tmp_path: Path, model: LanguageModel, url: str) -> None:
    numbers = itertools.count()
    model.answer = lambda finding, statement: denial(finding, statement) if next(numbers) < 10 else Reply(status=500)
    complaint(lambda: write(source, tmp_path / "out", url, model={"concurrency": 1}))
    kept = (tmp_path / "out" / PARTIAL / llm.ANSWERS).read_text()
    assert kept.count("\n") == 10
    assert not any(statement in kept for statement in STATEMENTS)
    assert all(set(json.loads(line)) == {"key", "denial"} for line in kept.splitlines())
    model.answer, model.asked = denial, []
    write(source, tmp_path / "out", url)
    assert len(model.asked) == len(STATEMENTS) - 10


def test_a_killed_run_asks_nothing_twice(source: Path, tmp_path: Path, model: LanguageModel, url: str) -> None:
    numbers, hang, answered = itertools.count(), threading.Event(), set()

    def answer(finding: str, statement: str) -> str:
        if next(numbers) >= 8:
            hang.wait(30)
        else:
            answered.add((finding, statement))
        return denial(finding, statement)

    model.answer = answer
    script = "import sys; from clinicclip import cli, prepare; cli.run(prepare.main, prepare.parser())"
    flags = [f"--source={source}", f"--output={tmp_path / 'out'}", "--generator=llm", f"--base_url={url}"]
    command = [sys.executable, "-c", script, "folder", *flags, "--concurrency=2", "--shorter_side=32"]
    kept = tmp_path / "out" / PARTIAL / llm.ANSWERS
    with subprocess.Popen(command, cwd=ROOT) as started:
        while not kept.is_file() or kept.read_text().count("\n") < 8 or len(model.asked) < 10:
            assert started.poll() is None
            time.sleep(0.01)
        os.kill(started.pid, signal.SIGKILL)
    hang.set()
    with kept.open("a") as file:
        file.write('{"key": "ab')  # the line it was writing
    model.asked = []
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0
    assert not answered & set(model.asked) and len(model.asked) == len(STATEMENTS) - 8
    assert sum(bool(record["negated"]) for record in everything(tmp_path / "out").values()) == len(STATEMENTS)


def test_a_second_preparation_asks_nothing_that_is_in_the_answers(
    source: Path, tmp_path: Path, model: LanguageModel, url: str
) -> None:
    kept = {"answers": tmp_path / "answers.jsonl"}
    write(source, tmp_path / "one", url, model=kept)
    asked = len(model.asked)
    write(source, tmp_path / "two", url, model=kept)
    assert len(model.asked) == asked > 0
    one, two = ([record["negated"] for record in everything(tmp_path / name).values()] for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("content", ["a note", '{"text": "a note"}\n', "[1]\n", '{"key": "a", "denial": "b"}\na note'])
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, url: str, content: str) -> None:
    path = tmp_path / "notes"
    path.write_text(content)
    said = complaint(lambda: llm.Model(Endpoint(url), answers=path).open(tmp_path / "kept"))
    assert str(path) in said and path.read_text() == content
    missing = tmp_path / "nowhere" / "answers"
    assert "No such file" in complaint(lambda: llm.Model(Endpoint(url), answers=missing).open(tmp_path / "kept"))


def test_another_model_is_asked_anew(tmp_path: Path, model: LanguageModel, url: str) -> None:
    question = [Question(INDEX["nodule"], "Left nodule.")]
    for name in ("a", "a", "b"):
        llm.Writer(Endpoint(url), name, 1, tmp_path / "kept").answers(question)
    assert [request["model"] for request in model.requests] == ["a", "b"]


# Where reports may go


@pytest.mark.parametrize(
    "url", ["http://192.0.2.7:8000/v1", "http://models.example/v1", "http://127.0.0.1.models.example/v1"]
)
def test_another_machine_is_refused_unless_allowed_and_warned_of(
    source: Path, tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("folder", f"--source={source}", f"--output={tmp_path / 'out'}", "--generator=llm", f"--base_url={url}")
    assert call(*args) == 2
    refused = capsys.readouterr().err
    assert "is not this machine" in refused and "PhysioNet" in refused and refused.count("\n") == 1
    monkeypatch.setattr(builder, "write", lambda *args, **options: {"dropped": {}})
    monkeypatch.setattr(prepare.account, "told", lambda manifest: "")
    assert call(*args, "--allow_remote") == 0
    assert "warning: reports leave this machine" in capsys.readouterr().err


def test_no_proxy_is_used_and_the_key_comes_from_the_environment_alone(
    source: Path, tmp_path: Path, model: LanguageModel, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.1:9")
    monkeypatch.setenv(endpoint.KEY_VARIABLE, "sesame")
    write(source, tmp_path / "out", url)
    assert set(model.keys) == {"Bearer sesame"}
    assert not any(b"sesame" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--generator=llm"], "needs --base_url"),
        (["--generator=llm", "--base_url=http://127.0.0.1/v1", "--dry_run"], "leave out --generator=llm"),
        (["--base_url=http://127.0.0.1/v1"], "belong to --generator=llm"),
        (["--generator=llm", "--base_url=http://127.0.0.1:70000/v1"], "expected an address"),
        (["--generator=eval"], "none of llm, train"),
        (["--concurrency=0"], "1 to 256"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(
    source: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("folder", f"--source={source}", f"--output={tmp_path / 'out'}", *flags) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()
