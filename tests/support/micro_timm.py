"""The image tower of the smallest export under a name of timm's registry, so that open_clip can build it by that."""

from typing import Any

import micro_export
import torch
from timm.models import register_model, swin_transformer

SWIN = micro_export.SPEC.image


@register_model
def swin_micro(pretrained: bool = False, **options: Any) -> torch.nn.Module:
    """What open_clip asks timm for by the name in an export."""
    sizes = {"img_size": SWIN.image_size, "patch_size": SWIN.patch_size, "window_size": SWIN.window_size}
    layers = {"embed_dim": SWIN.embed_dim, "depths": SWIN.depths, "num_heads": SWIN.heads}
    tiny = "swin_tiny_patch4_window7_224"  # whose settings stand for what sizes do not say
    return swin_transformer._create_swin_transformer(tiny, pretrained, **sizes, **layers, **options)


NAME = swin_micro.__name__
