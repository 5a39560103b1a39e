"""What one training step shows of one study: a view of its image, a text drawn from its report, labels.

`DrawStudy` is a function of (record, random generator) alone; which studies meet in a batch is the part of
`pipeline`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import grain
import numpy as np
from jaxtyping import Float32, Int8

from clinicclip.data import augment, graphs, images, negation, records, text
from clinicclip.data.features import FeatureTable
from clinicclip.data.generators import llm, templates
from clinicclip.data.phrases import DENIED_NAMES
from clinicclip.data.schema import (
    ABSENT,
    CHEXPERT,
    FINDINGS,
    INDEX,
    PARENTS,
    PRESENT,
    UNCERTAIN,
    UNKNOWN,
    Record,
    Sentence,
    Study,
)
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError

TEXT_MODES = ("report", "sentences", "sentence")
SENTENCE_FILTERS = ("none", "abnormal")
GENERATORS = (templates.TRAIN.name, llm.NAME)  # of negated reports; the evaluation generator's are never trained on


@dataclass(frozen=True)
class TrainSpec:
    """What a training batch holds; streams switched off are absent from it."""

    image_size: int
    text_length: int  # tokens, [CLS] and [SEP] included
    augment: augment.AugmentSpec
    text_mode: str = "report"  # or "sentences": a random non-empty subset of the report's, in order; or one "sentence"
    label_sentences: float = 0.0  # share of the studies of which a sentence made of one label is drawn instead
    max_sentences: int = 0  # largest subset of "sentences"; 0 = no bound
    sentence_filter: str = "none"  # or "abnormal": where a report has abnormal sentences, they alone are drawn from
    uncertain: int = 1  # an uncertain label counts as this
    text_features: bool = False
    negation: bool = False
    negation_generator: str = "train"
    claims: bool = False  # what the texts claim, and what the study shows
    graph: bool = False
    graph_nodes: int = graphs.NODES  # budgets a study, the spare padding node included
    graph_edges: int = graphs.EDGES
    packed: bool = True  # False: one text a row
    row_step: int = 1  # packed rows a group are rounded up to it; every row count met is one more compilation

    def __post_init__(self) -> None:
        names = {"text_mode": TEXT_MODES, "sentence_filter": SENTENCE_FILTERS, "negation_generator": GENERATORS}
        for key, known in names.items():
            if getattr(self, key) not in known:
                raise UserError(f"data.{key}={getattr(self, key)!r}: one of {', '.join(known)}")
        if self.negation and self.negation_generator != templates.TRAIN.name and not self.whole_reports:
            raise UserError(
                f"data.negation_generator={self.negation_generator!r} wrote negations of whole reports: use it with "
                "data.text_mode=report and data.sentence_filter=none"
            )
        if not 0.0 <= self.label_sentences <= 1.0:
            raise UserError(f"data.label_sentences={self.label_sentences}: expected a share from 0 to 1")
        if self.uncertain not in (0, 1):
            raise UserError(f"data.uncertain={self.uncertain}: 0 or 1")

    @property
    def whole_reports(self) -> bool:
        """Whether every text is the report as it is stored, and not a part of it."""
        return not self.label_sentences and self.text_mode == "report" and self.sentence_filter == "none"


@dataclass(frozen=True)
class DrawStudy(grain.transforms.RandomMap):
    """Record -> one study of a batch: arrays by batch key, plus `text_tokens` and `negated_tokens` lists."""

    spec: TrainSpec
    tokenizer: Tokenizer
    features: FeatureTable | None

    def random_map(self, element: Record, rng: np.random.Generator) -> dict[str, Any]:
        """Draws in a fixed order, image before text, so that no switch moves another part's draws."""
        view = augment.draw(self.spec.augment, rng)
        said = sentences(element)
        kept = abnormal(said) if self.spec.sentence_filter == "abnormal" else said
        made = self._of_label(element["labels"], rng) if self.spec.label_sentences else []
        drawn = made[:1] or (kept if self.spec.text_mode == "report" else self._subset(kept, rng))
        report = " ".join(sentence.text for sentence in drawn)
        (tokens,), truncated = self.tokenizer.encode([report], self.spec.text_length)
        labels = element["labels"] if drawn is kept else restrict(element["labels"], drawn)
        study = {
            "image": augment.render(images.decode(element["image"], element["image_id"]), view, self.spec.image_size),
            "text_tokens": tokens,
            "labels": target_labels(labels, self.spec.uncertain),
            "labels_valid": bool((element["labels"] != UNKNOWN).any()),
            "normal": element["normal"] == PRESENT,
            "normal_valid": element["normal"] != UNKNOWN,
            "id": element["image_id"],
            "truncated": truncated,
        }
        if self.spec.text_features:
            study |= self._text_feature(report, [] if made else drawn)
        if self.spec.negation:
            study |= self._negated(element, drawn, made[1:], rng)
        if self.spec.claims:
            study |= {"findings": shown(element, said), "text_claims": claims(drawn)}
        if self.spec.graph:
            study |= self._graph(element)
        return study

    def _of_label(self, labels: Int8[np.ndarray, "14"], rng: np.random.Generator) -> list[Sentence]:
        """A true sentence about one label of the study and the false one that denies it, or nothing: as drawn."""
        wanted, present = rng.random(2)
        state = PRESENT if present < 0.5 and (labels[1:] == PRESENT).any() else ABSENT
        known = 1 + np.flatnonzero(labels[1:] == state)
        if wanted >= self.spec.label_sentences or not len(known):
            return []
        finding = int(rng.choice(known))
        name = DENIED_NAMES[FINDINGS[finding]][int(rng.integers(len(DENIED_NAMES[FINDINGS[finding]])))]
        said = [
            Sentence(templates.Templates.write(patterns[int(rng.integers(len(patterns)))], name), finding, polarity, 0)
            for polarity, patterns in ((PRESENT, templates.STATEMENTS), (ABSENT, templates.TRAIN.patterns))
        ]
        return said if state == PRESENT else said[::-1]

    def _subset(self, said: Sequence[Sentence], rng: np.random.Generator) -> Sequence[Sentence]:
        bound = 1 if self.spec.text_mode == "sentence" else self.spec.max_sentences
        most = min(len(said), bound or len(said))
        if not most:
            return said
        chosen = rng.choice(len(said), size=rng.integers(1, most + 1), replace=False)
        return said if len(chosen) == len(said) else [said[i] for i in sorted(chosen)]

    def _text_feature(self, report: str, drawn: Sequence[Sentence]) -> dict[str, Any]:
        assert self.features is not None
        texts = [report] if self.spec.whole_reports else [sentence.text for sentence in drawn]
        vector = self.features.lookup(texts).sum(0) if drawn else np.zeros(self.features.width, np.float32)
        norm = float(np.linalg.norm(vector))
        return {"text_feature": vector / norm if norm else vector, "text_valid": norm > 0}

    def _negated(
        self,
        record: Record,
        drawn: Sequence[Sentence],
        false: Sequence[Sentence],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """r^n of the drawn text; where it has none, no tokens and not valid."""
        if false:
            negated = false[0].text
        else:
            negated = self._stored_negation(record) if self.spec.whole_reports else self._new_negation(drawn, rng)
        tokens = self.tokenizer.encode([negated], self.spec.text_length)[0][0] if negated else []
        found = {"negated_tokens": tokens, "negated_valid": bool(negated)}
        if self.spec.claims:
            found["negated_claims"] = claims(false or text.sentences(negated, ""))
        return found

    def _stored_negation(self, record: Record) -> str:
        wanted, made = self.spec.negation_generator, record["negated_by"]
        if record["negated"] and made != wanted:
            raise UserError(
                f"data.negation_generator={wanted!r}: the data were prepared with {made!r}; set "
                f"--config.data.negation_generator={made} or prepare again"
            )
        return record["negated"]

    def _new_negation(self, drawn: Sequence[Sentence], rng: np.random.Generator) -> str:
        # Not `negation.alter`: that draws by seed and key, and makes an r^o that training never shows.
        found = negation.choose(drawn, rng)
        if isinstance(found, str):
            return ""
        return " ".join(negation.write(found, templates.TRAIN, rng)[0])

    def _graph(self, record: Record) -> dict[str, Any]:
        assert self.features is not None
        graph = records.stored_graph(record)
        padded = graphs.pad(graph, self.features.nodes(graph), nodes=self.spec.graph_nodes, edges=self.spec.graph_edges)
        return {
            "graph_nodes": padded.nodes,
            "graph_senders": padded.senders,
            "graph_receivers": padded.receivers,
            "graph_mask": padded.node_mask,
            "graph_valid": padded.valid,
            "graphs_cut": int(padded.cut),
        }


@cache
def empty_record() -> Record:
    """A record without a report or a finding, to be drawn where the study's own cannot be read."""
    picture = np.eye(16, dtype=np.uint8)
    study = Study("", "", image_id="", split="", image=picture, findings="", impression="")
    record = records.make(study, records.Recipe(reports=False))
    assert isinstance(record, dict)
    return record


def sentences(record: Record) -> list[Sentence]:
    """The record's single-finding sentences."""
    columns = (record[f"sentence_{name}"] for name in ("finding", "polarity", "laterality"))
    facts = zip(*columns, strict=True)
    return [Sentence(text, *map(int, fact)) for text, fact in zip(record["sentences"], facts, strict=True)]


def abnormal(said: Sequence[Sentence]) -> Sequence[Sentence]:
    """The sentences that state or doubt something abnormal; all of them where none does: the report is normal then.

    Source: the sentence filter of OFF-CLIP (arXiv:2503.01794).
    """
    kept = [sentence for sentence in said if not text.is_normal([sentence])]
    return kept if 0 < len(kept) < len(said) else said


def shown(record: Record, said: Sequence[Sentence]) -> Float32[np.ndarray, "27"]:
    """What a study shows by its report: 1 for a finding present or suspected and for what it implies, else 0."""
    states = text.finding_states(said)
    found = ((states == PRESENT) | (states == UNCERTAIN)).astype(np.float32)  # np.isin takes ten times as long
    found[INDEX["no_finding"]] = record["normal"] == PRESENT
    return found


def claims(said: Sequence[Sentence]) -> Float32[np.ndarray, "27"]:
    """What sentences claim of every finding: 1 there or suspected, -1 not there, 0 nothing."""
    found = np.zeros(len(FINDINGS), np.float32)
    for finding, polarity in ((s.finding, s.polarity) for s in said if s.finding >= 0):
        if polarity in (PRESENT, UNCERTAIN):
            found[finding] = 1.0
        elif polarity == ABSENT and not found[finding]:
            found[finding] = -1.0
    return found


def report_text(record: Record) -> str:
    """The report as every part of the project reads it: its sentences in order."""
    return " ".join(record["sentences"])


def target_labels(labels: Int8[np.ndarray, "14"], uncertain: int) -> Float32[np.ndarray, "14"]:
    """Stored codes as S^c compares them: 1 present, uncertain as told, everything else 0."""
    return ((labels == PRESENT) | ((labels == UNCERTAIN) & (uncertain == 1))).astype(np.float32)


def restrict(labels: Int8[np.ndarray, "14"], drawn: Sequence[Sentence]) -> Int8[np.ndarray, "14"]:
    """Labels of a text that is part of the report: a finding the drawn sentences do not affirm is unknown.

    A sentence affirms the finding it states as present or uncertain, and that finding's parents. "No finding"
    stays: parts of a normal report are normal.
    """
    affirmed = {CHEXPERT[0]}
    for sentence in drawn:
        if sentence.finding >= 0 and sentence.polarity in (PRESENT, UNCERTAIN):
            name = FINDINGS[sentence.finding]
            affirmed.update((name, *PARENTS.get(name, ())))
    kept = labels.copy()
    kept[[INDEX[name] for name in CHEXPERT if name not in affirmed]] = UNKNOWN
    return kept
