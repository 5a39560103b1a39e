"""What a report says about one set, section by section: the same for Markdown and for the page.

A suite whose numbers no section here knows gets a section of its own, in which they stand by name.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from clinicclip.data.schema import display_name
from clinicclip.evals.matching import CONTROL_IMAGES
from clinicclip.evals.numbers import Numbers
from clinicclip.evals.results import Evaluation, SetFacts
from clinicclip.evals.tables import (
    align_finding_table,
    align_table,
    pair_strict_table,
    retrieval_table,
    suite_title,
    summary_table,
    tables_of,
    zero_shot_table,
)
from clinicclip.tabular import Table

PHANTOM = "PHANTOM DATA: proves code, not clinical quality"
RESEARCH = "Research use only. Not a medical device; not for diagnosis or treatment."
PAIR_STRICT_NOTE = (
    "Two matched images, one with and one without the finding; right only if the affirming prompt wins on "
    "the first and the denying prompt on the second. Image-blind: 0; a coin: 0.25."
)
BESIDE = {"train": "learnt from", "validation": "chosen by"}  # other splits of a set, with their hashes
SUMMARY, ZERO_SHOT, CALIBRATION = "Summary", "Zero-shot by finding", "Calibration"
# Of suites without a table of their own, what a reader must know.
NOTES = {
    "subgroups": "Zero-shot AUROC, pair rule, within a part of the studies. A finding that is called by what comes "
    "with it falls towards 0.5 within the groups. Macros of groups run over other findings and are not compared.",
    "calibration": "Scores become probabilities by a temperature and an offset fitted on the validation split, never "
    "on these studies. ECE: mean distance between probability and share of positives, which chance adds to, so that "
    "its interval lies high; Brier: mean squared error.",
    "operating": "Decisions at the threshold with the greatest sensitivity + specificity on the validation split, "
    "never on these studies. PPV and NPV hold for the prevalence of this set.",
    "grounding": "How well the similarity of image patches to the affirming prompts points at the finding, against its "
    "boxes in the original image. Pointing: is the highest point inside, beside what a point at random reaches.",
    "five_way": "Images that show exactly one of five findings: is it the one with the highest score? A guess: 0.2.",
    "normality": "Normal against abnormal, by the prompts of the normal class and by no finding standing out.",
    "probe": "Linear classifiers on frozen image embeddings, learnt from parts of the training split.",
}


class Section(NamedTuple):
    """A titled table with what a reader must know to read it."""

    title: str
    note: str
    table: Table


def title(facts: SetFacts) -> str:
    """The set in one line, phantom data named as such."""
    told = f"{facts.name}, split {facts.split}: {facts.studies} studies of {facts.people} patients"
    return f"{told}  [{PHANTOM}]" if facts.phantom else told


def sections(evaluation: Evaluation, facts: SetFacts) -> list[Section]:
    """Everything that was measured on a set; sections without rows are left out."""
    numbers = Numbers(evaluation, facts)
    known = [
        Section(SUMMARY, "", summary_table(numbers)),
        Section(ZERO_SHOT, _zero_shot_note(numbers, facts), zero_shot_table(numbers)),
        Section("CXR-Align", _align_note(numbers), align_table(numbers)),
        Section("CXR-Align Task A by finding", "", align_finding_table(numbers, "task_a")),
        Section("CXR-Align Task B by finding", "", align_finding_table(numbers, "task_b")),
        Section("Pair-strict", PAIR_STRICT_NOTE, pair_strict_table(numbers)),
        Section("Retrieval", _retrieval_note(numbers), retrieval_table(numbers)),
    ]
    others = [
        Section(_title(suite, group), _note(numbers, suite, metrics), table)
        for suite, metrics in numbers.rest().items()
        for group, table in tables_of(numbers, metrics)
    ]
    return [section for section in known + others if len(section.table) > 1]


def run_table(evaluation: Evaluation, provenance: Mapping[str, str]) -> Table:
    """What was run, a row a fact."""
    facts = {**provenance, **evaluation.facts}
    return [["what", "value"], *([key.replace("_", " "), value] for key, value in facts.items())]


def sets_table(evaluation: Evaluation) -> Table:
    """What it was run on, a row a set."""
    heading = ["data", "split", "studies", "patients", "unread images", "truth", "preprocessing"]
    heading += ["data hash", "pixel hash"]
    roles = [role for role in BESIDE if any(f.beside[role] for f in evaluation.sets)]
    rows = [heading + [BESIDE[role] for role in roles]]
    for f in evaluation.sets:
        counts = map(str, (f.studies, f.people, len(f.unread)))
        rows.append([f.name, f.split, *counts, f.truth, f.preprocessing, f.digest, f.pixels])
        rows[-1] += [f.beside[role] or "none" for role in roles]
    return rows


def left_out(facts: SetFacts) -> str:
    """Which studies are in no score and no label, in a sentence, or ""."""
    several = f"{len(facts.unread)} studies are" if len(facts.unread) > 1 else "1 study is"
    told = f"{several} left out of scores and labels, as the image cannot be read: {', '.join(facts.unread)}."
    return told if facts.unread else ""


def hidden(evaluation: Evaluation) -> str:
    """Which sets' images and texts are not shown, in a sentence, or ""."""
    names = [facts.name for facts in evaluation.sets if not facts.open]
    return f"No images or texts of {', '.join(names)}: this data may not be shown." if names else ""


def _title(suite: str, group: str) -> str:
    return f"{suite_title(suite)} by {display_name(group)}" if group else suite_title(suite)


def _note(numbers: Numbers, suite: str, metrics: Sequence[str]) -> str:
    remark = display_name(numbers.remark(metrics))
    return " ".join(filter(None, (NOTES.get(suite, ""), f"{remark[:1].upper()}{remark[1:]}." if remark else "")))


def _zero_shot_note(numbers: Numbers, facts: SetFacts) -> str:
    macro = numbers.get(f"zero_shot/{facts.name}/auroc/pair/macro")
    return f"Pair: affirming minus denying prompts. Positive: affirming prompts alone. Truth: {facts.truth}." + (
        f" Macro: {macro.note.replace('_', ' ')}." if macro else ""
    )


def _align_note(numbers: Numbers) -> str:
    found = numbers.get("cxr_align/task_a")
    generator = found.generator if found else ""
    return (
        "How often an image prefers its report to the same report with one finding denied or left out "
        f"(texts altered by generator `{generator}`). Wrong images: the same texts against up to "
        f"{CONTROL_IMAGES} images of other patients without the finding. Image-driven is the difference: "
        "what the text alone cannot give. Abnormal: studies of the whole set."
    )


def _retrieval_note(numbers: Numbers) -> str:
    ways = {"image to text": "retrieval/i2t/recall@1", "text to image": "retrieval/t2i/recall@1"}
    found = {way: numbers.get(metric) for way, metric in ways.items()}
    counts = "; ".join(f"{way}: {result.note}" for way, result in found.items() if result)
    return (
        f"Identical texts are one ({counts}). F1 compares the findings of the nearest entry (@1), or of the "
        "majority of the five nearest (@5), with the query's."
    )
