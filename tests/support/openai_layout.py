"""The layout of OpenAI's CLIP, as CheXzero saved it."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the smallest CLIP in OpenAI's layout, as `torch` names its parameters."""
    found = {
        "logit_scale": (), "visual.class_embedding": (8,), "visual.conv1.weight": (8, 3, 4, 4),
        "visual.positional_embedding": (17, 8), "visual.proj": (8, 5), "token_embedding.weight": (30, 6),
        "positional_embedding": (7, 6), "text_projection": (6, 5),
    }  # fmt: skip
    for name, width in (("visual.ln_pre", 8), ("visual.ln_post", 8), ("ln_final", 6)):
        found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for prefix, width in (("visual.transformer.resblocks.0", 8), ("transformer.resblocks.0", 6)):
        block = {
            "ln_1": (width,), "ln_2": (width,), "attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width),
            "mlp.c_proj": (width, 4 * width),
        }  # fmt: skip
        for name, shape in block.items():
            found |= {f"{prefix}.{name}.weight": shape, f"{prefix}.{name}.bias": shape[:1]}
        found |= {f"{prefix}.attn.in_proj_weight": (3 * width, width), f"{prefix}.attn.in_proj_bias": (3 * width,)}
    return found
