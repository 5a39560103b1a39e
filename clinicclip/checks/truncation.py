"""Reports longer than the text tower reads, and whether what is cut off would have mattered."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from clinicclip.checks.base import Finding, Gravity, Section, few, percent
from clinicclip.checks.chart import Chart, Row
from clinicclip.data import text
from clinicclip.data.draws import sentences
from clinicclip.data.schema import ABSENT, Record
from clinicclip.data.tokenizer import Tokenizer

LONGEST = 2**20  # tokens: more than any report has


class Cut(NamedTuple):
    """What a report loses at its end."""

    impression: bool  # a sentence of the impression, or a part of one
    negation: bool  # a sentence that denies a finding


def truncation(chart: Chart, tokenizer: Tokenizer, length: int) -> Iterator[Finding | Section]:
    """Length of reports in tokens by split, and what is cut at ``length`` tokens, [CLS] and [SEP] included."""
    table = [["split", "median", "99 %", "longest", "cut", "of an impression", "a negation"]]
    facts = {}
    cut: list[tuple[Row, Cut]] = []
    for place, rows in chart.places().items():
        tokens = np.array([len(ids) for ids in tokenizer.encode([row.report for row in rows], LONGEST)[0]])
        own = [
            (row, lost(chart.record(row), tokenizer, length)) for row, n in zip(rows, tokens, strict=True) if n > length
        ]
        kinds = [sum(what.impression for _, what in own), sum(what.negation for _, what in own)]
        median, high, most = (int(np.quantile(tokens, q)) for q in (0.5, 0.99, 1.0))
        shares = [percent(n, len(rows)) for n in (len(own), *kinds)]
        table.append([place, str(median), str(high), str(most), *shares])
        facts[place] = {"median": median, "p99": high, "longest": most, "cut": len(own)}
        facts[place] |= {"cut_impression": kinds[0], "cut_negation": kinds[1]}
        cut += own
    note = f"In tokens; cut at {length}. Vocabulary: {tokenizer.vocab_size:,} pieces."
    yield Section("Length of reports", note, table, facts)
    for name, says in (("impression", "lose part of their impression"), ("negation", "lose a denial")):
        found = [row.image_id for row, what in cut if getattr(what, name)]
        if found:
            yield Finding(
                f"truncated_{name}",
                Gravity.LOOK,
                len(found),
                len(chart.rows),
                "reports",
                f"{says} at {length} tokens",
                "raise data.text_length, or draw sentences (data.text_mode=sentences)",
                few(found),
            )


def lost(record: Record, tokenizer: Tokenizer, length: int) -> Cut:
    """What of a report lies beyond ``length`` tokens. Pieces never reach over a space, so that sentences add up."""
    said = sentences(record)
    ends = accumulate(len(ids) - 2 for ids in tokenizer.encode([sentence.text for sentence in said], LONGEST)[0])
    kept = sum(end <= length - 2 for end in ends)
    of_findings = len(text.sentences(record["findings"], ""))  # the impression's own statements come behind them
    return Cut(
        impression=max(kept, of_findings) < len(said),
        negation=any(sentence.polarity == ABSENT for sentence in said[kept:]),
    )
