"""What every evaluation shares: embedding functions in, an embedded set, result records out.

Evaluations never see a model. They get functions that map images and texts to vectors, join everything by
image id, and yield `Result` records plus the raw material of the report's pictures.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from clinicclip.data import schema
from clinicclip.errors import UserError
from clinicclip.evals import stats
from clinicclip.evals.truth import NORMAL, SQUASH, View, read_row


class EmbedFns(NamedTuple):
    """A model as evaluations know it: both functions return L2-normalised rows in the order given."""

    images: Callable[[UInt8[np.ndarray, "n s s"]], Float32[np.ndarray, "n d"]]
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]


@dataclass(frozen=True)
class EvalSet:
    """Studies with their truth; `truth` and `mentioned` hold 1, 0 or nan (unknown) over `schema.FINDINGS`."""

    name: str
    split: str
    open: bool  # images and texts may be shown in reports
    phantom: bool  # synthetic data: numbers prove code, not clinical quality
    source: str  # where `truth` comes from
    title: str  # of the data, with version and level where there are any
    preprocessing: str  # of the images
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    reports: tuple[str, ...]
    sentences: tuple[tuple[schema.Sentence, ...], ...]
    images: UInt8[np.ndarray, "n s s"]
    truth: Float32[np.ndarray, "n f"]
    mentioned: Float32[np.ndarray, "n f"]  # read off the report's sentences
    normal: Float32[np.ndarray, "n"]

    @classmethod
    def from_records(
        cls,
        name: str,
        split: str,
        records: Iterable[schema.Record],
        image_size: int,
        open: bool,
        phantom: bool = False,
        title: str = "",
        view: View = SQUASH,
    ) -> "EvalSet":
        """Decode the images of stored records, bring them to size and gather their truth by finding.

        A set without any gold label falls back to what the report text says, and `source` says so.

        Raises: UserError for an empty set or a repeated image id.
        """
        rows = [read_row(record, image_size, view) for record in records]
        if not rows:
            raise UserError(f"{name}: split {split!r} holds no study; choose a split that does (see manifest.json)")
        ids = tuple(row.id for row in rows)
        if len(set(ids)) != len(ids):
            repeated = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f"{name}: image id {repeated} occurs twice in split {split!r}; prepare the data again")
        mentioned = np.stack([row.mentioned for row in rows])
        gold = np.stack([row.gold for row in rows])
        coded = bool(np.isfinite(gold).any())
        sources = sorted({row.source for row in rows if row.source})
        normal = gold[:, NORMAL]
        if np.isnan(normal).all():
            normal = np.array([row.normal for row in rows], np.float32)
        return cls(
            name=name,
            split=split,
            open=open,
            phantom=phantom,
            source=(" + ".join(sources) or "gold labels") if coded else "report text (no gold labels)",
            title=title,
            preprocessing=view.says.format(image_size),
            ids=ids,
            patients=tuple(row.patient for row in rows),
            reports=tuple(" ".join(sentence.text for sentence in row.sentences) for row in rows),
            sentences=tuple(row.sentences for row in rows),
            images=np.stack([row.image for row in rows]),
            truth=gold if coded else mentioned,
            mentioned=mentioned,
            normal=normal,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """Twelve hex digits over ids, pixels, reports and truth: equal for equal inputs of an evaluation."""
        content = hashlib.sha256()
        for text in (*self.ids, *self.patients, *self.reports):
            content.update(text.encode() + b"\0")
        for array in (self.images, self.truth, self.mentioned, self.normal):
            content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()[:12]

    def absent(self, finding: int) -> Bool[np.ndarray, "n"]:
        """Studies of which the labels say that the finding is absent; uncoded studies never count.

        Uncoded: no label on this finding, or something is wrong (not normal) and no finding names what.
        A finding the truth does not code at all is judged by the report: denied, or the study is normal.
        """
        column = self.truth[:, finding]
        if np.isfinite(column).any():
            others = np.delete(self.truth, NORMAL, axis=1)
            unexplained = (self.normal == 0) & ~(others == 1).any(axis=1)
            return (column == 0) & ~unexplained
        denied = self.mentioned[:, finding] == 0
        silent = np.isnan(self.mentioned[:, finding])
        return denied | (silent & (self.normal == 1))


@dataclass(frozen=True)
class Embedded:
    """A set's image vectors under their ids, and a text embedder that embeds each distinct string once."""

    ids: tuple[str, ...]
    vectors: Float32[np.ndarray, "n d"]
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "m d"]]

    def images(self, evalset: EvalSet) -> Float32[np.ndarray, "n d"]:
        """The vectors in the set's order, joined by id.

        Raises: ValueError when the ids are not the set's own, in its own order.
        """
        if self.ids != evalset.ids:
            raise ValueError(f"{evalset.name}: embedded ids do not match the set's; scores would be misaligned")
        return self.vectors


@dataclass(frozen=True)
class Result:
    """One number: what it is, its 95 % interval by patient, and what it was measured on."""

    metric: str
    data: str
    split: str
    value: float  # nan: does not exist on these data, `note` says why
    ci_low: float
    ci_high: float
    n: int
    patients: int
    positives: int | None = None
    redrawn: int = 0
    truth: str = ""
    generator: str = ""
    note: str = ""

    @classmethod
    def of(
        cls,
        metric: str,
        evalset: EvalSet,
        draws: stats.Draws,
        bootstrap: stats.PatientBootstrap,
        rows: Int[np.ndarray, "r"],
        **facts: int | str | None,
    ) -> "Result":
        """A record from a bootstrapped statistic over the given rows of the set."""
        low, high = draws.interval()
        patients = bootstrap.patients(rows)
        return cls(
            metric,
            evalset.name,
            evalset.split,
            draws.value,
            low,
            high,
            len(rows),
            patients,
            redrawn=draws.redrawn,
            **facts,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Curve:
    """Truth and scores of one finding under one rule: the material of a ROC plot."""

    data: str
    finding: str
    rule: str
    truth: Bool[np.ndarray, "r"]
    scores: Float[np.ndarray, "r"]


@dataclass(frozen=True)
class Query:
    """One line of the retrieval gallery: a report and its five nearest images, with how each one fits."""

    text: str
    images: UInt8[np.ndarray, "k s s"]
    verdicts: tuple[str, ...]  # "own report", "same labels" or "other labels"
    rank: float  # of the best image that owns this text


@dataclass(frozen=True)
class Gallery:
    """Retrieval examples of one set, drawn at random by seed (never chosen for their looks)."""

    data: str
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything a report is written from."""

    results: list[Result] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    facts: Mapping[str, str] = field(default_factory=dict)  # prompts, draws, seed
    sets: tuple["SetFacts", ...] = ()


class SetFacts(NamedTuple):
    """What the report says about a set it was measured on."""

    name: str
    split: str
    studies: int
    patients: int
    open: bool
    phantom: bool
    truth: str
    title: str
    preprocessing: str
    digest: str


class Evaluator(Protocol):
    """A suite: yields its numbers and pictures for one embedded set."""

    def run(
        self, evalset: EvalSet, embedded: Embedded, bootstrap: stats.PatientBootstrap
    ) -> Iterator[Result | Curve | Gallery]: ...
