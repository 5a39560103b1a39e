"""What every evaluation shares: embedding functions in, an embedded set, result records out.

Evaluations never see a model. They get functions that map images and texts to vectors, join everything by
image id, and yield `Result` records plus the raw material of the report's pictures.
"""

import enum
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from clinicclip.data import schema
from clinicclip.data.images import ImageFault
from clinicclip.errors import UserError
from clinicclip.evals import benchmarks, prompts, stats
from clinicclip.evals.calibration import Reliability
from clinicclip.evals.truth import GROUPS, NORMAL, SQUASH, Released, View, read_row

PatchFn = Callable[[UInt8[np.ndarray, "n s s"]], Float32[np.ndarray, "n h w d"]]


class EmbedFns(NamedTuple):
    """A model as evaluations know it: all functions return L2-normalised rows in the order given."""

    images: Callable[[UInt8[np.ndarray, "n s s"]], Float32[np.ndarray, "n d"]]
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]
    patches: PatchFn | None = None  # of a grid over each image, row by row


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
    release: str  # whose data it is, a name of `benchmarks`
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    reports: tuple[str, ...]
    sentences: tuple[tuple[schema.Sentence, ...], ...]
    images: UInt8[np.ndarray, "n s s"]
    truth: Float32[np.ndarray, "n f"]
    mentioned: Float32[np.ndarray, "n f"]  # read off the report's sentences
    normal: Float32[np.ndarray, "n"]
    groups: Mapping[str, tuple[str, ...]]  # truth.GROUPS: what is said of each study, "" = unknown
    boxes: tuple[tuple[schema.Box, ...], ...]  # in pixels of the original images
    shapes: Int[np.ndarray, "n 2"]  # height and width of the original images
    released: tuple[Released | None, ...]  # altered reports that the release brings itself
    unread: tuple[str, ...]  # ids of studies whose image cannot be read; they are no part of anything above

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
        release: str = "",
        view: View = SQUASH,
    ) -> "EvalSet":
        """Decode the images of stored records, bring them to size and gather their truth by finding.

        A set without any gold label falls back to what the report text says, and one without reports to the labels
        that training reads; `source` says so. A study whose image cannot be read is named in `unread` and is in no
        array. What a blank of the release means is `benchmarks`' to say.

        Raises: UserError for a set without a readable image or a repeated image id.
        """
        absent = benchmarks.of(release).absent
        rows, unread = [], []
        for record in records:
            try:
                rows.append(read_row(record, image_size, absent, view))
            except ImageFault:
                unread.append(str(record["image_id"]))
        if not rows and unread:
            raise UserError(f"{name}: none of the {len(unread)} images of split {split!r} can be read; prepare again")
        if not rows:
            raise UserError(f"{name}: split {split!r} holds no study; choose a split that does (see manifest.json)")
        ids = tuple(row.id for row in rows)
        if len(set(ids)) != len(ids):
            repeated = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f"{name}: image id {repeated} occurs twice in split {split!r}; prepare the data again")
        mentioned = np.stack([row.mentioned for row in rows])
        gold = np.stack([row.gold for row in rows])
        truth, source = mentioned, "report text (no gold labels)"
        if np.isfinite(gold).any():
            truth, source = gold, " + ".join(sorted({row.source for row in rows if row.source})) or "gold labels"
        elif not any(row.sentences for row in rows):
            truth, source = np.stack([row.labels for row in rows]), "training labels (neither gold labels nor reports)"
        normal = gold[:, NORMAL]
        if np.isnan(normal).all():
            normal = np.array([row.normal for row in rows], np.float32)
        return cls(
            name=name,
            split=split,
            open=open,
            phantom=phantom,
            source=source,
            title=title,
            preprocessing=view.says.format(image_size),
            release=release,
            ids=ids,
            patients=tuple(row.patient for row in rows),
            reports=tuple(" ".join(sentence.text for sentence in row.sentences) for row in rows),
            sentences=tuple(row.sentences for row in rows),
            images=np.stack([row.image for row in rows]),
            truth=truth,
            mentioned=mentioned,
            normal=normal,
            groups={group: tuple(row.groups[place] for row in rows) for place, group in enumerate(GROUPS)},
            boxes=tuple(row.boxes for row in rows),
            shapes=np.array([row.shape for row in rows]),
            released=tuple(row.released for row in rows),
            unread=tuple(unread),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """Twelve hex digits over ids, patients, reports, truth, groups and boxes, not over pixels: what is asked.

        Results of an equal digest, number of draws and seed are paired, draw by draw, whatever the models read.
        """
        said = (*self.ids, *self.patients, *self.reports, *(v for values in self.groups.values() for v in values))
        texts = "\0".join((*said, repr(self.boxes), repr(self.released))).encode()
        return _digest(texts, self.truth, self.mentioned, self.normal)

    def pixel_digest(self) -> str:
        """Twelve hex digits over the images as a model gets them."""
        return _digest(self.images)

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


def _digest(*parts: bytes | np.ndarray) -> str:
    content = hashlib.sha256()
    for part in parts:
        content.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return content.hexdigest()[:12]


@dataclass(frozen=True)
class Embedded:
    """A set's image vectors under their ids, and a text embedder that embeds each distinct string once."""

    ids: tuple[str, ...]
    vectors: Float32[np.ndarray, "n d"]
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "m d"]]
    wording: prompts.PromptSet = prompts.REPORTS
    patches: PatchFn | None = None

    def sides(self, finding: str) -> prompts.PromptVectors:
        """The vectors of what affirms and what denies a finding."""
        return prompts.embed(finding, self.texts, self.wording)

    def images(self, evalset: EvalSet) -> Float32[np.ndarray, "n d"]:
        """The vectors in the set's order, joined by id.

        Raises: ValueError when the ids are not the set's own, in its own order.
        """
        if self.ids != evalset.ids:
            raise ValueError(f"{evalset.name}: embedded ids do not match the set's; scores would be misaligned")
        return self.vectors


class Seen(NamedTuple):
    """Another split of a set's release, embedded: what a suite learns from, or chooses by, before it measures."""

    evalset: EvalSet
    embedded: Embedded


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
    prevalence: float | None = None  # positives over n
    redrawn: int = 0
    truth: str = ""
    group: str = ""  # of a row about some of the studies: which, such as sex=F
    generator: str = ""
    note: str = ""
    draws: Float[np.ndarray, "draws"] | None = field(default=None, repr=False, compare=False)  # its bootstrap

    @classmethod
    def of(
        cls,
        metric: str,
        evalset: EvalSet,
        draws: stats.Draws,
        bootstrap: stats.PatientBootstrap,
        rows: Int[np.ndarray, "r"],
        **facts: int | float | str | None,
    ) -> "Result":
        """A record from a bootstrapped statistic over the given rows of the set."""
        low, high = draws.interval()
        patients = bootstrap.patients(rows)
        positives = facts.get("positives")
        if isinstance(positives, int) and len(rows):
            facts["prevalence"] = positives / len(rows)
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
            draws=draws.values,
            **facts,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Curve:
    """Truth and scores of one finding under one rule: the material of ROC and PR plots, and of later comparisons."""

    data: str
    finding: str
    rule: str
    rows: Int[np.ndarray, "r"]  # of the set
    truth: Bool[np.ndarray, "r"]
    scores: Float[np.ndarray, "r"]


@dataclass(frozen=True)
class Calibrated:
    """How often a finding is there among images of like probability: the material of a reliability plot."""

    data: str
    finding: str
    bins: Reliability


@dataclass(frozen=True)
class Heat:
    """A matrix to be drawn in colours around zero, with the name of every row and column."""

    data: str
    title: str
    note: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float[np.ndarray, "r c"]


class Verdict(enum.Enum):
    """How a shown image or text fits: the report marks it by colour and sign."""

    RIGHT = "right"
    NEAR = "near"
    WRONG = "wrong"
    PLAIN = ""


class Picture(NamedTuple):
    """A grey image of an exhibit, with what is to be said about it."""

    image: UInt8[np.ndarray, "s s"]
    caption: str
    verdict: Verdict = Verdict.PLAIN


class Passage(NamedTuple):
    """A text of an exhibit, with what is to be said about it."""

    text: str
    caption: str = ""
    verdict: Verdict = Verdict.PLAIN


class Case(NamedTuple):
    """One study, or one query, of an exhibit."""

    heading: str
    texts: tuple[Passage, ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Exhibit:
    """Cases of one set that may be shown. Suites make none of a set that is not open."""

    data: str
    title: str
    note: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything a report is written from."""

    results: list[Result] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    calibrated: list[Calibrated] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    facts: Mapping[str, str] = field(default_factory=dict)  # prompts, draws, seed
    sets: tuple["SetFacts", ...] = ()


class SetFacts(NamedTuple):
    """What a report says about a set it was measured on, and whose rows its scores are; `people` are patients."""

    name: str
    split: str
    studies: int
    people: int
    open: bool
    phantom: bool
    truth: str
    title: str
    preprocessing: str
    digest: str
    pixels: str  # digest of the images as the model gets them
    ids: tuple[str, ...]
    patients: tuple[str, ...]


class Evaluator(Protocol):
    """A suite: yields its numbers and pictures for one embedded set."""

    def run(
        self, evalset: EvalSet, embedded: Embedded, bootstrap: stats.PatientBootstrap
    ) -> Iterator[Result | Curve | Calibrated | Heat | Exhibit]: ...
