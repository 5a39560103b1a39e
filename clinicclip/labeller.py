"""CheXbert as the labeller of prepared reports: an option beside the rules of `data.text`.

It reads the impression alone, as it was trained to: a study without one has no labels. A finding it leaves blank
counts as absent for training, as with the rules.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clinicclip.data.manifest import file_sha256
from clinicclip.data.schema import ABSENT, PRESENT, UNCERTAIN, Drop, Sketch, Study
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.importing import weights
from clinicclip.models import chexbert
from clinicclip.reading import Reader

FILES = ("chexbert.safetensors", "model.safetensors", "chexbert.pth")
VOCABULARY = ("tokenizer.json", "vocab.txt")
TOKENS = 512  # of an impression; the rest is cut, as CheXbert does
TOGETHER = 256  # studies labelled at a time
STORED = {"blank": ABSENT, "positive": PRESENT, "negative": ABSENT, "uncertain": UNCERTAIN}

Item = Study | Sketch | Drop


class Join:
    """Gives studies the labels CheXbert reads from their impressions, instead of any of their own.

    Args:
      path: the published ``chexbert.pth`` (needs PyTorch), the same as safetensors, or a folder with one of them.
      tokenizer: a folder with the vocabulary of bert-base-uncased; None = beside the file.

    Raises:
      UserError: no such file, or no vocabulary.
    """

    def __init__(self, path: Path, tokenizer: Path | None = None) -> None:
        self._file = _weights(path)
        self._vocabulary = tokenizer or self._file.parent
        if not any((self._vocabulary / name).is_file() for name in VOCABULARY):
            raise UserError(
                f"{self._vocabulary} holds neither {' nor '.join(VOCABULARY)}: CheXbert needs the vocabulary of "
                "bert-base-uncased beside its file, or its folder as --labeller_tokenizer"
            )
        self._known: dict[bytes, dict[str, int]] = {}

    def settings(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"labeller": {"model": "CheXbert", "sha256": file_sha256(self._file)}}

    def __call__(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items in the same order, some hundreds labelled at a time. Raises UserError for a faulty file."""
        while some := list(itertools.islice(items, TOGETHER)):
            studies = [item for item in some if isinstance(item, Study)]
            labels = iter(self.label([study.impression for study in studies]))
            for item in some:
                yield replace(item, labels=next(labels)) if isinstance(item, Study) else item

    def label(self, impressions: Sequence[str]) -> list[dict[str, int]]:
        """{finding: PRESENT, ABSENT or UNCERTAIN} of each impression; empty where there is none."""
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in impressions]
        new = {
            key: text for key, text in zip(keys, impressions, strict=True) if text.strip() and key not in self._known
        }
        if new:
            self._known |= zip(new, self._read(list(new.values())), strict=True)
        return [self._known.get(key, {}) for key in keys]

    def _read(self, texts: list[str]) -> list[dict[str, int]]:
        tokenizer, reader, params = self._model
        ids, _ = tokenizer.encode(texts, TOKENS)
        first = np.stack([states[0] for _, states in sorted(reader.states(ids), key=lambda found: found[0])])
        found = chexbert.classes(chexbert.logits(params, first))
        return [
            {name: STORED[chexbert.CLASSES[k]] for name, k in zip(chexbert.CONDITIONS, row, strict=True)}
            for row in found
        ]

    @cached_property
    def _model(self) -> tuple[Tokenizer, Reader, dict[str, Any]]:
        spec, params = chexbert.from_torch(weights.read(self._file), str(self._file))
        tokenizer = Tokenizer.load(self._vocabulary)
        if tokenizer.vocab_size != spec.vocab_size:
            raise UserError(
                f"{self._vocabulary}: a vocabulary of {tokenizer.vocab_size} pieces, {self._file} was trained with "
                f"{spec.vocab_size}; give the folder of bert-base-uncased"
            )
        if spec.max_positions < TOKENS:
            raise UserError(f"{self._file}: knows {spec.max_positions} positions, CheXbert has {TOKENS}")
        return tokenizer, Reader(spec, params["bert"]), params


def _weights(path: Path) -> Path:
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    wanted = f"one of {', '.join(FILES)} in it" if path.is_dir() else "CheXbert's file or its folder, or rules"
    raise UserError(f"--labeller={path}: no such file; expected {wanted}")
