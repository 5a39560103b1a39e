"""What every evaluation works on: a set whose truth is known, and the set embedded.

Evaluations never see a model. They get functions that map images and texts to vectors, and join everything by
image id.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8, UInt32

from clinicclip.data import schema
from clinicclip.data.images import ImageFault
from clinicclip.errors import UserError
from clinicclip.evals import benchmarks, prompts
from clinicclip.evals.truth import GROUPS, NORMAL, SQUASH, Released, View, coarse, read_row

REPORT_TEXT, NO_REPORTS = "report text", "training labels (neither gold labels nor reports)"  # as sources of truth


class Rows(NamedTuple):
    """What an image tower gives back: unit vectors, and of what they are."""

    vectors: Float32[np.ndarray, "n d"]
    marks: UInt32[np.ndarray, "n"]  # `data.images.marks` of the pixels that the tower read, made where it read them
    patches: Float32[np.ndarray, "n h w d"] | None = None  # of a grid over each image, row by row


ImageFn = Callable[[UInt8[np.ndarray, "n s s"]], Rows]


class EmbedFns(NamedTuple):
    """A model as evaluations know it: all vectors are L2-normalised, in the order given."""

    images: ImageFn
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]
    patches: ImageFn | None = None  # as ``images``, with patches


@dataclass(frozen=True)
class EvalSet:
    """Studies with their truth; `truth` and `mentioned` hold 1, 0 or nan (unknown) over `schema.FINDINGS`."""

    name: str
    split: str
    open: bool  # images and texts may be shown in reports
    phantom: bool  # synthetic data: numbers prove code, not clinical quality
    source: str  # where `truth` comes from
    title: str  # of the data, with version and level where there are any
    preprocessing: str  # of the images
    release: str  # whose data it is, a name of `benchmarks`
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    reports: tuple[str, ...]
    sentences: tuple[tuple[schema.Sentence, ...], ...]
    images: UInt8[np.ndarray, "n s s"]
    marks: UInt32[np.ndarray, "n"]  # of the images, made as each was read with its id and labels
    coded: bool  # whether ``truth`` is coded by somebody, and not what the reports say
    truth: Float32[np.ndarray, "n f"]
    mentioned: Float32[np.ndarray, "n f"]  # read off the report's sentences
    normal: Float32[np.ndarray, "n"]
    groups: Mapping[str, tuple[str, ...]]  # truth.GROUPS: what is said of each study, "" = unknown
    boxes: tuple[tuple[schema.Box, ...], ...]  # in pixels of the original images
    shapes: Int[np.ndarray, "n 2"]  # height and width of the original images
    released: tuple[Released | None, ...]  # altered reports that the release brings itself
    unread: tuple[str, ...]  # ids of studies whose image cannot be read; they are no part of anything above
    coarse: str = ""  # in words, images that a model sees with less detail than their files have
    seal: str = ""  # of all that is asked of a model, and of the marks, as they were read

    @classmethod
    def from_records(
        cls,
        name: str,
        split: str,
        records: Iterable[schema.Record],
        image_size: int,
        open: bool,
        phantom: bool = False,
        title: str = "",
        release: str = "",
        labeller: str = "",
        view: View = SQUASH,
    ) -> "EvalSet":
        """Decode the images of stored records, bring them to size and gather their truth by finding.

        A set without any gold label falls back to the labels that training reads, where they are a ``labeller``'s or
        there are no reports, and else to what the report text says; `source` says so. A study whose image cannot be
        read is named in `unread` and is in no array. What a blank of the release means is `benchmarks`' to say.

        Raises: UserError for a set without a readable image or a repeated image id.
        """
        absent = benchmarks.of(release).absent
        rows, unread = [], []
        for record in records:
            try:
                rows.append(read_row(record, image_size, absent, view))
            except ImageFault:
                unread.append(str(record["image_id"]))
        if not rows and unread:
            raise UserError(f"{name}: none of the {len(unread)} images of split {split!r} can be read; prepare again")
        if not rows:
            raise UserError(f"{name}: split {split!r} holds no study; choose a split that does (see manifest.json)")
        ids = tuple(row.id for row in rows)
        if len(set(ids)) != len(ids):
            repeated = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f"{name}: image id {repeated} occurs twice in split {split!r}; prepare the data again")
        mentioned = np.stack([row.mentioned for row in rows])
        gold = np.stack([row.gold for row in rows])
        truth, source = mentioned, f"{REPORT_TEXT} (no gold labels)"
        coded = bool(labeller or np.isfinite(gold).any()) or not any(row.sentences for row in rows)
        if np.isfinite(gold).any():
            truth, source = gold, " + ".join(sorted({row.source for row in rows if row.source})) or "gold labels"
        elif coded:
            truth = np.stack([row.labels for row in rows])
            source = f"labels by {labeller} (no gold labels)" if labeller else NO_REPORTS
        lost, says = coarse(rows, image_size), view.says.format(image_size)
        normal = gold[:, NORMAL]
        if np.isnan(normal).all():
            normal = np.array([row.normal for row in rows], np.float32)
        return cls(
            name=name,
            split=split,
            open=open,
            phantom=phantom,
            source=source,
            title=title,
            preprocessing=f"{says}; {lost}" if lost else says,
            release=release,
            ids=ids,
            patients=tuple(row.patient for row in rows),
            reports=tuple(" ".join(sentence.text for sentence in row.sentences) for row in rows),
            sentences=tuple(row.sentences for row in rows),
            images=np.stack([row.image for row in rows]),
            marks=np.array([row.mark for row in rows], np.uint32),
            coded=coded,
            truth=truth,
            mentioned=mentioned,
            normal=normal,
            groups={group: tuple(row.groups[place] for row in rows) for place, group in enumerate(GROUPS)},
            boxes=tuple(row.boxes for row in rows),
            shapes=np.array([row.shape for row in rows]),
            released=tuple(row.released for row in rows),
            unread=tuple(unread),
            coarse=lost,
        ).sealed()

    def __len__(self) -> int:
        return len(self.ids)

    def sealed(self) -> "EvalSet":
        """The set with its ids, marks, reports, labels and boxes bound together as they stand."""
        return dataclasses.replace(self, seal=self._binding())

    def require_seal(self) -> None:
        """Raises ValueError when ids, marks, reports, labels or boxes are no longer those that were read together."""
        if self.seal != self._binding():
            raise ValueError(f"{self.name}: ids and labels are no longer as they were read; scores would be misaligned")

    def _binding(self) -> str:
        """Over all columns but the images, which their marks stand for; asked for often, in this process alone."""
        said = (self.ids, self.patients, self.reports, self.sentences, self.boxes, self.released)
        arrays = (self.marks, self.truth, self.mentioned, self.normal, self.shapes)
        return f"{hash((said, tuple(self.groups.items())))} {_digest(*arrays)}"

    def labels(self, findings: Sequence[int]) -> Float32[np.ndarray, "n m"]:
        """Truth of some findings; the normal class by ``normal``."""
        return np.stack([self.normal if f == NORMAL else self.truth[:, f] for f in findings], axis=1)

    def digest(self) -> str:
        """Twelve hex digits over ids, patients, reports, truth, groups and boxes, not over pixels: what is asked.

        Results of an equal digest, number of draws and seed are paired, draw by draw, whatever the models read.
        """
        said = (*self.ids, *self.patients, *self.reports, *(v for values in self.groups.values() for v in values))
        texts = "\0".join((*said, repr(self.boxes), repr(self.released))).encode()
        return _digest(texts, self.truth, self.mentioned, self.normal)

    def pixel_digest(self) -> str:
        """Twelve hex digits over the images as a model gets them."""
        return _digest(self.images)

    def absent(self, finding: int) -> Bool[np.ndarray, "n"]:
        """Studies of which the labels say that the finding is absent; uncoded studies never count.

        Uncoded: no label on this finding, or something is wrong (not normal) and no finding names what.
        What nobody codes is judged by the report.
        """
        column = self.truth[:, finding]
        if self.coded and np.isfinite(column).any():
            others = np.delete(self.truth, NORMAL, axis=1)
            unexplained = (self.normal == 0) & ~(others == 1).any(axis=1)
            return (column == 0) & ~unexplained
        return self._reported(finding) == 0

    def counted(self, findings: Sequence[int]) -> Float32[np.ndarray, "n m"]:
        """As `labels`; a finding that nobody codes is judged by the report."""
        known = self.labels(findings)
        reported = np.stack([self._reported(finding) for finding in findings], axis=1)
        return np.where(np.isfinite(known).any(axis=0), known, reported)

    def _reported(self, finding: int) -> Float32[np.ndarray, "n"]:
        """Present is what the report affirms; absent what it denies, and in a normal study what it is silent about.

        An abnormal study's silence is not trusted: nan.
        """
        said = self.mentioned[:, finding]
        return np.where(np.isnan(said) & (self.normal == 1), np.float32(0), said)


def _digest(*parts: bytes | np.ndarray) -> str:
    content = hashlib.sha256()
    for part in parts:
        content.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return content.hexdigest()[:12]


@dataclass(frozen=True)
class Embedded:
    """A set's image vectors by id, and a text embedder that embeds each distinct string once."""

    rows: Mapping[str, Float32[np.ndarray, "d"]]
    texts: Callable[[Sequence[str]], Float32[np.ndarray, "m d"]]
    wording: prompts.PromptSet = prompts.REPORTS
    maps: Mapping[tuple[str, str], Float32[np.ndarray, "h w"]] | None = None  # by image id and finding

    def sides(self, finding: str) -> prompts.PromptVectors:
        """The vectors of what affirms and what denies a finding."""
        return prompts.embed(finding, self.texts, self.wording)

    def images(self, evalset: EvalSet) -> Float32[np.ndarray, "n d"]:
        """The vectors in the set's order, joined by id.

        Raises: ValueError when the ids are not the set's own, or its labels no longer stand beside theirs.
        """
        evalset.require_seal()
        if self.rows.keys() != set(evalset.ids):
            shared = len(self.rows.keys() & set(evalset.ids))
            raise ValueError(
                f"{evalset.name}: {len(self.rows)} ids were embedded, the set has {len(evalset)}, both {shared}; "
                "scores would be misaligned"
            )
        return np.stack([self.rows[name] for name in evalset.ids])


class Seen(NamedTuple):
    """Another split of a set's release, embedded: what a suite learns from, or chooses by, before it measures."""

    evalset: EvalSet
    embedded: Embedded
