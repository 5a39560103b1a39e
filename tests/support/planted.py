"""A small set whose truth is known, and embedding functions of known ability over it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clinicclip.data import images, schema, text
from clinicclip.evals.base import EmbedFns, EvalSet, ImageFn, Rows
from clinicclip.evals.truth import mentioned_findings

WORDS = {
    "cardiomegaly": "cardiomegaly",
    "edema": "pulmonary edema",
    "atelectasis": "atelectasis",
    "pneumothorax": "pneumothorax",
    "pleural_effusion": "pleural effusion",
}
SIDE = 16
WIDTH = len(schema.FINDINGS)


def record(number: int, present: Sequence[str], *, gold: bool = True) -> schema.Record:
    """A stored record that states every finding of WORDS as present or absent, two studies a patient."""
    sentences = [f"There is {w}." if f in present else f"There is no {w}." for f, w in WORDS.items()]
    rng = np.random.default_rng(number)
    return {
        "image": images.encode(rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)),
        "image_id": f"image{number}",
        "patient": f"patient{number // 2}",
        "sentences": sentences,
        "sentence_finding": np.array([schema.INDEX[f] for f in WORDS], np.int32),
        "sentence_polarity": np.array([int(f in present) for f in WORDS], np.int32),
        "sentence_laterality": np.zeros(len(WORDS), np.int32),
        "sentence_severity": np.zeros(len(WORDS), np.int32),
        "labels": np.array([_label(name, present) for name in schema.CHEXPERT], np.int8),
        "normal": int(not present),
        "gold_names": [*WORDS, "normal"] if gold else [],
        "gold_values": np.array([*(int(f in present) for f in WORDS), int(not present)] if gold else [], np.int8),
        "gold_source": "planted" if gold else "",
        "sex": "FM"[number // 2 % 2],
        "age_band": "",
        "view": "PA",
        "height": SIDE,
        "width": SIDE,
        "box_names": [],
        "boxes": np.zeros((0, 4), np.float32),
        "findings": " ".join(sentences),
        "negated": "",
        "omitted": "",
        "altered": -1,
        "negated_by": "",
    }


def _label(name: str, present: Sequence[str]) -> int:
    return int(name in present) if name in WORDS else schema.UNKNOWN


def records(studies: int, *, seed: int = 0, gold: bool = True) -> list[schema.Record]:
    """Studies with independent findings of 30 % each."""
    rng = np.random.default_rng(seed)
    return [record(i, [f for f in WORDS if rng.random() < 0.3], gold=gold) for i in range(studies)]


def evalset(studies: int = 120, *, seed: int = 0, gold: bool = True, open: bool = True) -> EvalSet:
    """The planted set; phantom, so its reports carry the banner."""
    made = records(studies, seed=seed, gold=gold)
    return EvalSet.from_records("planted", "test", made, SIDE, open, phantom=True, title="planted truth")


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noise(name: str) -> np.ndarray:
    """A random direction that depends on nothing but the name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=WIDTH)


def statements(report: str) -> np.ndarray:
    """+1 for each finding the text affirms, -1 for each it denies; the last place is for normality itself."""
    stated = np.nan_to_num(2 * mentioned_findings(text.sentences(report, "")) - 1)
    stated[schema.INDEX["no_finding"]] = 0
    abnormal = any(
        word in report.lower() for word in ("abnormal chest", "are abnormal", "is abnormal", "there is an acute")
    )
    normality = 0 if stated.any() else -1 if abnormal else 1
    return np.append(stated, normality)


def mentions(report: str) -> np.ndarray:
    """1 for each finding the text names, affirmed or denied."""
    found = np.full(WIDTH + 1, 1e-3)
    found[[sentence.finding for sentence in text.sentences(report, "") if sentence.finding >= 0]] = 1
    return found


def marked(embed: Callable[[np.ndarray], np.ndarray]) -> ImageFn:
    """An image embedder that says, as a tower does, which pixels its vectors are of."""
    return lambda pictures: Rows(embed(pictures), images.marks(pictures))


def by_image(evalset: EvalSet, vector: Callable[[int], np.ndarray]) -> ImageFn:
    """An image embedder that knows each picture of the set by its pixels."""
    rows: Mapping[bytes, int] = {image.tobytes(): row for row, image in enumerate(evalset.images)}
    return marked(lambda pictures: unit(np.stack([vector(rows[picture.tobytes()]) for picture in pictures])))


def by_text(vector: Callable[[str], np.ndarray]) -> Callable[[Sequence[str]], np.ndarray]:
    """A text embedder, text by text."""
    return lambda texts: unit(np.stack([vector(one) for one in texts]))


def oracle(evalset: EvalSet) -> EmbedFns:
    """Sees the gold labels in the image and reads every statement of a text rightly."""
    truth = np.nan_to_num(2 * np.column_stack([evalset.truth, evalset.normal]) - 1)
    truth[:, schema.INDEX["no_finding"]] = 0
    return EmbedFns(by_image(evalset, lambda row: truth[row]), by_text(statements))


def blind(evalset: EvalSet) -> EmbedFns:
    """Reads texts like the oracle and gives every image the same vector."""
    usual = noise("what images usually show")
    return EmbedFns(by_image(evalset, lambda row: np.append(usual, 0.1)), by_text(statements))


def spotter(evalset: EvalSet) -> EmbedFns:
    """Sees the gold labels, but hears only which findings a text mentions, denied or not."""
    return EmbedFns(oracle(evalset).images, by_text(mentions))


def chance(evalset: EvalSet) -> EmbedFns:
    """Random directions for images and texts."""
    return EmbedFns(by_image(evalset, lambda row: noise(f"image {row}")), by_text(noise))
