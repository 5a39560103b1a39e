"""Asking a server on this machine: faults that pass and faults that stay, several questions at a time, addresses."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import preparing
import pytest
from language_model import LanguageModel, Reply, denial, serve

from clinicclip.data.generators import endpoint, llm
from clinicclip.data.generators.endpoint import Endpoint, Patience
from clinicclip.data.generators.llm import Question
from clinicclip.data.schema import INDEX
from clinicclip.errors import UsageError

ANSWER = b'{"choices": [{"message": {"content": "No nodule."}}]}'
QUICK = Patience(timeout=0.3, attempts=3, pause=0.01)


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel()


@pytest.fixture
def url(model: LanguageModel) -> Iterator[str]:
    with serve(model) as address:
        yield address


def complaint(call: Callable[[], object]) -> str:
    told = preparing.complaint(call)
    assert "Nodule of" not in told
    return told


def ask(url: str, kept: Path, patience: Patience = QUICK, concurrency: int = 2) -> dict[Question, str]:
    questions = [Question(INDEX["nodule"], f"Nodule of {k} mm.") for k in range(1, 7)]
    return dict(llm.Writer(Endpoint(url, patience=patience), "m", concurrency, kept).answers(questions).texts)


def test_several_questions_are_open_at_a_time_and_no_more(tmp_path: Path, model: LanguageModel, url: str) -> None:
    meeting = threading.Barrier(3)
    model.answer = lambda finding, statement: f"No {finding}." if meeting.wait(5) >= 0 else ""
    assert len(ask(url, tmp_path / "kept", Patience(timeout=5.0), concurrency=3)) == 6
    assert model.most_at_once == 3


def once(*replies: Reply) -> Callable[[str, str], Reply | str]:
    """Every statement meets each of the replies, and then a good answer."""
    met: dict[str, Iterator[Reply]] = {}

    def answer(finding: str, statement: str) -> Reply | str:
        return next(met.setdefault(statement, iter(replies)), denial(finding, statement))

    return answer


@pytest.mark.parametrize(
    "replies",
    [
        [Reply(status=500), Reply(status=503)],
        [Reply("No nodule.", missing=50)],
        [Reply(body=b'{"choices": [{"message": {"cont')],
        [Reply(body=b"<html>busy</html>"), Reply(body=b"{}")],
        [Reply(status=429)],
    ],
)
def test_faults_that_pass_are_waited_out(tmp_path: Path, model: LanguageModel, url: str, replies: list[Reply]) -> None:
    model.answer = once(*replies)
    assert set(ask(url, tmp_path / "kept").values()) == {"No nodule."}
    assert len(model.asked) == 6 * (1 + len(replies))


def test_a_server_that_asks_for_time_gets_it(tmp_path: Path, model: LanguageModel, url: str) -> None:
    model.answer = once(Reply(status=429, headers=(("Retry-After", "1"),)))
    started = time.monotonic()
    ask(url, tmp_path / "kept", concurrency=6)
    assert 1.0 <= time.monotonic() - started < 5.0


def test_a_slow_answer_is_asked_for_again(tmp_path: Path, model: LanguageModel, url: str) -> None:
    slow = threading.Event()

    def answer(finding: str, statement: str) -> str:
        if statement == "Nodule of 1 mm." and not slow.is_set():
            slow.set()
            time.sleep(0.8)
        return f"No {finding}."

    model.answer = answer
    assert len(ask(url, tmp_path / "kept")) == 6 and len(model.asked) == 7


@pytest.mark.parametrize(
    ("reply", "attempts", "words"),
    [
        (Reply(status=500), 3, "HTTP 500 (3 attempts)"),
        (Reply(status=401), 1, endpoint.KEY_VARIABLE),
        (Reply(status=404), 1, "--model"),
        (Reply(status=302, headers=(("Location", "http://192.0.2.1/"),)), 1, "HTTP 302"),  # never followed
        (Reply(body=b"[]"), 3, "not what an OpenAI-compatible server sends"),
        (Reply(body=b" " * endpoint.MOST_ANSWER + ANSWER), 3, "broke off"),
    ],
)
def test_faults_that_stay_end_in_one_line(
    tmp_path: Path, model: LanguageModel, url: str, reply: Reply, attempts: int, words: str
) -> None:
    model.answer = lambda finding, statement: reply
    assert words in complaint(lambda: ask(url, tmp_path / "kept", concurrency=1))
    assert len(model.asked) == attempts


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_this_machine_needs_no_permission(host: str) -> None:
    assert not Endpoint(f"http://{host}:8000/v1").remote


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:secret@127.0.0.1/v1", endpoint.KEY_VARIABLE),
        ("127.0.0.1:8000", "expected an address"),
        ("ftp://127.0.0.1/v1", "expected an address"),
        ("http://127.0.0.1:port/v1", "expected an address"),
        ("http://127.0.0.1/v1?key=secret", "expected an address"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Endpoint(url)
