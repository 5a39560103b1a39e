"""WordPiece vocabularies: trained, loaded, saved, and read back by transformers with equal ids."""

import html
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from clinicclip.data import wordpiece
from clinicclip.data.tokenizer import SPECIAL, Tokenizer, clean, train_wordpiece
from clinicclip.errors import UserError

REPORTS = (
    "The heart is enlarged. There is no pleural effusion.",
    "Lungs are clear. No pneumothorax is seen.",
    "Small left pleural effusion, 3 cm. The heart is normal.",
    "The lungs are clear and the heart is normal in size.",
)
TEXTS = (*REPORTS, "HEART &amp; lungs “normal”", "unheard-of naïve words", "")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece(REPORTS, 200)


def test_known_words_are_not_unknown(tokenizer: Tokenizer) -> None:
    (ids,), truncated = tokenizer.encode(["The heart is normal."], 32)
    assert [tokenizer.vocabulary[i] for i in ids] == ["[CLS]", "the", "heart", "is", "normal", ".", "[SEP]"]
    assert truncated == 0


def test_rare_words_are_spelled_and_not_lost(tokenizer: Tokenizer) -> None:
    ids, _ = tokenizer.encode(["cardiomegaly 12345 (quietly!)"], 64)
    assert tokenizer.unk_id not in ids[0]


def test_special_tokens_come_first_with_padding_at_zero(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary[:5] == SPECIAL == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert tokenizer.pad_id == 0 and tokenizer.vocab_size == len(tokenizer.vocabulary) <= 200


def test_training_is_the_same_in_another_process(tokenizer: Tokenizer) -> None:
    code = (
        "from clinicclip.data.tokenizer import train_wordpiece\n"
        f"print(hash_free := '\\n'.join(train_wordpiece({REPORTS!r}, 200).vocabulary))"
    )
    root = Path(__file__).parents[1]
    for salt in ("1", "2"):
        env = {"PYTHONHASHSEED": salt, "PATH": ""}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=env, check=True
        )
        assert tuple(run.stdout.split()) == tokenizer.vocabulary


def test_the_most_frequent_pair_is_merged_first_and_ties_by_spelling() -> None:
    pieces = wordpiece.train({"abab": 3, "ab": 2, "zy": 5}, 200, digits=True)
    merged = [piece for piece in pieces if len(piece.removeprefix("##")) > 1]
    assert merged == ["ab", "zy", "##ab", "abab"]


def test_rare_and_numbered_words_shape_no_piece_of_a_restricted_vocabulary() -> None:
    reports = ["pleural effusion seen by drsmithson", "pleural effusion in room b12", "pleural effusion"]
    found = train_wordpiece(reports, 400, patients=["a", "b", "b"], min_patients=2)
    longer = {piece.removeprefix("##") for piece in found.vocabulary[5:] if len(piece.removeprefix("##")) > 1}
    assert "pleural" in longer and "effusion" in longer
    assert all(any(piece in word for word in ("pleural", "effusion")) for piece in longer)
    assert not any(c.isdigit() for piece in found.vocabulary for c in piece)


def test_long_texts_are_cut_and_counted(tokenizer: Tokenizer) -> None:
    (short, long, exact), truncated = tokenizer.encode(["heart", "heart " * 20, "heart " * 6], 8)
    assert len(short) == 3 and len(long) == len(exact) == 8 and truncated == 1
    assert long[-1] == short[-1] == tokenizer.vocabulary.index("[SEP]")


def test_saved_folder_gives_equal_ids_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 16)
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    texts = [clean(text) for text in TEXTS]
    expected, _ = tokenizer.encode(TEXTS, 16)
    for kind in (transformers.AutoTokenizer, transformers.BertTokenizer, transformers.BertTokenizerFast):
        theirs = kind.from_pretrained(tmp_path)
        assert theirs(texts, truncation=True)["input_ids"] == expected
        assert theirs.model_max_length == 16 and theirs.pad_token_id == 0 and len(theirs) == tokenizer.vocab_size


def test_a_saved_folder_loads_back_equal_from_either_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 64)
    assert Tokenizer.load(tmp_path) == tokenizer
    (tmp_path / "tokenizer.json").unlink()
    assert Tokenizer.load(str(tmp_path)) == tokenizer


def test_a_cased_vocabulary_stays_cased(tmp_path: Path) -> None:
    cased = Tokenizer((*SPECIAL, "the", "The", "heart", "Heart"), lowercase=False)
    cased.save(tmp_path, 64)
    assert Tokenizer.load(tmp_path) == cased
    expected = cased.encode(["The heart the Heart"], 64)[0]
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(["The heart the Heart"])["input_ids"] == expected
    assert len(set(expected[0])) == 6


def test_padding_and_truncation_settings_of_a_foreign_file_are_left_behind(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path, 64)
    file = tmp_path / "tokenizer.json"
    foreign = json.loads(file.read_text())
    foreign["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    file.write_text(json.dumps(foreign))
    assert Tokenizer.load(tmp_path).encode(TEXTS, 64) == tokenizer.encode(TEXTS, 64)


def test_pickle_keeps_the_ids(tokenizer: Tokenizer) -> None:
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS, 64) == tokenizer.encode(TEXTS, 64)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("heart &amp;amp; lungs &lt;2 cm", "heart & lungs <2 cm"),
        ("“no” effusion – it’s gone", '"no" effusion - it\'s gone'),
        ("ﬁbrosis\u00a0in\n\n both\tlungs ", "fibrosis in both lungs"),
        ("soft\u00adhyphen and zero\u200bwidth", "softhyphen and zerowidth"),
        ("Ｆｕｌｌ width … dots", "Full width ... dots"),
        ("&\u200bamp; bell\x07", "& bell"),
    ],
)
def test_cleaning_makes_text_plain(raw: str, plain: str) -> None:
    assert clean(raw) == plain == clean(plain)


@given(st.text() | st.text(alphabet="&amp;lt#38x ＆；\u200b"))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text) == html.unescape(clean(text))


def test_unusable_tokenizers_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor vocab.txt"):
        Tokenizer.load(tmp_path / "empty")
    (tmp_path / "vocab.txt").write_text("\n".join((*SPECIAL, "zzz")))
    with pytest.raises(UserError, match="wrong vocabulary"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.txt").write_text("the\nheart")
    with pytest.raises(UserError, match=r"lacks \[PAD\]"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"the\n\xff\xfe")
    with pytest.raises(UserError, match="is not text in UTF-8"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json is damaged"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match=r"tokenizer\.json is damaged"):
        Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="too small"):
        train_wordpiece(REPORTS, 50)
    with pytest.raises(UserError, match="neither a local folder nor a reachable hub id"):
        Tokenizer.load("no-such/model")


def test_byte_pair_tokenizers_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 64)
    foreign = json.loads((tmp_path / "tokenizer.json").read_text()) | {"normalizer": {"type": "NFC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(foreign))
    with pytest.raises(UserError, match="not a BERT WordPiece"):
        Tokenizer.load(tmp_path)
