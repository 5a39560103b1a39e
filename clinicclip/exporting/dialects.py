"""Which PyTorch dialects can say a given model, and the configuration files each of them reads."""

from typing import Any

from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.models.clip import IMAGE_MEAN, IMAGE_STD, ClipSpec
from clinicclip.models.hf_config import bert_config, swin_config
from clinicclip.models.swin import SwinSpec
from clinicclip.models.torch_names import OPEN_CLIP, TRANSFORMERS

WEIGHTS = {TRANSFORMERS: "model.safetensors", OPEN_CLIP: "open_clip_model.safetensors"}
# open_clip builds a Swin by its name in timm's registry, so only registered sizes can be named.
REGISTERED: dict[tuple[tuple[int, ...], int, tuple[int, ...]], str] = {
    ((2, 2, 6, 2), 96, (3, 6, 12, 24)): "swin_tiny_patch4_window7_224",
    ((2, 2, 18, 2), 96, (3, 6, 12, 24)): "swin_small_patch4_window7_224",
    ((2, 2, 18, 2), 128, (4, 8, 16, 32)): "swin_base_patch4_window7_224",
}
OPEN_CLIP_POOLERS = {"pooler": "cls_pooler", "mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}
TEXT = "text"  # folder of the text tower's configuration
BICUBIC = 3  # Pillow's number


def timm_name(spec: SwinSpec) -> str | None:
    """The timm registry's name of a Swin, or None for a size it does not list."""
    if (spec.image_size, spec.patch_size, spec.window_size, spec.mlp_ratio) != (224, 4, 7, 4.0):
        return None
    return REGISTERED.get((spec.depths, spec.embed_dim, spec.heads))


def dialects(spec: ClipSpec) -> tuple[str, ...]:
    """The dialects that can hold the model exactly.

    Raises UserError with the reason when there is none.
    """
    pooler, registered = spec.text.pooling == "pooler", timm_name(spec.image) is not None
    allowed = (*((TRANSFORMERS,) if pooler else ()), *((OPEN_CLIP,) if registered else ()))
    if not allowed:
        raise UserError(
            f"export: only open_clip has text pooling '{spec.text.pooling}', and it can only name Swin tiny, "
            "small and base at 224 px: train with text pooling 'pooler' or one of these image towers"
        )
    return allowed


def require_agreement(spec: ClipSpec, tokenizer: Tokenizer, text_length: int) -> None:
    """Raise UserError unless tokenizer, text length and text tower describe one another."""
    faults = {
        f"the tokenizer has {tokenizer.vocab_size} pieces, the text tower {spec.text.vocab_size} rows": (
            tokenizer.vocab_size != spec.text.vocab_size
        ),
        f"the tokenizer pads with {tokenizer.pad_id}, the text tower with {spec.text.pad_id}": (
            tokenizer.pad_id != spec.text.pad_id
        ),
        f"texts of {text_length} tokens exceed the {spec.text.max_positions} positions of the text tower": (
            text_length > spec.text.max_positions
        ),
    }
    wrong = [fault for fault, holds in faults.items() if holds]
    if wrong:
        raise UserError(f"export: {'; '.join(wrong)}; export with the tokenizer the model was trained with")


def config_files(
    spec: ClipSpec, *, text_length: int, logit_scale: float, dtype: str = "float32", hub: str = ""
) -> dict[str, dict[str, Any]]:
    """Name -> JSON content of every configuration the allowed dialects read.

    `dtype` is that of the stored weights, `hub` the id under which the folder will be published, "" for none.
    """
    allowed = dialects(spec)
    files = {"preprocessor_config.json": _preprocessor(spec)}
    if TRANSFORMERS in allowed:
        files["config.json"] = {
            "architectures": ["VisionTextDualEncoderModel"],
            "model_type": "vision-text-dual-encoder",
            "projection_dim": spec.dim,
            "logit_scale_init_value": logit_scale,
            "dtype": dtype,
            "vision_config": swin_config(spec.image),
            "text_config": bert_config(spec.text),
        }
    if OPEN_CLIP in allowed:
        files["open_clip_config.json"] = _open_clip(spec, text_length, hub)
        # A folder of its own: in the root, config.json must be the dual encoder's.
        files[f"{TEXT}/config.json"] = {"architectures": ["BertModel"], **bert_config(spec.text)}
    return files


def text_id(hub: str) -> str:
    """The hub id of the configuration that open_clip builds the text tower of a published export by."""
    return f"{hub}-text"


def _preprocessor(spec: ClipSpec) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,  # gray images are refused without it
        "do_resize": True,
        "size": {"height": spec.image.image_size, "width": spec.image.image_size},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGE_MEAN),
        "image_std": list(IMAGE_STD),
    }


def _open_clip(spec: ClipSpec, text_length: int, hub: str) -> dict[str, Any]:
    image = {
        "timm_model_name": timm_name(spec.image),
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "timm_proj_bias": False,
        "image_size": spec.image.image_size,
    }
    text = {
        # A relative path that is no legal hub id is never asked of the network. On a hub, config.json in the root is
        # the dual encoder's, so that the text tower's needs a place of its own.
        "hf_model_name": text_id(hub) if hub else f"./{TEXT}",
        "hf_model_pretrained": False,
        "hf_tokenizer_name": hub or f"./{TEXT}",
        "hf_proj_type": "linear",
        "hf_pooler_type": OPEN_CLIP_POOLERS[spec.text.pooling],
        "context_length": text_length,
        "vocab_size": spec.text.vocab_size,
    }
    model = {"embed_dim": spec.dim, "custom_text": True, "vision_cfg": image, "text_cfg": text}
    preprocessing = {
        "mean": list(IMAGE_MEAN),
        "std": list(IMAGE_STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    return {"model_cfg": model, "preprocess_cfg": preprocessing}
