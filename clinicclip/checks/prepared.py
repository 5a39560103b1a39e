"""Every check of prepared data, in the order of the page."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from clinicclip import __version__
from clinicclip.checks import chart as charts
from clinicclip.checks import duplicates, identity, in_batch, labels, pictures, plot, reports, truncation
from clinicclip.checks.base import Examination, Finding, Section
from clinicclip.checks.chart import Chart
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece

VOCABULARY = 2000  # pieces of a vocabulary trained here


def examine(
    folders: list[Path], *, train: str = "", tokenizer: str = "", length: int = 256, theta: float = 0.5
) -> Examination:
    """Runs all checks on prepared folders taken together.

    Args:
        train: the training splits, joined by +; default: those called train, or all where none is.
        tokenizer: folder of a BERT tokenizer; default: a WordPiece vocabulary of the training reports.
        length: tokens that the text tower reads.
        theta: the least soft label that counts.

    Raises:
        UserError: a folder, split or tokenizer is not there.
    """
    named = Tokenizer.load(tokenizer) if tokenizer else None
    chart = charts.read(folders, train)
    words = named or train_wordpiece([row.report for row in chart.training()], VOCABULARY)
    alike = in_batch.false_negatives(chart, theta)
    told = [*_checks(chart, words, length), *([alike[0]] if alike else [])]
    findings = [item for item in told if isinstance(item, Finding)]
    return Examination(
        title="Prepared data",
        what=_described(chart, tokenizer or f"WordPiece of the training reports, {words.vocab_size:,} pieces"),
        findings=tuple(sorted(findings, key=lambda finding: -finding.gravity)),
        sections=tuple(item for item in told if isinstance(item, Section)),
        pictures={in_batch.PICTURE: partial(plot.false_negatives, alike[1])} if alike else {},
    )


def _checks(chart: Chart, tokenizer: Tokenizer, length: int) -> Iterator[Finding | Section]:
    return itertools.chain(
        identity.patients(chart),
        identity.untold(chart),
        identity.image_ids(chart),
        duplicates.images(chart),
        pictures.oddities(chart),
        pictures.views(chart),
        reports.coverage(chart),
        reports.repeated(chart),
        reports.private(chart),
        truncation.truncation(chart, tokenizer, length),
        labels.training_labels(chart),
        labels.gold(chart),
    )


def _described(chart: Chart, tokenizer: str) -> dict[str, str]:
    titles = {str(f): m["title"] for f, m in zip(chart.folders, chart.manifests, strict=True)}
    return {
        "data": "; ".join(f"{folder}: {title}" for folder, title in titles.items()),
        "records": f"{len(chart.rows):,} of {len({(row.release, row.patient) for row in chart.rows}):,} patients",
        "training splits": "+".join(sorted(chart.trained)),
        "tokenizer": tokenizer,
        "clinicclip": __version__,
    }
