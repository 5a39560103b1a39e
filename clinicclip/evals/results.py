"""What evaluations yield: numbers, the raw material of the report's pictures, and all of it together."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from clinicclip.evals import outcomes, stats
from clinicclip.evals.base import REPORT_TEXT, Embedded, EvalSet
from clinicclip.evals.calibration import Reliability


@dataclass(frozen=True)
class Result:
    """One number: what it is, its 95 % interval by patient, and what it was measured on."""

    metric: str
    data: str
    split: str
    value: float  # nan: does not exist on these data, `note` says why
    ci_low: float
    ci_high: float
    n: int  # different studies
    patients: int
    pairs: int | None = None  # of images, or of image and finding, where the value is a mean over such
    prevalence_of: str = ""  # the finding that the number is about, "5 findings" for their mean, or "abnormal"
    positives: int | None = None  # studies that show it; None of several findings
    prevalence: float | None = None  # their share of the studies of which it is known; None where it is of none
    redrawn: int = 0
    caution: str = ""  # why the interval says less than it seems to
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
        *,
        about: Sequence[int] = (),
        among: Int[np.ndarray, "m"] | None = None,
        pairs: int | None = None,
        group: str = "",
        generator: str = "",
        note: str = "",
    ) -> "Result":
        """A record from a bootstrapped statistic over the given rows of the set, of which some may be there twice.

        ``about`` are the findings that the number is about; none: it is about whole studies, of which the abnormal are
        counted. They are counted among the rows, or, where the rows were chosen for showing a finding, among others.
        """
        low, high = draws.interval()
        rows = np.unique(rows)
        labels = (evalset.counted(about) if about else 1 - evalset.normal[:, None])[rows if among is None else among]
        known, positives = int(np.isfinite(labels).sum()), int((labels == 1).sum())
        needed = [rows]
        if len(about) == 1 and among is None:
            needed += [rows[labels[:, 0] == outcome] for outcome in (0, 1)]
        coded = not about or np.isfinite(evalset.labels(about)).any()
        return cls(
            metric,
            evalset.name,
            evalset.split,
            draws.value,
            low,
            high,
            len(rows),
            bootstrap.patients(rows),
            pairs=pairs,
            prevalence_of=_named(about),
            positives=positives if len(about) < 2 and known else None,
            prevalence=positives / known if known else None,
            redrawn=draws.redrawn,
            caution=outcomes.caution(draws, map(bootstrap.patients, needed), max(1, len(about))),
            truth=evalset.source if coded else f"{REPORT_TEXT} ({outcomes.UNCODED})",
            group=group,
            generator=generator,
            note=note,
            draws=draws.values,
        )

    @classmethod
    def macro(
        cls,
        metric: str,
        evalset: EvalSet,
        bootstrap: stats.PatientBootstrap,
        parts: Mapping[int, "Part"],
        rows: Int[np.ndarray, "r"] | None = None,
        *,
        lacking: str = outcomes.NONE_BOTH,
        among: Int[np.ndarray, "m"] | None = None,
        pairs: int | None = None,
        group: str = "",
    ) -> "Result":
        """The mean of statistics of several findings, each over rows of its own.

        Without any there is no such mean over the ``rows`` (all studies), for the reason ``lacking``. The rest is as
        in `of`.
        """
        draws, note = stats.NOTHING, lacking
        rows = np.arange(len(evalset)) if rows is None else rows
        if parts:
            draws = stats.macro([part.draws for part in parts.values()])
            rows = np.concatenate([part.rows for part in parts.values()])
            note = "mean over " + ", ".join(map(outcomes.label, parts))
        return cls.of(
            metric,
            evalset,
            draws,
            bootstrap,
            rows,
            about=tuple(parts),
            among=among,
            pairs=pairs,
            group=group,
            note=note,
        )


class Part(NamedTuple):
    """A statistic of one finding, and the rows of the set that it is over."""

    draws: stats.Draws
    rows: Int[np.ndarray, "r"]


def _named(about: Sequence[int]) -> str:
    names = [outcomes.label(finding) for finding in about]
    return f"{len(names)} findings" if len(names) > 1 else names[0] if names else "abnormal"


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
    unread: tuple[str, ...]  # ids of studies that are in no score and no label
    truth: str
    title: str
    preprocessing: str
    digest: str
    pixels: str  # digest of the images as the model gets them
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    beside: Mapping[str, str]  # role -> the split that was learnt from, or chosen by, with its digest; "" = none


class Evaluator(Protocol):
    """A suite: yields its numbers and pictures for one embedded set."""

    def run(
        self, evalset: EvalSet, embedded: Embedded, bootstrap: stats.PatientBootstrap
    ) -> Iterator[Result | Curve | Calibrated | Heat | Exhibit]: ...
