"""How many of a batch's "negatives" are truly alike: the reason for soft labels.

Counted exactly over a sample of the training studies: for every study, how many of the others have its report word
for word, its labels, or a likeness of at least theta, as the soft labels of variant dt_c see it (report text and
clinical labels, weighted equally). What a batch of B then holds follows without drawing any.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import hypergeom

from clinicclip.checks.base import Section
from clinicclip.checks.chart import Chart, Row
from clinicclip.data.draws import target_labels
from clinicclip.data.features import TfidfSvd
from clinicclip.data.schema import PRESENT, UNKNOWN
from clinicclip.losses import soft_labels
from clinicclip.losses.soft_labels import Stream

SAMPLE = 4096  # studies compared with each other
LEAST = 3  # studies without which nothing is compared
BATCHES = (64, 1024)
PICTURE = "in_batch.png"
REPORT, LABELS, SOFT = "same report", "same labels", "soft label above theta"
WIDTH = 128  # of the frozen text features
BLOCK = 512  # rows compared at a time


class Likes(NamedTuple):
    """For each study of a sample, how many others are like it, by what is meant by that."""

    by: dict[str, Int[np.ndarray, " n"]]
    normal: Bool[np.ndarray, " n"]

    def share(self, kind: str, studies: Bool[np.ndarray, " n"]) -> float:
        """Which share of their negatives is like these studies; nan for none."""
        return float(self.by[kind][studies].mean() / (len(self.normal) - 1)) if studies.any() else float("nan")

    def expected(self, kind: str, batch: int) -> float:
        """Mean number of alike negatives that a study meets in a batch."""
        return self.share(kind, np.ones_like(self.normal)) * (batch - 1)

    def touched(self, kind: str, batch: int) -> float:
        """Share of studies that meet at least one in a batch (at most as large as the sample)."""
        none = hypergeom.pmf(0, len(self.normal) - 1, self.by[kind], batch - 1)
        return float(1 - none.mean())


def false_negatives(chart: Chart, theta: float, seed: int = 0) -> tuple[Section, Likes] | None:
    """The table, and the counts behind it for a picture; None where there are no reports to compare."""
    rows = [row for row in chart.training() if row.report]
    if len(rows) < LEAST:
        return None
    sample = np.random.default_rng(seed).permutation(len(rows))[:SAMPLE]
    likes = count([rows[i] for i in sorted(sample)], theta, seed)
    studies = len(likes.normal)
    sizes = [size for size in BATCHES if size <= studies]
    table = [["alike by", "of all pairs", "of normal studies'", "of others'", *(f"in {size:,}" for size in sizes)]]
    facts: dict[str, dict[str, float]] = {}
    for kind in likes.by:
        groups = (np.ones_like(likes.normal), likes.normal, ~likes.normal)
        shares = [likes.share(kind, group) for group in groups]
        met = {size: (likes.expected(kind, size), likes.touched(kind, size)) for size in sizes}
        cells = [f"{mean:.1f} a study; {any_:.0%} of studies" for mean, any_ in met.values()]
        table.append([kind, *("" if np.isnan(share) else f"{share:.2%}" for share in shares), *cells])
        facts[kind] = {"share": shares[0]}
        facts[kind] |= {f"expected_{size}": mean for size, (mean, _) in met.items()}
        facts[kind] |= {f"touched_{size}": any_ for size, (_, any_) in met.items()}
    note = (
        f"Pairs of {studies:,} training studies that InfoNCE would push apart though they are alike, and how many of "
        "them a study meets in a batch. Soft labels: report text and clinical labels, weighted equally, "
        f"theta {theta:g}."
    )
    return Section("False negatives", note, table, {"studies": studies, "theta": theta, "by": facts}, PICTURE), likes


def count(rows: Sequence[Row], theta: float, seed: int) -> Likes:
    """Compares every study with every other one."""
    labels = np.stack([target_labels(row.labels, 1) for row in rows])
    known = np.array([bool((row.labels != UNKNOWN).any()) for row in rows])
    reports = [row.report for row in rows]
    vectors = TfidfSvd.fit(reports, WIDTH, seed).transform(reports)
    by = {
        REPORT: _equal(reports, np.ones(len(rows), bool)),
        LABELS: _equal([row.tobytes() for row in labels], known),
        SOFT: _soft(vectors, labels, known, theta),
    }
    return Likes(by, np.array([row.normal == PRESENT for row in rows]))


def _equal(values: Sequence[object], counted: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    times = Counter(value for value, counts in zip(values, counted, strict=True) if counts)
    return np.array([times[value] - 1 if counts else 0 for value, counts in zip(values, counted, strict=True)])


def _soft(
    vectors: Float[np.ndarray, "n f"], labels: Float[np.ndarray, "n c"], known: Bool[np.ndarray, " n"], theta: float
) -> Int[np.ndarray, " n"]:
    streams = {
        "text": soft_labels.stream(jnp.asarray(vectors), jnp.asarray(np.any(vectors, axis=1))),
        "clinical": soft_labels.stream(jnp.asarray(labels), jnp.asarray(known)),
    }
    offsets = {"text": soft_labels.mean_cosine(soft_labels.moments(streams["text"]))}
    place = np.arange(len(labels))
    found = []
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        rows = {name: Stream(stream.feature[block], stream.valid[block]) for name, stream in streams.items()}
        same = jnp.asarray(place[block, None] == place[None, :])
        kept = soft_labels.affinity(rows, streams, offsets, dict.fromkeys(streams, 1.0), "mean", theta, same)
        found.append(np.asarray((kept > 0).sum(axis=1)) - 1)
    return np.concatenate(found)
