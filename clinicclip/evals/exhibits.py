"""What a report shows beside its numbers: similarities by finding, and studies to look at.

Heat maps hold means over many studies and are made of every set; studies are shown of open sets alone.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from clinicclip.data import schema
from clinicclip.data.schema import display_name
from clinicclip.evals import cxr_align, prompts
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Case, Curve, Exhibit, Heat, Passage, Picture, Verdict
from clinicclip.evals.truth import NORMAL

RULE = "pair"  # the rule whose mistakes are shown
WORST = 2  # mistakes a finding and a kind
FINDINGS_SHOWN = 6  # those with most positives
ALIGN_EXAMPLES = 6
LEAST = 3  # images a row of the heat map


def similarity(evalset: EvalSet, embedded: Embedded) -> Iterator[Heat]:
    """Mean pair score of images with each finding, for the prompts of each finding, in deviations of that prompt."""
    groups = {name: rows for name, rows in _groups(evalset).items() if len(rows) >= LEAST}
    if not groups:
        return
    vectors = embedded.images(evalset)
    columns = []
    for name in groups:
        scores = prompts.scores(vectors, embedded.sides(name)).pair
        deviation = scores.std()
        columns.append((scores - scores.mean()) / (deviation if deviation > 0 else 1))
    standard = np.stack(columns, axis=1)
    yield Heat(
        evalset.name,
        "Which prompt answers to which finding",
        "Rows: images with the finding. Columns: prompts. A cell is how far these images' pair score (affirming minus "
        "denying prompts) lies above the set's mean, in its standard deviations. A model that tells findings apart has "
        "its high values on the diagonal.",
        tuple(f"{_title(name)} ({len(rows)})" for name, rows in groups.items()),
        tuple(map(_title, groups)),
        np.stack([standard[rows].mean(axis=0) for rows in groups.values()]).astype(np.float64),
    )


def worst_mistakes(evalset: EvalSet, curves: Sequence[Curve]) -> Iterator[Exhibit]:
    """For the most frequent findings: the positives scored lowest and the negatives scored highest."""
    chosen = [c for c in curves if c.data == evalset.name and c.rule == RULE and c.finding != "normal"]
    chosen = sorted(chosen, key=lambda curve: -int(curve.truth.sum()))[:FINDINGS_SHOWN]
    if not (evalset.open and chosen):
        return
    cases = [case for curve in chosen for case in _mistakes(evalset, curve)]
    yield Exhibit(
        evalset.name,
        "Worst mistakes",
        f"Per finding, the {WORST} images with it that score lowest and the {WORST} without it that score highest "
        f"(zero-shot, {RULE} rule), with their place from the highest score down. Truth: {evalset.source}.",
        tuple(cases),
    )


def _mistakes(evalset: EvalSet, curve: Curve) -> Iterator[Case]:
    order = [int(place) for place in np.argsort(-curve.scores, kind="stable")]
    missed = [(rank, place) for rank, place in enumerate(order, 1) if curve.truth[place]][::-1]
    alarms = [(rank, place) for rank, place in enumerate(order, 1) if not curve.truth[place]]
    for kind, found in (("present, scored low", missed), ("absent, scored high", alarms)):
        for rank, place in found[:WORST]:
            row = int(curve.rows[place])
            texts = (Passage(evalset.reports[row], "report"),) if evalset.reports[row] else ()
            picture = Picture(evalset.images[row], evalset.ids[row], Verdict.WRONG)
            yield Case(f"{_title(curve.finding)}: {kind} (place {rank} of {len(order)})", texts, (picture,))


def align_examples(evalset: EvalSet, embedded: Embedded, seed: int) -> Iterator[Exhibit]:
    """CXR-Align items drawn at random: an image, its report, and the report with one finding denied or left out."""
    order = np.random.default_rng(seed).permutation(len(evalset)).tolist()
    whole = (item for item in cxr_align.items_of(evalset, order, seed=seed) if item.omitted)
    drawn = list(itertools.islice(whole, ALIGN_EXAMPLES)) if evalset.open else []
    if not drawn:
        return
    vectors = embedded.images(evalset)
    cases = []
    for item in sorted(drawn):
        texts = {"as written": item.report, "denied": item.negated, "left out": item.omitted}
        cosines = embedded.texts(list(texts.values())) @ vectors[item.row]
        passages = [
            Passage(text, f"{how}, cosine {cosine:.3f}", _preferred(number, cosines))
            for number, ((how, text), cosine) in enumerate(zip(texts.items(), cosines, strict=True))
        ]
        picture = Picture(evalset.images[item.row], evalset.ids[item.row])
        cases.append(Case(_title(schema.FINDINGS[item.finding]), tuple(passages), (picture,)))
    yield Exhibit(
        evalset.name,
        "CXR-Align examples",
        "Items drawn at random by seed. Right is the model that puts the report as written first; the text it prefers "
        "is marked.",
        tuple(cases),
    )


def _preferred(number: int, cosines: Float[np.ndarray, "3"]) -> Verdict:
    if cosines[number] < cosines.max():
        return Verdict.PLAIN
    return Verdict.RIGHT if number == 0 else Verdict.WRONG


def _groups(evalset: EvalSet) -> dict[str, Int[np.ndarray, "r"]]:
    """The rows with each finding, and the normal ones."""
    names = {name: evalset.truth[:, finding] for finding, name in enumerate(schema.FINDINGS) if finding != NORMAL}
    names[schema.FINDINGS[NORMAL]] = evalset.normal
    return {name: np.flatnonzero(column == 1) for name, column in names.items()}


def _title(finding: str) -> str:
    return "normal" if finding == schema.FINDINGS[NORMAL] else display_name(finding)
