"""A small server with an OpenAI-compatible interface that answers as a test tells it."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

MODELS = ("small-model",)


class Reply(NamedTuple):
    """What goes over the wire."""

    content: str = ""  # of the model
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None  # instead of a well-formed answer
    missing: int = 0  # bytes announced and never sent


def denial(finding: str, statement: str) -> str:
    """What a good model would write."""
    side = re.search(r"left|right", statement.lower())
    return f"No {side.group() + ' ' if side else ''}{finding}."


class LanguageModel:
    """What was asked so far, and the function that answers."""

    def __init__(self, answer: Callable[[str, str], Reply | str] = denial) -> None:
        self.answer = answer
        self.models: tuple[str, ...] = MODELS
        self.asked: list[tuple[str, str]] = []  # finding, statement
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def reply(self, request: dict[str, Any], key: str | None) -> Reply:
        """The answer to one chat request."""
        user = request["messages"][-1]["content"]
        found = re.fullmatch(r"Finding: (.*)\nStatement: (.*)", user)
        assert found is not None
        with self._lock:
            self.asked.append((found[1], found[2]))
            self.requests.append(request)
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            made = self.answer(found[1], found[2])
        finally:
            with self._lock:
                self._at_once -= 1
        return made if isinstance(made, Reply) else Reply(made)


@contextmanager
def serve(model: LanguageModel) -> Iterator[str]:
    """Runs the server in threads and yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(Reply(body=json.dumps({"data": [{"id": name} for name in model.models]}).encode()))

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(model.reply(request, self.headers["Authorization"]))

        def _send(self, reply: Reply) -> None:
            message = {"choices": [{"message": {"role": "assistant", "content": reply.content}}]}
            body = json.dumps(message).encode() if reply.body is None else reply.body
            try:
                self.send_response(reply.status)
                for name, value in (*reply.headers, ("Content-Length", str(len(body) + reply.missing))):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                return  # the client did not wait, as some tests want it

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
