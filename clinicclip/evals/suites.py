"""The suites by name, and the one function that runs them: embed each set once, score on the host."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from clinicclip.data import schema
from clinicclip.data.generators import templates
from clinicclip.errors import UsageError, nearest
from clinicclip.evals import benchmarks, exhibits, prompts
from clinicclip.evals.base import Embedded, EmbedFns, EvalSet, Seen
from clinicclip.evals.cxr_align import CxrAlign
from clinicclip.evals.embedding import Store, TextBank, embed_set
from clinicclip.evals.five_way import FiveWay
from clinicclip.evals.grounding import Grounding
from clinicclip.evals.normality import Normality
from clinicclip.evals.operating import Operating
from clinicclip.evals.pair_strict import PairStrict
from clinicclip.evals.probe import Probe
from clinicclip.evals.results import Calibrated, Curve, Evaluation, Evaluator, Exhibit, Heat, Result, SetFacts
from clinicclip.evals.retrieval import Retrieval
from clinicclip.evals.stats import PatientBootstrap
from clinicclip.evals.subgroups import Subgroups
from clinicclip.evals.zero_shot import ZeroShot


class Setting(NamedTuple):
    """What suites are made from, besides the set that they measure."""

    findings: Sequence[str] = ()  # of macro means; () = as the literature has them for the release, or all
    seed: int = 0
    train: Seen | None = None
    validation: Seen | None = None


class Beside(NamedTuple):
    """Other splits of a set's release, of other patients."""

    train: EvalSet | None = None
    validation: EvalSet | None = None


SUITES: Mapping[str, Callable[[Setting], Evaluator]] = {
    "zero_shot": lambda setting: ZeroShot(findings=tuple(setting.findings)),
    "cxr_align": lambda setting: CxrAlign(seed=setting.seed),
    "pair_strict": lambda setting: PairStrict(seed=setting.seed),
    "retrieval": lambda setting: Retrieval(seed=setting.seed),
    "five_way": lambda setting: FiveWay(),
    "normality": lambda setting: Normality(),
    "subgroups": lambda setting: Subgroups(findings=tuple(setting.findings)),
    "operating": lambda setting: Operating(setting.validation),
    "grounding": lambda setting: Grounding(setting.validation),
    "probe": lambda setting: Probe(setting.train, setting.validation),
}
CORE = ("zero_shot", "cxr_align", "pair_strict", "retrieval")  # what a run is watched by
OF_REPORTS = ("cxr_align", "retrieval")  # suites that need reports
LEARNING = ("probe",)  # suites that need a training split
CHOOSING = ("operating", "grounding", "probe")  # suites that use a validation split
USUAL = tuple(name for name in SUITES if name not in LEARNING)  # all that do not embed a training split
OF_IMAGES = tuple(name for name in USUAL if name not in OF_REPORTS)
USUAL_FINDINGS = "as the literature has them, or all that are coded both ways"


def check_names(suites: Sequence[str], findings: Sequence[str] = ()) -> None:
    """Raises UsageError naming the first unknown suite or finding, with the nearest known one."""
    for kind, names, known in (("suite", suites, SUITES), ("finding", findings, schema.FINDINGS)):
        for name in map(str, names):
            if name not in known:
                hint = nearest(name, known) or f"; known: {', '.join(known)}"
                raise UsageError(f"unknown {kind} {name!r}{hint}")


def fitting(evalset: EvalSet, suites: Sequence[str]) -> tuple[str, ...]:
    """Those of the suites that a set can be scored by: one without reports, not by those that need them."""
    return tuple(name for name in suites if name not in OF_REPORTS or any(evalset.reports))


def run_suites(
    embed: EmbedFns,
    sets: Sequence[EvalSet],
    suites: Sequence[str] = CORE,
    *,
    findings: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
    store: Store | None = None,
    beside: Mapping[str, Beside] = MappingProxyType({}),
    wording: prompts.PromptSet = prompts.REPORTS,
) -> Evaluation:
    """Run the named suites on every set that they fit; `findings` are those of macro means (empty: see `Setting`).

    `beside` holds, by the set's name, the splits to learn from and to choose by; without them suites that need one
    say so in their rows.

    Where a `store` is given, what it holds of this model is not embedded again, and what is embedded goes there.

    Raises: UsageError for an unknown suite or finding; ValueError when embeddings do not fit the sets.
    """
    check_names(suites, findings)
    evaluation = Evaluation(
        facts={
            "prompts": wording.describe(),
            "prompt_overlap": wording.overlap(templates.TRAIN.patterns),
            "macro_findings": ", ".join(findings) or USUAL_FINDINGS,
            "bootstrap_draws": str(draws),
            "seed": str(seed),
        },
        sets=tuple(facts_of(evalset, beside.get(evalset.name, Beside())) for evalset in sets),
    )
    texts = TextBank(embed.texts, store)
    homes: dict[type, list] = {
        Result: evaluation.results,
        Curve: evaluation.curves,
        Calibrated: evaluation.calibrated,
        Heat: evaluation.heats,
        Exhibit: evaluation.exhibits,
    }
    embed_one = functools.partial(
        embed_set, embed, texts=texts, wording=wording, store=store, maps="grounding" in suites
    )
    for evalset in sets:
        embedded = embed_one(evalset)
        near = beside.get(evalset.name, Beside())
        _require_apart(evalset, near)
        seen = [Seen(other, embed_one(other)) if other else None for other in near]
        setting = Setting(findings, seed, *seen)
        bootstrap = PatientBootstrap(evalset.patients, draws=draws, seed=seed)
        fitted = fitting(evalset, suites)
        for suite in fitted:
            for found in SUITES[suite](setting).run(evalset, embedded, bootstrap):
                homes[type(found)].append(found)
        for shown in _shown(evalset, embedded, fitted, evaluation.curves, seed) if draws else ():
            homes[type(shown)].append(shown)
    texts.save()
    return evaluation


def _shown(
    evalset: EvalSet, embedded: Embedded, suites: Sequence[str], curves: Sequence[Curve], seed: int
) -> Iterator[Heat | Exhibit]:
    """What a report shows beside the suites' own: of evaluations with intervals, the others being on the way."""
    if "zero_shot" in suites:
        yield from exhibits.similarity(evalset, embedded)
        yield from exhibits.worst_mistakes(evalset, curves)
    if "cxr_align" in suites:
        yield from exhibits.align_examples(evalset, embedded, seed)


def _require_apart(evalset: EvalSet, others: Beside) -> None:
    """Raises ValueError when a patient is both learnt from or chosen by and measured."""
    for role, other in others._asdict().items():
        shared = set(evalset.patients) & set(other.patients if other else ())
        if shared:
            raise ValueError(f"{evalset.name}: {len(shared)} patients are in split {evalset.split} and in its {role}")


def facts_of(evalset: EvalSet, beside: Beside = Beside()) -> SetFacts:
    """What a report says about a set, and about the splits beside it."""
    return SetFacts(
        evalset.name,
        evalset.split,
        len(evalset),
        len(set(evalset.patients)),
        evalset.open,
        evalset.phantom,
        evalset.unread,
        f"{evalset.source}; {benchmarks.of(evalset.release).blank if evalset.coded else benchmarks.UNCODED}",
        evalset.title,
        evalset.preprocessing,
        evalset.digest(),
        evalset.pixel_digest(),
        evalset.ids,
        evalset.patients,
        {role: f"{near.split} ({near.digest()})" if near else "" for role, near in beside._asdict().items()},
    )
