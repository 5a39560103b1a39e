"""How often each finding is present, absent, uncertain or unknown: training labels and gold, by split."""

from collections.abc import Iterator

import numpy as np

from clinicclip.checks.base import Finding, Gravity, Section, percent
from clinicclip.checks.chart import Chart, Row
from clinicclip.data.schema import ABSENT, CHEXPERT, FINDINGS, PRESENT, UNCERTAIN, UNKNOWN, display_name

FEW = 10  # positives below which a rate says little
_CODES = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN, "unknown": UNKNOWN}


def training_labels(chart: Chart) -> Iterator[Finding | Section]:
    """The fourteen labels that training reads, and the share of normal studies."""
    places = chart.places()
    table = [["present / uncertain / unknown, %", *places]]
    facts: dict[str, dict[str, dict[str, int]]] = {place: {} for place in places}
    for column, name in enumerate(CHEXPERT):
        for place, rows in places.items():
            values = [int(row.labels[column]) for row in rows]
            facts[place][name] = {word: values.count(code) for word, code in _CODES.items()}
        table.append([display_name(name), *(_cell(facts[place][name]) for place in places)])
    for place, rows in places.items():
        values = [row.normal for row in rows]
        facts[place]["normal"] = {word: values.count(code) for word, code in _CODES.items()}
    table.append(["normal", *(_cell(facts[place]["normal"]) for place in places)])
    yield Section("Labels for training", "Percent of studies; what is left is absent.", table, facts)
    unknown = [row for row in chart.training() if (row.labels == UNKNOWN).all()]
    if unknown:
        yield Finding(
            "labels_unknown",
            Gravity.NOTE,
            len(unknown),
            len(chart.training()),
            "training studies",
            "have no label at all",
            "they take no part in the clinical soft labels",
        )


def gold(chart: Chart) -> Iterator[Finding | Section]:
    """Positives among the studies coded for evaluation, by finding."""
    places = {place: rows for place, rows in chart.places().items() if any(row.gold for row in rows)}
    coded = {name for row in chart.rows for name in row.gold}
    if not coded:
        return
    names = [name for name in (*FINDINGS, "normal") if name in coded]
    table = [["present of coded", *places]]
    facts = {place: {name: _coded(rows, name) for name in names} for place, rows in places.items()}
    table += [[display_name(n), *(percent(*facts[place][n].values()) for place in places)] for n in names]
    yield Section("Gold labels", "For evaluation alone; training never reads them.", table, facts)
    rare = {n: [p for p in places if facts[p][n]["coded"] and facts[p][n]["present"] < FEW] for n in names}
    rare = {name: where for name, where in rare.items() if where}
    if rare:
        yield Finding(
            "gold_rare",
            Gravity.NOTE,
            len(rare),
            len(names),
            "coded findings",
            f"have fewer than {FEW} positives in a split",
            "their intervals are wide: choose the macro's findings with --findings, or pool splits",
            tuple(f"{n} ({', '.join(w) if len(w) < 3 else f'{len(w)} splits'})" for n, w in rare.items()),
        )


def _coded(rows: list[Row], name: str) -> dict[str, int]:
    values = np.array([row.gold.get(name, UNKNOWN) for row in rows])
    return {"present": int((values == PRESENT).sum()), "coded": int(np.isin(values, (PRESENT, ABSENT)).sum())}


def _cell(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return " / ".join(f"{100 * counts[word] / total:.1f}" for word in ("present", "uncertain", "unknown"))
