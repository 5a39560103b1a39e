"""Embedding a set once, with the checks that keep scores and labels in step."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from clinicclip.evals import prompts
from clinicclip.evals.base import Embedded, EmbedFns, EvalSet

# Rows embedded a second time, alone, to see that an embedding function keeps its rows in order.
PROBES = 3
PROBE_TOLERANCE = 0.02


class TextBank:
    """Embeds each distinct text once, however many suites ask for it."""

    def __init__(self, embed: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]) -> None:
        self._embed = embed
        self._rows: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if fresh:
            self._rows.update(zip(fresh, checked(self._embed, fresh, "texts"), strict=True))
        return np.stack([self._rows[text] for text in texts])


def checked(embed: Callable, items: Sequence[str] | np.ndarray, kind: str) -> Float32[np.ndarray, "n d"]:
    """Embed, and refuse what would score wrongly in silence: missing, non-finite, unscaled, reordered rows.

    Raises: ValueError naming what is wrong with the embedding function.
    """
    vectors = np.asarray(embed(items), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(items):
        raise ValueError(f"embedding {len(items)} {kind} gave an array of shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError(f"embeddings of {kind} are not finite")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} are not L2-normalised")
    probes = np.unique(np.linspace(0, len(items) - 1, PROBES).astype(int))
    again = embed(items[probes] if isinstance(items, np.ndarray) else [items[i] for i in probes])
    if np.abs(again - vectors[probes]).max() > PROBE_TOLERANCE:
        raise ValueError(f"embeddings of {kind} change or lose their order from call to call")
    return vectors


def embed_set(
    embed: EmbedFns, evalset: EvalSet, texts: TextBank, wording: prompts.PromptSet = prompts.REPORTS
) -> Embedded:
    """Embed a set's images once; the texts follow on demand."""
    return Embedded(evalset.ids, checked(embed.images, evalset.images, "images"), texts, wording, embed.patches)
