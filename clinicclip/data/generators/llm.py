"""Denials written by a language model, each asked for once and remembered until the data are whole, or for good.

Only the statement that is to be denied is sent, never the report around it. Answers are kept under a hash of the
statement, the finding, the prompt and the model; nothing of the report is stored beside them.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from clinicclip import files
from clinicclip.data.generators import templates
from clinicclip.data.generators.endpoint import Endpoint
from clinicclip.data.schema import FINDINGS, display_name
from clinicclip.data.sections import finish, split_sentences
from clinicclip.errors import UserError

NAME = "llm"
ANSWERS = "answers.jsonl"  # what a run keeps them in, beside its unfinished shards
PROMPT_VERSION = 1  # of the two texts below; another version asks anew
_SYSTEM = (
    "You edit chest X-ray reports. You are given a statement from a report and a finding that it states. Write one "
    "short sentence, in the style of a radiologist, that says this finding is absent. Name the finding, keep the side "
    "and the place where the statement gives them, drop its size and severity, and mention nothing else: no other "
    "finding, no earlier examination. Answer with that sentence alone."
)
_USER = "Finding: {finding}\nStatement: {statement}"
MOST_TOKENS = 1024  # a model may think before it answers
LONGEST = 300  # characters of a denial
_ROW = b'{"key": "'  # what every line of the file begins with
_THOUGHT = re.compile(r".*</think>", re.DOTALL)


class Question(NamedTuple):
    """A statement of `schema.FINDINGS[finding]` that is to be denied."""

    finding: int
    statement: str


@dataclass(frozen=True)
class Answers:
    """The generator that repeats what the model wrote; '' where it wrote nothing of use."""

    texts: Mapping[Question, str] = field(default_factory=dict)
    name: str = NAME

    def deny(self, finding: int, statements: Sequence[str], rng: np.random.Generator) -> list[str]:
        """The model's sentence for each statement."""
        return [self.texts[Question(finding, statement)] for statement in statements]


class Writer:
    """Asks a model, several questions at a time, and keeps its answers in a file.

    Every answer is in the file before it is used, so that a run killed at any moment asks nothing twice.
    """

    def __init__(self, endpoint: Endpoint, model: str, concurrency: int, kept: Path) -> None:
        self.model = model
        self._endpoint, self._concurrency, self._path = endpoint, concurrency, kept
        self._known = _read(kept)
        self._lock = threading.Lock()

    def answers(self, questions: Iterable[Question]) -> Answers:
        """The generator for reports with these statements.

        Raises UserError when the server fails; what it has answered by then is kept.
        """
        keys = {question: self._key(question) for question in sorted(set(questions))}
        unknown = [question for question, key in keys.items() if key not in self._known]
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                work = pool.map(self._ask, unknown)
                list(tqdm(work, self.model, len(unknown), leave=False, unit=" statements", disable=None))
            except BaseException:
                self._endpoint.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return Answers({question: self._known[key] for question, key in keys.items()})

    def _ask(self, question: Question) -> None:
        user = _USER.format(finding=display_name(FINDINGS[question.finding]), statement=question.statement)
        denial = clean(self._endpoint.complete(self.model, _SYSTEM, user, MOST_TOKENS))
        key = self._key(question)
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "denial": denial}) + "\n")
            self._known[key] = denial

    def _key(self, question: Question) -> str:
        parts = (str(PROMPT_VERSION), self.model, FINDINGS[question.finding], question.statement)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Model(NamedTuple):
    """The language model of a run, before anything is asked."""

    endpoint: Endpoint
    name: str = ""  # "" = the only one the server offers
    concurrency: int = 8  # questions at a time
    answers: Path | None = None  # where answers outlive the run; None = beside its unfinished shards

    def open(self, kept: Path) -> Writer:
        """Its writer, with the answers that an earlier run left in ``answers``, or else in ``kept``.

        Raises UserError for a server that fails, and for a file that holds something else.
        """
        return Writer(self.endpoint, self.name or self.endpoint.model(), self.concurrency, self.answers or kept)


def clean(answer: str) -> str:
    """The one sentence of an answer; '' when it is none, or one that is reserved for evaluation."""
    lines = [line.strip(" \t\"'`*") for line in _THOUGHT.sub("", answer).splitlines() if line.strip()]
    if len(lines) != 1 or len(lines[0]) > LONGEST or len(split_sentences(lines[0])) != 1:
        return ""
    sentence = finish(lines[0])
    return "" if sentence in templates.EVAL else sentence


def _read(path: Path) -> dict[str, str]:
    """The answers of an earlier run; a last line that was cut off by its end is taken away.

    Raises UserError for a file that cannot be read or written, or holds anything else, which is left as it is.
    """
    try:
        with path.open("ab"):  # so that no answer is paid for that cannot be kept
            content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        answers = {str(row["key"]): str(row["denial"]) for row in map(json.loads, whole.splitlines())}
        rest = content[len(whole) :]
        if not rest.startswith(_ROW[: len(rest)]):
            raise ValueError(rest)
    except OSError as fault:
        raise UserError(f"{path}: {fault.strerror}; name a file for answers that can be written") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} holds something else than answers; name another file, or a new one") from None
    if rest:
        files.write_whole(path, whole)
    return answers
