"""How many abnormal reports give an r^n and an r^o, for which reasons the others give none, and how fast.

Eligible is a report that names an abnormal finding as present. What is made is read back from the text as it is
stored: the finding must be denied (r^n) or not affirmed (r^o), and what is unrelated must be as it was.

    python bench/negation.py openi --source=DIR --splits=fold0+fold1+fold2+fold3 [--quick] [--show=50 --seed=1]

With --show=N it prints N reports drawn at random, for a person to read; only of data sets that are open.
"""

import argparse
import functools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clinicclip import cli
from clinicclip.data import negation, releases, text
from clinicclip.data.generators import templates
from clinicclip.data.generators.templates import Templates
from clinicclip.data.negation import Plan
from clinicclip.data.schema import ABSENT, FINDINGS, UNKNOWN, Drop, Sentence, Sketch, display_name
from clinicclip.errors import UsageError

GOAL, QUICK = 0.90, 300


class Report(NamedTuple):
    """The text of a study, read once however many images it has."""

    study: str
    findings: str
    impression: str


class Measured(NamedTuple):
    """What became of the reports under one generator."""

    reasons: Counter[str]  # of eligible reports without an r^n
    findings: Counter[str]  # denied
    eligible: int
    made: int
    without_omitted: int  # nothing is left of the report
    sound: int  # read back as wanted
    seconds: float


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="bench/negation.py", description=__doc__ or "", example="python bench/negation.py openi --source=DIR"
    )
    flags.add_argument("release", type=cli.one_of(sorted(releases.READERS)), help="what to read")
    flags.add_argument("--source", type=Path, help="folder of the unpacked release")
    flags.add_argument("--splits", default="", help="such as fold0+fold1 (default: all)")
    flags.add_argument("--quick", action="store_true", help=f"the first {QUICK} reports: shows that it runs")
    flags.add_argument("--seed", type=cli.count, default=0, help="of the findings chosen and the reports shown")
    flags.add_argument("--show", type=cli.count, default=0, metavar="N", help="print N of what is made; open data only")
    generators = cli.one_of(sorted(templates.BY_NAME))
    flags.add_argument("--generator", type=generators, default="train", help="whose denials are shown and valued")
    return flags


def main(args: argparse.Namespace) -> int:
    """Measures both generators and prints a table and one JSON line."""
    reader = releases.READERS[args.release]
    if args.show and not reader.OPEN:
        raise UsageError(f"--show prints report text, and {args.release} data are not marked as open")
    found = list(reports(args.release, args.source, args.splits.split("+") if args.splits else list(reader.SPLITS)))
    found = found[:QUICK] if args.quick else found
    started = time.perf_counter()
    read = {report.study: text.sentences(report.findings, report.impression) for report in found}
    seconds = time.perf_counter() - started
    measured = {name: measure(read, generator, args.seed) for name, generator in templates.BY_NAME.items()}
    if args.show:
        show(read, templates.BY_NAME[args.generator], args.seed, args.show)
    table(measured, len(read))
    own = measured[args.generator]
    detail = {name: _detail(result, len(read)) for name, result in measured.items()}
    line = {
        "name": "negation",
        "value": round(own.made / max(own.eligible, 1), 4),
        "unit": "share of eligible reports that give an r^n",
        "goal": GOAL,
        "detail": {"reports": len(read), "reports_read_per_second": round(len(read) / seconds), "seed": args.seed}
        | detail,
    }
    print(json.dumps(line))
    return 0


def reports(release: str, source: Path | None, splits: list[str]) -> Iterator[Report]:
    """The reports of some splits, each once."""
    seen: set[str] = set()
    reader = releases.READERS[release]
    for item in reader.read(**({"source": source} if source else {})):
        if isinstance(item, Drop) or item.split not in splits or item.study in seen:
            continue
        seen.add(item.study)
        study = item.make() if isinstance(item, Sketch) else item
        yield Report(study.study, study.findings, study.impression)


def measure(read: dict[str, list[Sentence]], generator: Templates, seed: int) -> Measured:
    """Alters every report and reads back what was made."""
    started = time.perf_counter()
    made = {study: negation.alter(said, seed=seed, key=study, generator=generator) for study, said in read.items()}
    seconds = time.perf_counter() - started
    eligible = {study for study, said in read.items() if negation.stated(said)}
    altered = {study: result for study, result in made.items() if result.finding >= 0}
    return Measured(
        reasons=Counter(made[study].reason for study in eligible - altered.keys()),
        findings=Counter(FINDINGS[result.finding] for result in altered.values()),
        eligible=len(eligible),
        made=len(altered),
        without_omitted=sum(not result.omitted for result in altered.values()),
        sound=sum(_is_sound(read[study], study, result, seed) for study, result in altered.items()),
        seconds=seconds,
    )


def _is_sound(said: list[Sentence], study: str, made: negation.Altered, seed: int) -> bool:
    """Whether the stored texts, cut into sentences anew, say what they should."""
    found = negation.choose(said, negation.chooser(seed, study))
    assert isinstance(found, Plan)
    before = text.finding_states(said)
    for stored, wanted in ((made.negated, (ABSENT,)), (made.omitted, (ABSENT, UNKNOWN))):
        after = text.finding_states(text.sentences(stored, ""))
        others = [i for i in range(len(FINDINGS)) if i not in found.touched]
        if stored and (after[made.finding] not in wanted or not np.array_equal(after[others], before[others])):
            return False
    return True


def table(measured: dict[str, Measured], count: int) -> None:
    """Prints what became of the reports."""
    print(f"{count:,} reports\n{'':34}" + "".join(f"{name:>10}" for name in measured))
    rows: list[tuple[str, list[str]]] = [
        ("eligible", [f"{m.eligible:,}" for m in measured.values()]),
        ("give an r^n", [f"{m.made:,}" for m in measured.values()]),
        ("  share of eligible", [f"{m.made / max(m.eligible, 1):.3f}" for m in measured.values()]),
        ("  without an r^o: nothing left", [f"{m.without_omitted:,}" for m in measured.values()]),
        ("  read back as wanted", [f"{m.sound / max(m.made, 1):.3f}" for m in measured.values()]),
        ("reports a second, one core", [f"{count / m.seconds:,.0f}" for m in measured.values()]),
    ]
    told = [name for name in negation.REASONS if any(m.reasons[name] for m in measured.values())]
    rows += [(f"none: {display_name(name)}", [f"{m.reasons[name]:,}" for m in measured.values()]) for name in told]
    first = next(iter(measured.values()))
    rows += [
        (f"denied: {display_name(name)}", [f"{m.findings[name]:,}" for m in measured.values()])
        for name, _ in first.findings.most_common()
    ]
    for label, cells in rows:
        print(f"{label:34}" + "".join(f"{cell:>10}" for cell in cells))


def _detail(measured: Measured, count: int) -> dict[str, object]:
    kept = {key: getattr(measured, key) for key in ("eligible", "made", "without_omitted", "sound")}
    speed = {"reports_per_second": round(count / measured.seconds)}
    return kept | speed | {"reasons": dict(measured.reasons), "findings": dict(measured.findings)}


def show(read: dict[str, list[Sentence]], generator: Templates, seed: int, count: int) -> None:
    """Prints reports drawn at random: "-" a sentence that r^n does without, "+" one that is new in it."""
    made = functools.partial(negation.alter, seed=seed, generator=generator)
    altered = {study: result for study, said in read.items() if (result := made(said, key=study)).finding >= 0}
    rows = np.random.default_rng(seed).choice(len(altered), min(count, len(altered)), replace=False)
    for study in sorted(np.array(list(altered))[rows]):
        said = [sentence.text for sentence in read[study]]
        new = [sentence.text for sentence in text.sentences(altered[study].negated, "")]
        print(f"## {study}: {display_name(FINDINGS[altered[study].finding])}")
        print("".join(f"{' ' if sentence in new else '-'} {sentence}\n" for sentence in said), end="")
        print("".join(f"+ {sentence}\n" for sentence in new if sentence not in said))


if __name__ == "__main__":
    cli.run(main, parser())
