"""Report language against people: our findings and the human coding of Open-I's reports, side by side with a floor.

The floor is what a regular expression and a list of denying words reach. Rules were chosen on folds 0-3 alone; fold 4
is the claim. Coding is by MeSH terms, so not all disagreements are faults of ours: bench/language.md counts them.

    python bench/language.py --source=DIR [--folds=0123] [--workers=2] [--quick]

DIR is a folder in Open-I's layout: ecgen-radiology/*.xml and labels.csv. The last line is JSON; its value is micro F1.
"""

import argparse
import contextlib
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int8
from tqdm import tqdm

from clinicclip import cli
from clinicclip.data import negation, rule_graphs, schema, sections, text
from clinicclip.data.generators import templates
from clinicclip.data.releases import openi
from clinicclip.data.schema import ABSENT, FINDINGS, INDEX, PRESENT, UNCERTAIN
from clinicclip.errors import UserError
from clinicclip.evals.stats import Draws, PatientBootstrap

GOAL, SPEED_GOAL = 0.90, 300  # micro F1; reports a second and core
FEW = 40  # positives under which a finding joins the pooled row
POOLED = f"fewer than {FEW} each, pooled"
QUICK = 400
CHUNK = 64  # reports a worker is given at a time

# The floor: where the name of a finding stands and no denying word before it in its sentence.
DENYING = re.compile(r"\b(?:no|not|without|negative|free|clear|resolved|absent|unremarkable|normal)\b")
NAMES = {
    "atelectasis": r"atelecta|volume loss",
    "cardiomegaly": r"cardiomegaly|(?:heart|cardiac)[a-z ]*(?:enlarge|large)|enlarged (?:heart|cardiac)",
    "pleural_effusion": r"effusion|pleural fluid|costophrenic[a-z ]*blunt|blunting",
    "infiltration": r"infiltrat",
    "mass": r"\bmass",
    "nodule": r"nodul",
    "pneumonia": r"pneumonia",
    "pneumothorax": r"pneumothora",
    "consolidation": r"consolidat",
    "edema": r"edema",
    "emphysema": r"emphysem|bullous",
    "fibrosis": r"fibrosis|fibrotic",
    "pleural_thickening": r"pleural thickening|thickened pleura",
    "hernia": r"hernia",
}
FLOOR = {name: re.compile(pattern) for name, pattern in NAMES.items()}


class Table(NamedTuple):
    """Coded and called findings of the same reports; columns are `findings`."""

    findings: tuple[str, ...]
    patients: list[str]
    coded: Bool[np.ndarray, "n f"]
    states: Int8[np.ndarray, "n f"]  # as `text.finding_states` gives them
    floor: Bool[np.ndarray, "n f"]
    coded_normal: Bool[np.ndarray, "n"]
    normal: Bool[np.ndarray, "n"]


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/language.py", description=__doc__, example="python bench/language.py --source=DIR"
    )
    flags.add_argument("--source", required=True, type=Path, help="folder with ecgen-radiology/*.xml and labels.csv")
    flags.add_argument("--folds", default="01234", help="folds of patients to measure on: 0123 to choose, 4 to claim")
    flags.add_argument("--draws", type=int, default=1000, help="bootstrap draws by patient")
    flags.add_argument("--workers", type=cli.count, default=2, help="processes of the second measurement of speed (2)")
    flags.add_argument("--quick", action="store_true", help=f"the first {QUICK} reports: shows that it runs")
    return flags


def main(args: argparse.Namespace) -> int:
    """Measures agreement, polarity and speed; prints tables and one JSON line. 1 where a goal is missed."""
    coded = openi.gold(args.source)
    reports = [r for r in openi.reports(args.source) if r.uid in coded and str(schema.fold(r.uid)) in args.folds]
    reports = reports[:QUICK] if args.quick else reports
    if not reports:
        raise UserError(f"{args.source}: no report with a row in labels.csv in folds {args.folds}; correct --source")
    print(f"{len(reports)} reports of folds {args.folds}; sections: {counts(reports)}")
    speeds = {
        "reports_per_second": throughput(reports),
        "reports_per_second_nothing_remembered": throughput(reports, forgetful=True),
        f"reports_per_second_of_{args.workers}_processes": throughput(reports, args.workers),
    }
    table = read(reports, coded)
    detail = agreement(table, args.draws)
    detail |= {"polarity": polarity(table), "n": len(reports), "folds": args.folds}
    detail |= {name: round(speed) for name, speed in speeds.items()}
    for name, speed in speeds.items():
        print(f"whole chain: {speed:.0f} {name.replace('_', ' ')} and core (goal {SPEED_GOAL})")
    f1 = detail["micro"]["f1"]
    met = f1 >= GOAL and min(speeds.values()) >= SPEED_GOAL
    return cli.measured("language", f1, "micro F1", GOAL, detail, met=met)


def read(reports: Sequence[openi.Report], coded: Mapping[str, Mapping[str, int]]) -> Table:
    """What people, our rules and the floor say of every report."""
    findings = tuple(name for name in FINDINGS if name in coded[reports[0].uid])
    columns = [INDEX[name] for name in findings]
    said = [text.sentences(r.findings, r.impression) for r in reports]
    return Table(
        findings,
        [r.uid for r in reports],
        np.array([[coded[r.uid][name] == 1 for name in findings] for r in reports]),
        np.array([text.finding_states(sentences)[columns] for sentences in said]),
        np.array([[_floor(f"{r.findings} {r.impression}", name) for name in findings] for r in reports]),
        np.array([coded[r.uid]["normal"] == 1 for r in reports]),
        np.array([text.is_normal(sentences) == 1 for sentences in said]),
    )


def _floor(report: str, finding: str) -> bool:
    for sentence in re.split(r"[.;]\s", report.lower()):
        match = FLOOR[finding].search(sentence)
        if match and not DENYING.search(sentence, 0, match.start()):
            return True
    return False


def counts(reports: Sequence[openi.Report]) -> dict[str, int]:
    """How many reports have which sections."""
    kinds = {(True, True): "both", (True, False): "findings only", (False, True): "impression only"}
    return dict(Counter(kinds.get((bool(r.findings), bool(r.impression)), "neither") for r in reports))


def agreement(table: Table, draws: int) -> dict[str, Any]:
    """Prints precision, recall and F1 of "present" per finding, rare ones pooled; returns them by row."""
    bootstrap = PatientBootstrap(table.patients, draws=draws)
    positives = table.coded.sum(axis=0)
    occurring = [i for i in range(len(table.findings)) if positives[i]]
    rows = {table.findings[i]: [i] for i in occurring if positives[i] >= FEW}
    rows[POOLED] = [i for i in occurring if positives[i] < FEW]
    rows["micro"] = occurring
    print(f"{'present':28} {'n':>4}  {'ours: P R F1 [95 %]':34} {'uncertain as present':21} floor: P R F1")
    found: dict[str, Any] = {}
    for name, columns in rows.items():
        if not columns:
            continue
        states, coded = table.states[:, columns], table.coded[:, columns]
        ours, lenient = Score(states == PRESENT, coded), Score(np.isin(states, (PRESENT, UNCERTAIN)), coded)
        found[name] = _row(name, ours, bootstrap, lenient, Score(table.floor[:, columns], coded))
    normal = Score(table.normal[:, None], table.coded_normal[:, None])
    found["normal"] = _row("normal", normal, bootstrap)
    return found


def _row(name: str, ours: "Score", bootstrap: PatientBootstrap, *others: "Score") -> dict[str, float]:
    low, high = ours.f1(bootstrap).interval()
    cells = f"{ours.cells()} [{low:.3f}, {high:.3f}]"
    print(
        f"{schema.display_name(name):28} {ours.positives:4}  {cells:34} {' '.join(f'{o.cells():21}' for o in others)}"
    )
    values = dict(zip(("precision", "recall", "f1"), ours.total(), strict=True)) | {"ci_low": low, "ci_high": high}
    keys = ("f1_uncertain_as_present", "f1_floor")[: len(others)]
    values |= {key: other.total()[2] for key, other in zip(keys, others, strict=True)}
    return {"n": ours.positives} | {key: round(value, 4) for key, value in values.items()}


class Score:
    """Hits, false calls and misses of every report."""

    def __init__(self, called: Bool[np.ndarray, "n c"], coded: Bool[np.ndarray, "n c"]) -> None:
        self.hits = (called & coded).sum(axis=1)
        self.false = (called & ~coded).sum(axis=1)
        self.missed = (~called & coded).sum(axis=1)
        self.positives = int(coded.sum())

    def total(self) -> tuple[float, float, float]:
        """Precision, recall, F1."""
        hits, false, missed = (int(part.sum()) for part in (self.hits, self.false, self.missed))
        ratio = [(hits, hits + false), (hits, hits + missed), (2 * hits, 2 * hits + false + missed)]
        precision, recall, f1 = (top / bottom if bottom else 0.0 for top, bottom in ratio)
        return precision, recall, f1

    def cells(self) -> str:
        """The three as a table shows them."""
        return " ".join(f"{value:.3f}" for value in self.total())

    def f1(self, bootstrap: PatientBootstrap) -> Draws:
        """F1 over redraws of patients."""
        errors = (self.false + self.missed).astype(np.float64)
        hits = 2.0 * self.hits

        def statistic(weights: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k"]:
            top, bottom = weights @ hits, weights @ (hits + errors)
            return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)

        return bootstrap.draws(statistic, np.arange(len(self.hits)))


def polarity(table: Table) -> dict[str, dict[str, float]]:
    """Prints what is said of the findings that reports name, by what people coded; returns shares by finding.

    A labeller that only spots words calls all of the second group present.
    """
    print(f"\n{'named in the report':28} coded: present uncertain absent | not coded: n present uncertain absent")
    found = {}
    for i, name in enumerate(table.findings):
        states, coded = table.states[:, i], table.coded[:, i]
        both = [[int((states[part] == s).sum()) for s in (PRESENT, UNCERTAIN, ABSENT)] for part in (coded, ~coded)]
        if not sum(map(sum, both)):
            continue
        print(f"{schema.display_name(name):28} {both[0]} | {sum(both[1])} {both[1]}")
        keys = ("present", "uncertain", "absent")
        found[name] = {
            "coded": dict(zip(keys, both[0], strict=True)),
            "not_coded": dict(zip(keys, both[1], strict=True)),
        }
    return found


def throughput(reports: Sequence[openi.Report], workers: int = 0, *, forgetful: bool = False) -> float:
    """Reports a second and core, by processor time, of the whole chain in so many processes (0 = this one).

    `forgetful` forgets after every report: reports repeat themselves, and other data may do so less.
    """
    raw = [f"FINDINGS: {r.findings}\n\nIMPRESSION: {r.impression}" for r in reports]
    chunks = [(raw[start : start + CHUNK], forgetful) for start in range(0, len(raw), CHUNK)]
    text.forget()
    seconds = 0.0
    with tqdm(total=len(raw), unit=" reports", disable=None) as bar, contextlib.ExitStack() as stack:
        pool = workers and stack.enter_context(ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")))
        for chunk, spent in zip(chunks, pool.map(chain, chunks) if pool else map(chain, chunks), strict=True):
            seconds += spent
            bar.update(len(chunk[0]))
    return len(raw) / seconds


def chain(chunk: tuple[list[str], bool]) -> float:
    """The processor time of making of reports what a record holds of them: sentences, labels, r^n and r^o, graph."""
    started = time.process_time()
    for key, report in enumerate(chunk[0]):
        said = text.sentences(*sections.report_sections(report))
        text.report_labels(said)
        text.is_normal(said)
        negation.alter(said, seed=0, key=str(key), generator=templates.TRAIN)
        rule_graphs.build(said)
        if chunk[1]:
            text.forget()
    return time.process_time() - started


if __name__ == "__main__":
    cli.run(main, parser())
