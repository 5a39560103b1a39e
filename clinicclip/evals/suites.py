"""The suites by name, and the one function that runs them: embed each set once, score on the host."""

from collections.abc import Callable, Mapping, Sequence

from clinicclip.data import schema
from clinicclip.data.generators import templates
from clinicclip.errors import UsageError, nearest
from clinicclip.evals import prompts
from clinicclip.evals.base import (
    Curve,
    EmbedFns,
    EvalSet,
    Evaluation,
    Evaluator,
    Gallery,
    Result,
    SetFacts,
)
from clinicclip.evals.cxr_align import CxrAlign
from clinicclip.evals.embedding import TextBank, embed_set
from clinicclip.evals.pair_strict import PairStrict
from clinicclip.evals.retrieval import Retrieval
from clinicclip.evals.stats import PatientBootstrap
from clinicclip.evals.zero_shot import ZeroShot

# name -> factory(findings of the macro mean, seed)
SUITES: Mapping[str, Callable[[Sequence[str], int], Evaluator]] = {
    "zero_shot": lambda findings, seed: ZeroShot(findings=tuple(findings)),
    "cxr_align": lambda findings, seed: CxrAlign(seed=seed),
    "pair_strict": lambda findings, seed: PairStrict(seed=seed),
    "retrieval": lambda findings, seed: Retrieval(seed=seed),
}
OF_IMAGES = ("zero_shot", "pair_strict")  # suites that need no report


def check_names(suites: Sequence[str], findings: Sequence[str] = ()) -> None:
    """Raises UsageError naming the first unknown suite or finding, with the nearest known one."""
    for kind, names, known in (("suite", suites, SUITES), ("finding", findings, schema.FINDINGS)):
        for name in map(str, names):
            if name not in known:
                hint = nearest(name, known) or f"; known: {', '.join(known)}"
                raise UsageError(f"unknown {kind} {name!r}{hint}")


def run_suites(
    embed: EmbedFns,
    sets: Sequence[EvalSet],
    suites: Sequence[str] = tuple(SUITES),
    *,
    findings: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Run the named suites on every set; `findings` are those of the zero-shot macro (empty: all evaluable).

    Raises: UsageError for an unknown suite or finding; ValueError when embeddings do not fit the sets.
    """
    check_names(suites, findings)
    for evalset in sets:
        if not any(evalset.reports) and not set(suites) <= set(OF_IMAGES):
            raise UsageError(f"{evalset.name} has no reports: choose --suite={','.join(OF_IMAGES)} for it")
    evaluation = Evaluation(
        facts={
            "prompts": f"version {prompts.VERSION}, {prompts.digest()}",
            "prompt_overlap": prompts.overlap(templates.TRAIN.patterns),
            "bootstrap_draws": str(draws),
            "seed": str(seed),
        },
        sets=tuple(_facts(evalset) for evalset in sets),
    )
    texts = TextBank(embed.texts)
    homes: dict[type, list] = {
        Result: evaluation.results,
        Curve: evaluation.curves,
        Gallery: evaluation.galleries,
    }
    for evalset in sets:
        embedded = embed_set(embed, evalset, texts)
        bootstrap = PatientBootstrap(evalset.patients, draws=draws, seed=seed)
        for suite in suites:
            for found in SUITES[suite](findings, seed).run(evalset, embedded, bootstrap):
                homes[type(found)].append(found)
    return evaluation


def _facts(evalset: EvalSet) -> SetFacts:
    return SetFacts(
        evalset.name,
        evalset.split,
        len(evalset),
        len(set(evalset.patients)),
        evalset.open,
        evalset.phantom,
        evalset.source,
        evalset.title,
        evalset.preprocessing,
        evalset.digest(),
    )
