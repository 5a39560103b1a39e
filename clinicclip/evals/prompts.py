"""Zero-shot prompt sets: small files of our own wording in prompt_sets/, versioned, hashed into every result.

Prompts are worded as reports are: a template of words that no report uses ("chest x-ray with ...") would test the
vocabulary, not the eye. Templates come in pairs that differ in polarity alone.

A finding's ensemble is every template filled with every phrase, plus whole sentences where a denial is
usually worded as normality ("the heart is normal in size"). "No finding" is never put into a template:
normality has its own sentences.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from clinicclip import files
from clinicclip.data import schema
from clinicclip.errors import UserError, nearest

FOLDER = Path(__file__).with_name("prompt_sets")
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
NORMAL = "no_finding"


class Ensemble(NamedTuple):
    """The sentences that affirm a finding and those that deny it."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class PromptSet:
    """Templates with one place each, the phrases that fill them, and whole sentences; keys as in the file."""

    name: str
    about: str
    version: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    phrases: Mapping[str, Sequence[str]]  # the display name stands for a finding that is not listed
    also_positive: Mapping[str, Sequence[str]]  # sentences that affirm one finding and say nothing about others
    also_negative: Mapping[str, Sequence[str]]
    normal_positive: tuple[str, ...]
    normal_negative: tuple[str, ...]

    @classmethod
    def load(cls, name: str) -> "PromptSet":
        """A set of `NAMES`, or a JSON file of the same keys.

        Raises: UserError when there is no such set, or the file does not hold one.
        """
        path = FOLDER / f"{name}.json" if name in NAMES else Path(name)
        if not path.is_file():
            raise UserError(f"no prompt set {name!r}{nearest(name, NAMES)}; {', '.join(NAMES)}, or a JSON file")
        try:
            content = json.loads(files.content(path))
        except (ValueError, RecursionError):
            raise UserError(f"{path}: not JSON; see {FOLDER / NAMES[0]}.json for the form") from None
        return cls(name=path.stem, **_checked(path, content))

    def ensemble(self, finding: str) -> Ensemble:
        """The prompts of one finding of `schema.FINDINGS`; ``no_finding`` is the normal class."""
        if finding == NORMAL:
            return Ensemble(self.normal_positive, self.normal_negative)
        phrases = self.phrases.get(finding, (schema.display_name(finding),))
        affirmed = tuple(_filled(template, phrase) for template in self.positive for phrase in phrases)
        denied = tuple(_filled(template, _bare(phrase)) for template in self.negative for phrase in phrases)
        return Ensemble(
            affirmed + tuple(self.also_positive.get(finding, ())), denied + tuple(self.also_negative.get(finding, ()))
        )

    def digest(self) -> str:
        """Twelve hex digits that change when any prompt does."""
        wording = {finding: self.ensemble(finding) for finding in schema.FINDINGS}
        return hashlib.sha256(json.dumps(wording, sort_keys=True).encode()).hexdigest()[:12]

    def overlap(self, training_templates: Iterable[str]) -> str:
        """How many of the templates, case and full stop aside, the training texts are made from too."""
        seen = {_plain(template) for template in training_templates}
        templates = self.positive + self.negative
        shared = [template for template in templates if _plain(template) in seen]
        return f"{len(shared)} of {len(templates)} templates shared with the training generator"

    def describe(self) -> str:
        """Name, version and hash, for every result."""
        return f"{self.name} version {self.version}, {self.digest()}"


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """The fields of a file, lists as tuples. Raises UserError naming the key that is wrong."""
    lists = ("positive", "negative", "normal_positive", "normal_negative")
    tables = ("phrases", "also_positive", "also_negative")
    keys = ("about", "version", *lists, *tables)
    if not isinstance(content, dict) or set(content) != set(keys):
        raise UserError(f"{path}: expected the keys {', '.join(keys)} and no others")
    for key in lists:
        if not _are_sentences(content[key]) or not content[key]:
            raise UserError(f"{path}: {key} is no list of sentences")
    for key in tables:
        table = content[key]
        if not isinstance(table, dict) or not all(map(_are_sentences, table.values())):
            raise UserError(f"{path}: {key} is no table of finding: list")
        for finding in table:
            if finding not in schema.FINDINGS or finding == NORMAL:
                raise UserError(f"{path}: {key}: {finding!r} is no finding{nearest(finding, schema.FINDINGS)}")
    if any(template.count("{}") != 1 for template in content["positive"] + content["negative"]):
        raise UserError(f"{path}: a template has one place {{}} for the finding")
    return content | {key: tuple(content[key]) for key in lists}


def _are_sentences(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)


def _filled(template: str, phrase: str) -> str:
    text = template.format(phrase)
    return text[0].upper() + text[1:]


def _bare(phrase: str) -> str:
    """The phrase without its article: denials read "no pleural effusion", not "no a pleural effusion"."""
    return re.sub(r"^(an?) ", "", phrase)


def _plain(template: str) -> str:
    return " ".join(re.sub(r"{\w*}", "{}", template).lower().rstrip(".").split())


REPORTS = PromptSet.load("reports")  # what is used unless another one is asked for


class PromptVectors(NamedTuple):
    """The normalised mean embedding of each side of an ensemble, or of several."""

    positive: Float32[np.ndarray, "*f d"]
    negative: Float32[np.ndarray, "*f d"]


def embed(
    finding: str, texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]], wording: PromptSet = REPORTS
) -> PromptVectors:
    """Embed a finding's prompts and average each side on the sphere."""
    return PromptVectors(*(_mean_direction(texts(side)) for side in wording.ensemble(finding)))


class Scores(NamedTuple):
    """Cosines of images and prompts by both rules: affirming minus denying prompts, and the affirming ones alone."""

    pair: Float[np.ndarray, "*n"]
    positive: Float[np.ndarray, "*n"]


def scores(vectors: Float[np.ndarray, "n d"], sides: PromptVectors) -> Scores:
    """Scores [n] of unit image embeddings for the prompts of a finding, or [n, f] for those of several."""
    positive = vectors @ sides.positive.T
    return Scores(positive - vectors @ sides.negative.T, positive)


def unknown(finding: str) -> str:
    """What to say of a name that is no finding."""
    return f"unknown finding {finding!r}{nearest(finding, schema.FINDINGS)}"


def embed_all(findings: Sequence[str], texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]) -> PromptVectors:
    """The prompts of several findings, a row each. Raises UserError for none, or one that is not known."""
    if not findings:
        raise UserError("no findings: name at least one")
    for name in findings:
        if name not in schema.INDEX:
            raise UserError(unknown(name))
    sides = [embed(finding, texts) for finding in findings]
    return PromptVectors(*(np.stack(side) for side in zip(*sides, strict=True)))


def _mean_direction(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "d"]:
    """In float64, so that sides of equal vectors are equal however many they are."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
