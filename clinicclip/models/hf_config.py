"""Tower specs to and from the Hugging Face configs that say the same, and what those configs may not say."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from clinicclip.errors import UserError, within
from clinicclip.models.bert import BertSpec
from clinicclip.models.swin import SwinSpec

# What our towers are by construction: a config that says otherwise describes another model.
SWIN_FIXED = {
    "model_type": "swin",
    "num_channels": 3,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "use_absolute_embeddings": False,
}
BERT_FIXED = {"model_type": "bert", "hidden_act": "gelu"}
BERT_DEFAULTS = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}


def swin_config(spec: SwinSpec) -> dict[str, Any]:
    """The transformers SwinConfig of a Swin tower."""
    return {
        **SWIN_FIXED,
        "image_size": spec.image_size,
        "patch_size": spec.patch_size,
        "embed_dim": spec.embed_dim,
        "depths": list(spec.depths),
        "num_heads": list(spec.heads),
        "window_size": spec.window_size,
        "mlp_ratio": spec.mlp_ratio,
        "drop_path_rate": spec.drop_path,
    }


def swin_spec(config: Mapping[str, Any], *, source: str) -> SwinSpec:
    """The Swin tower a SwinConfig describes. Raises UserError listing what our class cannot be."""
    _refuse(config, SWIN_FIXED, source)
    _require(config, ("image_size", "patch_size", "window_size", "embed_dim", "depths", "num_heads"), source)
    with _in_numbers(source):
        return SwinSpec(
            image_size=_size(config["image_size"]),
            patch_size=_size(config["patch_size"]),
            window_size=_size(config["window_size"]),
            embed_dim=_size(config["embed_dim"]),
            depths=tuple(map(_size, config["depths"])),
            heads=tuple(map(_size, config["num_heads"])),
            mlp_ratio=float(config.get("mlp_ratio", 4.0)),
            drop_path=float(config.get("drop_path_rate", 0.1)),
        )


def bert_config(spec: BertSpec) -> dict[str, Any]:
    """The transformers BertConfig of a BERT tower."""
    return {
        **BERT_FIXED,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.mlp_width,
        "max_position_embeddings": spec.max_positions,
        "type_vocab_size": spec.type_vocab_size,
        "layer_norm_eps": spec.layer_norm_eps,
        "pad_token_id": spec.pad_id,
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.dropout,
    }


def bert_spec(config: Mapping[str, Any], *, source: str) -> BertSpec:
    """The BERT tower a BertConfig describes. Raises UserError listing what our class cannot be."""
    _refuse(config, BERT_FIXED | BERT_DEFAULTS, source)
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    _require(config, keys, source)
    with _in_numbers(source):
        return BertSpec(
            vocab_size=_size(config["vocab_size"]),
            width=_size(config["hidden_size"]),
            depth=_size(config["num_hidden_layers"]),
            heads=_size(config["num_attention_heads"]),
            mlp_width=_size(config["intermediate_size"]),
            max_positions=_size(config.get("max_position_embeddings", 512)),
            type_vocab_size=_size(config.get("type_vocab_size", 2)),
            dropout=float(config.get("hidden_dropout_prob", 0.1)),
            layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
            pad_id=int(config.get("pad_token_id") or 0),
        )


@contextlib.contextmanager
def _in_numbers(source: str) -> Iterator[None]:
    """Tells in one line that a size is no number, or that sizes do not fit together."""
    try:
        with within(source):
            yield
    except (TypeError, ValueError, OverflowError) as fault:
        raise UserError(f"{source}: a size in its config.json is unusable ({fault})") from None


def _size(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} where a whole number above 0 is needed")
    return value


def _refuse(config: Mapping[str, Any], named: Mapping[str, Any], source: str) -> None:
    """Raise unless all the config says agrees; what it leaves unsaid has the value given here by default."""
    wrong = [
        f"{key} is {config[key]!r}, not {value!r}" for key, value in named.items() if config.get(key, value) != value
    ]
    if "model_type" not in config:
        wrong.append("model_type is not said")
    if wrong:
        raise UserError(f"{source}: its config.json describes a model we cannot be: {'; '.join(wrong)}")


def _require(config: Mapping[str, Any], keys: tuple[str, ...], source: str) -> None:
    absent = [key for key in keys if key not in config]
    if absent:
        raise UserError(f"{source}: its config.json lacks {', '.join(absent)}")
