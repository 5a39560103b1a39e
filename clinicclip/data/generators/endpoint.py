"""A server with an OpenAI-compatible interface: where it may be, and how it is asked.

Written on `http.client`, which follows no redirect and no proxy setting: what is sent reaches the named host alone.
"""

import http.client
import ipaddress
import json
import os
import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from clinicclip.errors import UsageError, UserError

KEY_VARIABLE = "CLINICCLIP_API_KEY"
DATA_USE = (
    "reports leave this machine: data of PhysioNet (MIMIC-CXR) and other credentialed or personal data must not be "
    "given to third parties"
)
MOST_ANSWER = 2**20  # bytes; a sentence is asked for
LONGEST_PAUSE = 120.0  # seconds, whatever a server asks for
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?P<port>:\d{1,5})?(?P<path>(?:/[\w.~-]+)*)/?"
)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_HINTS = {
    401: f"; the key is read from the environment variable {KEY_VARIABLE}",
    403: f"; the key is read from the environment variable {KEY_VARIABLE}",
    404: "; correct --base_url (it ends in /v1 on most servers) or --model",
}


class Patience(NamedTuple):
    """How long an answer is waited for, in seconds, and how often a request is repeated."""

    timeout: float = 120.0
    attempts: int = 6
    pause: float = 0.5  # before the first repetition, doubled before each further one


class _Fault(Exception):
    """Something that may pass: the request is worth repeating."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class Endpoint:
    """Asks one server, from any number of threads.

    Raises UsageError for an address that is none, or that is another machine's and not explicitly allowed.
    """

    def __init__(self, base_url: str, *, allow_remote: bool = False, patience: Patience = Patience()) -> None:
        address = _ADDRESS.fullmatch(base_url)
        if "@" in base_url:
            raise UsageError(f"--base_url holds a name or password: set the environment variable {KEY_VARIABLE}")
        if address is None or int((address["port"] or ":0")[1:]) > 65_535:
            raise UsageError(f"--base_url={base_url}: expected an address such as http://127.0.0.1:8000/v1")
        self.remote = not _is_loopback(address["host"].strip("[]"))
        if self.remote and not allow_remote:
            raise UsageError(
                f"--base_url={base_url} is not this machine, and {DATA_USE}; use a server on 127.0.0.1, or, where "
                "your data-use agreement permits it, add --allow_remote"
            )
        self._url = base_url.rstrip("/")
        encrypted = address["scheme"] == "https"
        self._connection = http.client.HTTPSConnection if encrypted else http.client.HTTPConnection
        self._address, self._path = address["host"] + (address["port"] or ""), address["path"]
        self._patience = patience
        self._stop = threading.Event()
        self._failure: UserError | None = None

    def model(self) -> str:
        """The one model the server offers. Raises UserError when it offers several or none."""
        found = self._ask("GET", "/models", None, lambda answer: [str(model["id"]) for model in answer["data"]])
        if len(found) != 1:
            raise UserError(f"{self._url} offers {', '.join(found) or 'no model'}: name one with --model")
        return str(found[0])

    def complete(self, model: str, system: str, user: str, most_tokens: int) -> str:
        """The model's answer to one message, at temperature 0.

        Raises UserError when the server cannot be reached, refuses, or keeps failing.
        """
        request = {
            "model": model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "temperature": 0,
            "max_tokens": most_tokens,
        }
        return str(self._ask("POST", "/chat/completions", request, _content))

    def stop(self) -> None:
        """Lets no thread wait for a repetition any more."""
        self._stop.set()

    def _ask(self, method: str, path: str, request: Any, read: Callable[[Any], Any]) -> Any:
        """What `read` takes from the answer. Faults that may pass are waited out with doubled pauses."""
        fault = _Fault("interrupted")
        for attempt in range(self._patience.attempts):
            if self._failure:
                raise self._failure
            try:
                return self._once(method, path, request, read)
            except _Fault as happened:
                fault = happened
            pause = min(fault.wait or self._patience.pause * 2**attempt, LONGEST_PAUSE)
            if attempt == self._patience.attempts - 1 or self._stop.wait(pause):
                break
        raise self._failed(
            f"{self._url}: {fault} ({self._patience.attempts} attempts); mend the server and run the same command "
            "again: answers are kept"
        )

    def _failed(self, message: str) -> UserError:
        """The first failure ends the work of all threads, and is the one that is told."""
        self._failure = self._failure or UserError(message)
        self.stop()
        return self._failure

    def _once(self, method: str, path: str, request: Any, read: Callable[[Any], Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        connection = self._connection(self._address, timeout=self._patience.timeout)
        try:
            body = json.dumps(request).encode() if request is not None else None
            connection.request(method, self._path + path, body, headers)
            with connection.getresponse() as response:
                content = response.read(MOST_ANSWER)
                if response.length:
                    raise http.client.IncompleteRead(content)
        except TimeoutError:
            raise _Fault(f"no answer within {self._patience.timeout:g} s") from None
        except OSError as fault:
            raise _Fault(f"cannot be reached ({fault.strerror or type(fault).__name__})") from None
        except http.client.HTTPException as fault:
            raise _Fault(f"the answer broke off ({type(fault).__name__})") from None
        finally:
            connection.close()
        if response.status in _AGAIN:
            raise _Fault(f"HTTP {response.status}", _seconds(response.getheader("Retry-After")))
        if response.status != 200:
            raise self._failed(f"{self._url} answers HTTP {response.status}{_HINTS.get(response.status, '')}")
        try:
            return read(json.loads(content))
        except (ValueError, KeyError, TypeError, IndexError):
            raise _Fault("the answer is not what an OpenAI-compatible server sends") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"] or "")


def _seconds(header: str | None) -> float:
    """Of a Retry-After header; 0 for none, or one that gives a date."""
    return float(header) if header and header.strip().isdecimal() else 0.0
