"""BERT WordPiece, loaded from a Hugging Face folder or hub id or trained on the reports; one form for both.

A tokenizer is its vocabulary plus three normalizer switches, so what is saved, sent to worker processes and
read back by transformers is the same thing by construction. Text is cleaned here and nowhere else.
"""

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from clinicclip import files
from clinicclip.data import wordpiece
from clinicclip.errors import UserError

PAD, UNK, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PLAIN = str.maketrans("‘’‚‛“”„‟‐‑‒–—―−\u00ad", "''''\"\"\"\"-------\u200b")
INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
PROBE = "the heart and lungs are normal"


def clean(text: str) -> str:
    """Text that open_clip's own cleaning leaves alone: entities resolved, quotes and dashes plain, one line.

    open_clip mends and unescapes text before its tokenizer and transformers does not; on text cleaned here
    both see the same characters. Idempotent. (Text decoded with the wrong character set is left as it is.)
    """
    while (plain := _plainer(text)) != text:  # an entity may appear once something between is gone
        text = plain
    return text


def _plainer(text: str) -> str:
    text = unicodedata.normalize("NFKC", html.unescape(text)).translate(PLAIN)
    return " ".join(INVISIBLE.sub("", text).split())


@dataclass(frozen=True)
class Tokenizer:
    """A BERT tokenizer; `vocabulary[i]` is the piece of id i. Picklable and hashable."""

    vocabulary: tuple[str, ...]
    lowercase: bool = True
    strip_accents: bool | None = None  # None: as `lowercase`, which is BERT's own rule
    chinese_chars: bool = True

    def __post_init__(self) -> None:
        missing = [token for token in SPECIAL if token not in self._ids]
        if missing or len(self._ids) != len(self.vocabulary):
            fault = f"lacks {' '.join(missing)}" if missing else "names a piece twice"
            raise UserError(f"tokenizer: the vocabulary {fault}; a BERT WordPiece vocabulary is needed")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer(models.WordPiece(self._ids, unk_token=UNK))
        backend.add_special_tokens(list(SPECIAL))
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=self.chinese_chars,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        ends = [(CLS, self._ids[CLS]), (SEP, self._ids[SEP])]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=ends
        )
        return backend

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def digest(self) -> str:
        """Twelve hex digits over the pieces and what is done to a text before it is cut into them."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    @property
    def vocab_size(self) -> int:
        """Number of pieces, special tokens included."""
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        """Id of [PAD]; 0 for every BERT vocabulary."""
        return self._ids[PAD]

    @property
    def unk_id(self) -> int:
        """Id of [UNK]."""
        return self._ids[UNK]

    def encode(self, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
        """Token ids [CLS] ... [SEP] of each text, at most `length` each, and how many were cut to fit."""
        cls, sep = self._ids[CLS], self._ids[SEP]
        encoded = self._backend.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        bodies = [item.ids for item in encoded]
        truncated = sum(len(body) > length - 2 for body in bodies)
        return [[cls, *body[: length - 2], sep] for body in bodies], truncated

    def save(self, folder: Path, length: int) -> None:
        """Write the four files transformers and open_clip read; `length` = tokens of the longest text."""
        files.make_folder(folder)
        names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
        config = names | {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.lowercase,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.chinese_chars,
            "model_max_length": length,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }
        for name, content in {
            "tokenizer.json": self._backend.to_str(pretty=True),
            "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
            "special_tokens_map.json": json.dumps(names, indent=2) + "\n",
            "vocab.txt": "".join(f"{piece}\n" for piece in self.vocabulary),
        }.items():
            files.write_whole(folder / name, content)

    @classmethod
    def load(cls, source: str | Path) -> "Tokenizer":
        """The tokenizer of a local folder (tokenizer.json, or vocab.txt) or, lacking it, of a hub id.

        Raises:
          UserError: nothing there, not a BERT WordPiece tokenizer, or every common word comes out as [UNK].
        """
        folder = Path(source)
        if (folder / "tokenizer.json").is_file():
            found = _from_json(files.content(folder / "tokenizer.json"), str(source))
        elif (folder / "vocab.txt").is_file():
            found = _from_vocabulary(folder)
        elif folder.is_dir():
            raise UserError(f"tokenizer: {source} holds neither tokenizer.json nor vocab.txt")
        else:
            found = _from_json(_hub_json(str(source)), str(source))
        if set(found.encode([PROBE], 64)[0][0][1:-1]) == {found.unk_id}:
            raise UserError(f"tokenizer: {source} turns every word of {PROBE!r} into [UNK]; wrong vocabulary file?")
        return found


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, patients: Iterable[str] | None = None, min_patients: int = 1
) -> Tokenizer:
    """A lowercase WordPiece vocabulary of at most `vocab_size` pieces, a function of the texts' words alone.

    With `patients` (one name a text) only words seen for at least `min_patients` of them, and without digits,
    shape the pieces: the form in which a vocabulary of restricted reports may leave the machine. Letters and
    punctuation are always pieces, so that a rare word is spelled and not lost; digits are, except then.

    Raises:
      UserError: `vocab_size` cannot hold the single characters.
    """
    bare = Tokenizer(SPECIAL)
    texts = [bare._backend.normalizer.normalize_str(clean(text)) for text in texts]
    split = bare._backend.pre_tokenizer.pre_tokenize_str
    words = [[word for word, _ in split(text)] for text in texts]
    counts = wordpiece.count(words, patients, min_patients)
    pieces = wordpiece.train(counts, vocab_size - len(SPECIAL), digits=patients is None)
    return Tokenizer((*SPECIAL, *pieces))


def _from_vocabulary(folder: Path) -> Tokenizer:
    config = files.read_object(folder / "tokenizer_config.json")
    try:
        lines = files.content(folder / "vocab.txt").decode().rstrip("\r\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"tokenizer: {folder / 'vocab.txt'} is not text in UTF-8; fetch it again") from None
    return Tokenizer(
        tuple(line.rstrip("\r") for line in lines),
        lowercase=config.get("do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        chinese_chars=config.get("tokenize_chinese_chars", True),
    )


def _from_json(text: str | bytes, name: str) -> Tokenizer:
    """Reads the `tokenizers` file form; its truncation and padding settings are left behind on purpose."""
    try:
        return _of_tokenizers(json.loads(text), name)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(f"tokenizer: {name}/tokenizer.json is damaged, or of no form known; fetch it again") from None


def _of_tokenizers(spec: dict[str, Any], name: str) -> Tokenizer:
    normalizer = spec["normalizer"] or {}
    if spec["model"].get("type", "WordPiece") != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        raise UserError(f"tokenizer: {name} is not a BERT WordPiece tokenizer; give a BERT-type text model")
    ids: dict[str, int] = spec["model"]["vocab"]
    extra = [token["content"] for token in spec["added_tokens"] if token["content"] not in ids]
    if extra or sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"tokenizer: {name} adds tokens beside its vocabulary ({len(extra)}); not supported")
    return Tokenizer(
        tuple(sorted(ids, key=ids.__getitem__)),
        lowercase=normalizer["lowercase"],
        strip_accents=normalizer["strip_accents"],
        chinese_chars=normalizer["handle_chinese_chars"],
    )


def _hub_json(name: str) -> str:
    import transformers  # slow to import, and only needed here

    try:
        found = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"tokenizer: {name!r} is neither a local folder nor a reachable hub id") from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"tokenizer: {name!r} has no fast tokenizer; give a BERT-type text model")
    return backend.to_str()
