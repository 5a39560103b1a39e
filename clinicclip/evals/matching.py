"""Choosing images of other patients without a finding, alike in everything else."""

import hashlib

import numpy as np
from jaxtyping import Float, Int

from clinicclip.evals.base import EvalSet
from clinicclip.evals.truth import NORMAL

CONTROL_IMAGES = 8
NO_IMAGES = "no image of another patient is known to be without it"
CHUNK = 1024  # rows matched at once, so that no matrix of all images by all images is held
# Weight of the random tie-break between equally good matches; below any real mismatch.
JITTER = 0.25


def without_finding(
    evalset: EvalSet, finding: int, rows: Int[np.ndarray, "m"], *, count: int = CONTROL_IMAGES, seed: int = 0
) -> Int[np.ndarray, "m k"]:
    """For each row, `count` images of other patients whose labels say `finding` is absent.

    Images that agree on the other findings come first, ties fall by seed. A row for which fewer than `count`
    exist gets -1 in the places left over. A row's images depend on (set, finding, seed, row) alone, not on the
    company it is asked for in.
    """
    candidates = np.flatnonzero(evalset.absent(finding))
    chosen = np.full((len(rows), count), -1)
    if not len(candidates) or not len(rows):
        return chosen
    for start in range(0, len(rows), CHUNK):
        some = slice(start, start + CHUNK)
        nearest = _nearest(evalset, finding, rows[some], candidates, count, seed)
        chosen[some, : nearest.shape[1]] = nearest
    return chosen


def _nearest(
    evalset: EvalSet, finding: int, rows: Int[np.ndarray, "m"], candidates: Int[np.ndarray, "c"], count: int, seed: int
) -> Int[np.ndarray, "m k"]:
    """At most ``count`` candidates for each row, best first; -1 for those of the row's own patient, which come last."""
    others = np.delete(evalset.truth, [finding, NORMAL], axis=1)
    distance = mismatches(others[rows], others[candidates])
    distance += JITTER * np.stack([_jitter(evalset.ids[row], finding, seed, len(candidates)) for row in rows])
    patients = np.asarray(evalset.patients)
    distance[patients[rows][:, None] == patients[candidates][None, :]] = np.inf
    best = np.argpartition(distance, min(count, len(candidates)) - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(distance, best, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(best, order, axis=1)
    return np.where(np.isfinite(np.take_along_axis(distance, nearest, axis=1)), candidates[nearest], -1)


def _jitter(image_id: str, finding: int, seed: int, count: int) -> Float[np.ndarray, "c"]:
    digest = hashlib.sha256(f"{seed}\0{finding}\0{image_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(count)


def mismatches(first: Float[np.ndarray, "m f"], second: Float[np.ndarray, "c f"]) -> Float[np.ndarray, "m c"]:
    """Number of findings on which two label rows differ; one known and one unknown is half a mismatch."""
    states = [np.stack([labels == 1, labels == 0, np.isnan(labels)]).astype(np.float32) for labels in (first, second)]
    (present, absent, unknown), (other_present, other_absent, other_unknown) = states
    against = (other_absent + 0.5 * other_unknown, other_present + 0.5 * other_unknown, 0.5 * (1 - other_unknown))
    return (np.hstack([present, absent, unknown]) @ np.hstack(against).T).astype(np.float64)
