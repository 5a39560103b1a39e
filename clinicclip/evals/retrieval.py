"""Retrieval over a fixed gallery, both directions, where identical texts are one.

t2i: each distinct report looks for the images it belongs to, among all images. i2t: each image looks for its
report, among the distinct reports. The rank is that of the best right answer; wrong answers that tie with it
count one half. A distinct report is resampled with the patient who has it first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from clinicclip.evals import outcomes
from clinicclip.evals.base import Embedded, EvalSet
from clinicclip.evals.results import Case, Exhibit, Passage, Picture, Result, Verdict
from clinicclip.evals.stats import NOTHING, PatientBootstrap, Statistic, mean, median
from clinicclip.evals.truth import NORMAL

DEPTHS = (1, 5, 10)
F1_DEPTHS = (1, 5)  # labels of the nearest, and of the majority of the five nearest
F1_NAMES = tuple(f"f1_{average}@{depth}" for depth in F1_DEPTHS for average in ("micro", "macro"))
KEPT = 5
FITS = {
    "own": ("own report", Verdict.RIGHT),
    True: ("same labels", Verdict.NEAR),
    False: ("other labels", Verdict.WRONG),
}
CHUNK = 1024  # queries scored at once, so that no full query x gallery matrix is held


class Search(NamedTuple):
    """Per query: the rank of its best right answer, and the nearest gallery entries, best first."""

    rank: Float[np.ndarray, "q"]
    nearest: Int[np.ndarray, "q k"]


def search(
    queries: Float32[np.ndarray, "q d"],
    gallery: Float32[np.ndarray, "g d"],
    query_text: Int[np.ndarray, "q"],
    gallery_text: Int[np.ndarray, "g"],
) -> Search:
    """Rank the gallery for each query; entries with the query's text number are right answers."""
    ranks, nearest = [], []
    kept = min(KEPT, len(gallery))
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ gallery.T
        right = query_text[start : start + CHUNK, None] == gallery_text[None, :]
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        ahead = ((scores > best) & ~right).sum(axis=1)
        level = ((scores == best) & ~right).sum(axis=1)
        ranks.append(1 + ahead + level / 2)
        top = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        nearest.append(np.take_along_axis(top, order, axis=1))
    return Search(np.concatenate(ranks), np.concatenate(nearest))


@dataclass(frozen=True)
class Retrieval:
    """Recall, median rank and label F1 in both directions, with a gallery for sets that may be shown."""

    gallery_queries: int = 6
    seed: int = 0

    def run(self, evalset: EvalSet, embedded: Embedded, bootstrap: PatientBootstrap) -> Iterator[Result | Exhibit]:
        """Yield `retrieval/{i2t,t2i}/{recall@K,median_rank,f1_micro@K,f1_macro@K}`."""
        texts, first, owner = np.unique(np.asarray(evalset.reports), return_index=True, return_inverse=True)
        owner = owner.reshape(-1)
        images = embedded.images(evalset)
        reports = embedded.texts([str(text) for text in texts])
        numbers = np.arange(len(texts))
        labels = evalset.truth
        text_labels = _majority(labels[np.argsort(owner, kind="stable")], np.bincount(owner))
        directions = {
            "i2t": (search(images, reports, owner, numbers), np.arange(len(evalset)), labels, text_labels),
            "t2i": (search(reports, images, numbers, owner), first, text_labels, labels),
        }
        for direction, (found, rows, own, candidates) in directions.items():
            note = f"{len(rows)} queries over a gallery of {len(candidates)}"
            ranks: dict[str, Statistic] = {f"recall@{k}": mean(found.rank <= k) for k in DEPTHS}
            ranks["median_rank"] = median(found.rank)
            for name, statistic in ranks.items():
                draws = bootstrap.draws(statistic, rows)
                yield Result.of(f"retrieval/{direction}/{name}", evalset, draws, bootstrap, rows, note=note)
            used = _used(own)
            scored = label_f1(own, candidates, found.nearest)
            over = f"{note}; labels: {', '.join(map(outcomes.label, used))}" if used else "no query shows a finding"
            for name in F1_NAMES:
                draws = bootstrap.draws(scored[name], rows) if used else NOTHING
                yield Result.of(f"retrieval/{direction}/{name}", evalset, draws, bootstrap, rows, about=used, note=over)
        if evalset.open:
            yield self._gallery(evalset, directions["t2i"][0], texts, owner)

    def _gallery(self, evalset: EvalSet, found: Search, texts: np.ndarray, owner: Int[np.ndarray, "n"]) -> Exhibit:
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(len(texts))[: self.gallery_queries]
        findings = np.column_stack([evalset.truth, evalset.normal]) == 1
        cases = []
        for text in chosen:
            own = int(np.flatnonzero(owner == text)[0])
            wanted = findings[own]
            fits = ["own" if owner[i] == text else (findings[i] == wanted).all() for i in found.nearest[text]]
            pictures = [Picture(evalset.images[own], "its own image")] + [
                Picture(evalset.images[i], *FITS[fit]) for i, fit in zip(found.nearest[text], fits, strict=True)
            ]
            rank = Passage(str(texts[text]), f"own image at rank {found.rank[text]:g} of {len(evalset)}")
            cases.append(Case("", (rank,), tuple(pictures)))
        note = (
            "Reports drawn at random by seed, never chosen; under each its own image and the five nearest, best first."
        )
        return Exhibit(evalset.name, "Retrieval gallery", note, tuple(cases))


def _majority(labels: Float32[np.ndarray, "n f"], counts: Int[np.ndarray, "m"]) -> Float32[np.ndarray, "m f"]:
    """Per run of `counts` rows: 1 where more than half of the known are present, nan if none is known."""
    starts = np.cumsum(counts) - counts
    present = np.add.reduceat((labels == 1).astype(np.float32), starts, axis=0)
    known = np.add.reduceat(np.isfinite(labels).astype(np.float32), starts, axis=0)
    return np.where(known > 0, (present * 2 > known).astype(np.float32), np.float32(np.nan))


def label_f1(
    own: Float32[np.ndarray, "q f"], candidates: Float32[np.ndarray, "g f"], nearest: Int[np.ndarray, "q k"]
) -> dict[str, Statistic]:
    """F1 of retrieved labels against the query's own, micro and macro over findings with a positive query.

    An entry counts where both sides are known; the own pair is part of the gallery, as in retrieval itself.
    """
    used = _used(own)
    statistics: dict[str, Statistic] = {}
    if not used:
        return statistics
    for depth in F1_DEPTHS:
        answers = candidates[:, used][nearest[:, :depth]]
        known = np.isfinite(answers)
        votes = (answers == 1).sum(axis=1) * 2 > known.sum(axis=1)
        truth = own[:, used]
        counts = _confusion(truth == 1, votes, np.isfinite(truth) & known.any(axis=1))
        statistics[f"f1_micro@{depth}"] = _f1(counts, micro=True)
        statistics[f"f1_macro@{depth}"] = _f1(counts, micro=False)
    return statistics


def _used(own: Float32[np.ndarray, "q f"]) -> list[int]:
    """The findings that a query shows."""
    return [f for f in np.flatnonzero((own == 1).any(axis=0)).tolist() if f != NORMAL]


def _confusion(
    truth: Bool[np.ndarray, "q f"], called: Bool[np.ndarray, "q f"], valid: Bool[np.ndarray, "q f"]
) -> tuple[Float[np.ndarray, "q f"], Float[np.ndarray, "q f"]]:
    """True positives, and all errors, per query and finding."""
    return (truth & called & valid).astype(np.float64), ((truth != called) & valid).astype(np.float64)


def _f1(counts: tuple[Float[np.ndarray, "q f"], Float[np.ndarray, "q f"]], *, micro: bool) -> Statistic:
    right, errors = counts

    def statistic(weights: Float[np.ndarray, "k q"]) -> Float[np.ndarray, "k"]:
        hits, misses = weights @ right, weights @ errors
        if micro:
            hits, misses = hits.sum(axis=1, keepdims=True), misses.sum(axis=1, keepdims=True)
        score = np.divide(2 * hits, 2 * hits + misses, out=np.full_like(hits, np.nan), where=hits + misses > 0)
        defined = np.isfinite(score)
        total = np.where(defined, score, 0).sum(axis=1)
        return np.divide(total, defined.sum(axis=1), out=np.full(len(total), np.nan), where=defined.any(axis=1))

    return statistic
