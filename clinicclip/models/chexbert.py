"""CheXbert: a BERT with one linear head a finding over its first token, read from the published file's layout.

Source: Smit et al., CheXbert (EMNLP 2020), https://github.com/stanfordmlgroup/CheXbert. The published file is a
``DataParallel`` state: every key begins with ``module.``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from clinicclip.errors import UserError, within
from clinicclip.models import convert
from clinicclip.models.bert import BertSpec
from clinicclip.models.shapes import bert_sizes
from clinicclip.models.torch_names import chexbert_leaves

# CheXbert's own order of heads; "no finding" has the first two classes only.
CONDITIONS = (
    "enlarged_cardiomediastinum",
    "cardiomegaly",
    "lung_opacity",
    "lung_lesion",
    "edema",
    "consolidation",
    "pneumonia",
    "atelectasis",
    "pneumothorax",
    "pleural_effusion",
    "pleural_other",
    "fracture",
    "support_devices",
    "no_finding",
)
CLASSES = ("blank", "positive", "negative", "uncertain")
HEAD_CLASSES = (*(len(CLASSES),) * (len(CONDITIONS) - 1), 2)
HEAD_WIDTH = 64  # of an attention head, in every BERT of the original sizes; the file does not say
PREFIX, UNUSED = "module.", "bert.pooler."


def from_torch(tensors: Mapping[str, np.ndarray], source: str) -> tuple[BertSpec, dict[str, Any]]:
    """Spec of the BERT, and parameters {"bert": ..., "head_0": ..., ... "head_13": ...}.

    Raises UserError, opening with ``source``, naming every missing, unexpected and mis-shaped array.
    """
    plain = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    plain = {key: tensor for key, tensor in plain.items() if not key.startswith(UNUSED)}
    spec = _spec(plain, source)
    leaves = tuple(chexbert_leaves(spec, HEAD_CLASSES))
    return spec, convert.from_leaves(leaves, plain, source)


def _spec(tensors: Mapping[str, np.ndarray], source: str) -> BertSpec:
    if "bert.embeddings.word_embeddings.weight" not in tensors:
        raise UserError(f"{source}: is not CheXbert's file: it holds no bert.embeddings and bert.encoder")
    sizes = bert_sizes(tensors, "bert.", source)
    with within(source):
        return BertSpec(**sizes, heads=max(1, sizes["width"] // HEAD_WIDTH), pooling="cls")


def logits(params: Mapping[str, Any], first: Float32[np.ndarray, "b w"]) -> Float[np.ndarray, "b 14 4"]:
    """Scores of `CLASSES` for each of `CONDITIONS`, from the state of each text's first token.

    Classes a head does not have score -inf.
    """
    scores = np.full((len(first), len(CONDITIONS), len(CLASSES)), -np.inf, np.float32)
    for index, classes in enumerate(HEAD_CLASSES):
        head = params[f"head_{index}"]
        scores[:, index, :classes] = first @ head["kernel"] + head["bias"]
    return scores


def classes(scores: Float[np.ndarray, "b 14 4"]) -> Int[np.ndarray, "b 14"]:
    """Index into `CLASSES` of each condition."""
    return scores.argmax(-1)
