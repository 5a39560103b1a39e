"""Our CheXbert equals a PyTorch twin of the published class, from its own file, on texts short and over-long."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from clinicclip import labeller
from clinicclip.data.schema import ABSENT, PRESENT, UNCERTAIN
from clinicclip.importing import weights
from clinicclip.models import chexbert, tensor_file
from clinicclip.reading import Reader

TOKENIZER = runpy.run_path(str(Path(__file__).parents[1] / "support" / "bert_folder.py"))["tokenizer"]
TEXTS = (
    "Small left pleural effusion.",
    "The heart is normal in size.\n  Lungs are clear. No pneumothorax.",
    "normal " * 700,
    "no pneumothorax and no effusion " * 90,
    "Clear.",
)


class Twin(torch.nn.Module):
    """The published class: BERT, dropout, fourteen heads over the first token's state."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        self.dropout = torch.nn.Dropout(0.1)
        heads = [torch.nn.Linear(config.hidden_size, 4) for _ in range(13)] + [torch.nn.Linear(config.hidden_size, 2)]
        self.linear_heads = torch.nn.ModuleList(heads)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        first = self.dropout(self.bert(ids, attention_mask=mask)[0][:, 0])
        return [head(first) for head in self.linear_heads]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chexbert")
    TOKENIZER().save(path, 512)
    return path


@pytest.fixture(scope="module")
def twin(folder: Path) -> Twin:
    """A twin with every parameter perturbed, stored as the published file is."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=TOKENIZER().vocab_size,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=192,
        max_position_embeddings=512,
    )
    model = Twin(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {f"module.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": state, "loss": 0.5}, folder / "chexbert.pth")
    return model


def their_logits(twin: Twin, folder: Path, text: str) -> list[np.ndarray]:
    """As the published code reads an impression: one line, and what is over 512 cut before the last [SEP]."""
    tokenizer = BertTokenizerFast.from_pretrained(str(folder))
    ids = tokenizer(" ".join(text.split()), truncation=False)["input_ids"]
    if len(ids) > 512:
        ids = [*ids[:511], tokenizer.sep_token_id]
    row = torch.tensor([ids])
    with torch.no_grad():
        return [scores[0].numpy() for scores in twin(row, torch.ones_like(row))]


def test_the_published_file_gives_its_own_scores(twin: Twin, folder: Path) -> None:
    spec, params = chexbert.from_torch(weights.read(folder / "chexbert.pth"), "chexbert.pth")
    assert (spec.width, spec.depth, spec.heads, spec.mlp_width, spec.max_positions) == (128, 3, 2, 192, 512)
    ids, cut = TOKENIZER().encode(TEXTS, 512)
    assert cut == 2 and max(map(len, ids)) == 512
    states = dict(Reader(spec, params["bert"]).states(ids))
    ours = chexbert.logits(params, np.stack([states[i][0] for i in range(len(TEXTS))]))
    for text, scores in zip(TEXTS, ours, strict=True):
        for mine, theirs in zip(scores, their_logits(twin, folder, text), strict=True):
            np.testing.assert_allclose(mine[: len(theirs)], theirs, atol=1e-5)
            assert np.isneginf(mine[len(theirs) :]).all()


def test_labels_are_the_published_classes_in_our_codes(twin: Twin, folder: Path) -> None:
    codes = (ABSENT, PRESENT, ABSENT, UNCERTAIN)  # blank, positive, negative, uncertain
    found = labeller.Join(folder).label([*TEXTS, "  "])
    assert found[-1] == {}
    for text, labels in zip(TEXTS, found[:-1], strict=True):
        theirs = [codes[int(scores.argmax())] for scores in their_logits(twin, folder, text)]
        assert [labels[name] for name in chexbert.CONDITIONS] == theirs
    assert len({tuple(labels.values()) for labels in found[:-1]}) > 1


def test_safetensors_give_the_same_labels_as_the_published_file(twin: Twin, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "chexbert.safetensors"
    tensor_file.write(file, weights.read(folder / "chexbert.pth"))
    assert labeller.Join(file, folder).label(TEXTS) == labeller.Join(folder).label(TEXTS)


def test_a_file_that_would_run_code_is_refused(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    faults = {"evil.pth": ({"model_state_dict": Evil()}, "no PyTorch file of arrays alone"),
              "other.pth": ({"model": {"a": torch.zeros(1)}}, "is not CheXbert's file")}  # fmt: skip
    for name, (content, says) in faults.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(labeller.UserError, match=says):
            labeller.Join(tmp_path / name, folder).label(["Clear."])
