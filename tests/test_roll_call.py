"""The roll call: all processes hear the notes of all, and who is missing is named within the time that was given."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import local
import pytest

from clinicclip.errors import UserError
from clinicclip.training import roll_call
from clinicclip.training.roll_call import spans

Heard = list[dict[str, Any]] | str


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where process 0 is to be found: at the loopback address only."""
    found = f"127.0.0.1:{local.free_port()}"
    monkeypatch.setenv(roll_call.BIND, found)
    return found


def call(address: str, index: int, count: int, patience: float = 20.0) -> Heard:
    """What a process hears, or the fault it is told."""
    try:
        note = {"name": f"host {index}"}
        return roll_call.roll_call(address, count=count, index=index, note=note, patience=patience)
    except UserError as fault:
        return str(fault)


def call_all(address: str, indices: list[int], count: int, patience: float = 20.0) -> list[Heard]:
    with ThreadPoolExecutor(len(indices)) as pool:
        return list(pool.map(lambda index: call(address, index, count, patience), indices))


def test_all_hear_the_notes_of_all_in_order_whoever_comes_first(address: str) -> None:
    heard = call_all(address, [2, 1, 0], 3)
    assert heard[0] == heard[1] == heard[2]
    assert [note["name"] for note in heard[0]] == ["host 0", "host 1", "host 2"]
    assert all(abs(note["clock"]) < 1 for note in heard[0])


def test_the_port_is_free_at_once_for_jax(address: str) -> None:
    call_all(address, [0, 1], 2)
    assert all(len(heard) == 2 for heard in call_all(address, [0, 1], 2))


def test_a_clock_that_goes_wrong_is_told_by_how_much(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, asks = time.time, roll_call._ask
    late = threading.local()

    def ask(*words: Any) -> dict[str, Any]:
        late.by = 100.0
        return asks(*words)

    monkeypatch.setattr(roll_call, "_ask", ask)
    monkeypatch.setattr(time, "time", lambda: right() - getattr(late, "by", 0.0))
    first, second = call_all(address, [0, 1], 2)[0]
    assert first["clock"] == 0.0 and second["clock"] == pytest.approx(-100, abs=1)


def test_those_who_do_not_come_are_named_to_all_in_time(address: str) -> None:
    began = time.monotonic()
    heard = call_all(address, [0, 3], 6, patience=1.0)
    assert time.monotonic() - began < 1 + roll_call.MARGIN
    assert heard[0] == heard[1]
    assert "processes 1-2, 4-5 of 6 did not come within 1 s" in heard[0]


def test_process_0_missing_is_told_with_its_address(address: str) -> None:
    assert f"process 0 did not answer process 1 of 2 at {address} within 1 s" in call(address, 1, 2, patience=1.0)


@pytest.mark.parametrize(
    ("others", "says"),
    [([(1, 3), (1, 3)], "two processes are started as number 1"), ([(1, 2)], "process 1 is started as one of 2")],
)
def test_processes_that_are_numbered_or_counted_otherwise_are_told(
    address: str, others: list[tuple[int, int]], says: str
) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(call, address, 0, 3)
        rest = [pool.submit(call, address, index, count, 2.0) for index, count in others]
        assert says in first.result()
        assert any(says in other.result() for other in rest)


def test_strangers_at_the_port_are_not_counted(address: str) -> None:
    host, port = address.split(":")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, address, 0, 2)
        for words in (b"GET / HTTP/1.1\r\n\r\n", b'{"process": 1}\n', b"[]\n"):
            while True:
                try:
                    stranger = socket.create_connection((host, int(port)), timeout=5)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            with stranger:
                stranger.sendall(words)
        assert len(pool.submit(call, address, 1, 2).result()) == len(first.result()) == 2


def test_a_port_that_is_taken_is_told(address: str) -> None:
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))):
        assert "choose another port" in call(address, 0, 2)


def test_spans_shorten_what_follows_each_other() -> None:
    assert (spans([]), spans([3]), spans([0, 1, 2, 5, 7, 8])) == ("", "3", "0-2, 5, 7-8")
