"""The audit of dependencies: it is clean only where every pinned version was looked up."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
SPEC = importlib.util.spec_from_file_location("audit", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)
PINNED = audit.CONSTRAINTS.read_text().split()


@contextmanager
def service(answer: bytes) -> Iterator[tuple[str, list[dict]]]:
    """A server that answers everything so; its address and what it was asked."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_every_pinned_version_is_asked_about_and_what_is_known_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    clean: list[dict] = [{} for _ in PINNED]
    with service(json.dumps({"results": clean}).encode()) as (address, asked):
        assert audit.main(address) == 0
    assert [f"{each['package']['name']}=={each['version']}" for each in asked[0]["queries"]] == PINNED
    clean[1] = {"vulns": [{"id": "PYSEC-1"}, {"id": "GHSA-2"}]}
    with service(json.dumps({"results": clean}).encode()) as (address, _):
        assert audit.main(address) == 1
    assert f"{PINNED[1].replace('==', ' ')}: PYSEC-1, GHSA-2" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"results": []}', b'{"results": [null]}', b"<html>sign in</html>"])
def test_another_answer_is_no_audit(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with service(answer) as (address, _):
        assert audit.main(address) == 2
    assert "NOT AUDITED" in capsys.readouterr().err


def test_no_answer_is_no_audit(capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        address = f"http://127.0.0.1:{closed.server_port}"
    assert audit.main(address) == 2
    assert "NOT AUDITED" in capsys.readouterr().err
