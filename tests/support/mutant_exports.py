"""How exports of this package come to be damaged or hostile, in whichever of their files."""

import math
from functools import partial

from mutants import DAMAGED, FILE, META, WEIGHTS, Mutation, arrays, at, metadata, put, sealed, stated

SPEC = {
    "image": (
        *(("depths", value) for value in
          ("ab", [10**7, 1], [[1], [1]], [-1, 1], [0, 1], [1.5, 1], [], [1, 1, 1], [True, 1], [1] * 5000, None, {})),
        ("heads", [0, 4]), ("heads", [3, 4]), ("heads", [2, 10**30]), ("patch_size", 0), ("patch_size", 5),
        ("window_size", 10**9), ("image_size", "32"), ("embed_dim", 2**40), ("embed_dim", 16), ("mlp_ratio", math.inf),
        ("mlp_ratio", 10**400),
        ("mlp_ratio", "4"), ("mlp_ratio", -4.0), ("drop_path", math.nan), ("drop_path", ...), ("stages", 2),
    ),
    "text": (
        ("depth", 10**7), ("depth", 2), ("heads", 5), ("heads", 0), ("layer_norm_eps", math.nan), ("pooling", "max"),
        ("pooling", "mean"), ("pooling", ["pooler"]), ("pad_id", -1), ("pad_id", 10**6), ("dropout", 2.0),
        ("width", ...), ("vocab_size", 10**12), ("max_positions", 39),
    ),
    "graph": (("hidden", 7), ("hidden", None), ("feature_width", 10**9)),
}  # fmt: skip
FACTS = (
    *((f"spec.{tower}.{key}", value) for tower, facts in SPEC.items() for key, value in facts),
    *(("spec", value) for value in ([], None, {}, "swin")),
    ("spec.image", []), ("spec.text", None), ("spec.graph", []), ("spec.graph", None), ("spec.dim", 0),
    ("spec.dim", 11), ("spec.dtype", "int8"), ("spec.remat", 1), ("spec.towers", 3),
    *((key, ...) for key in ("format", "clinicclip", "dialects", "spec", "text_length", "origin", "config", "files")),
    ("hub", ...), ("hub", 7), ("hub", None),
    *(("format", value) for value in (2, "1", None, [1])),
    *(("text_length", value) for value in (0, 2, 30, 41, 10**9, "40", True, None, 40.5)),
    ("origin", []), ("origin", None), ("origin.owner", "me"), ("origin.name", 7), ("origin.steps", -1),
    ("origin.steps", "3"), ("origin.phantom", "yes"), ("origin.studies", []), ("origin.studies", {"training": "many"}),
    ("origin.data", ...), ("files", []), ("files", {}), ("files", {FILE: 7}), ("clinicclip", 1), ("dialects", "both"),
    ("dialects", [7]), ("weights", {}), ("config", []), ("config", "text"), ("config", {"data": 5}),
    ("config", {"data": {"name": "x"}}), ("config", {"imported": 7}), ("config", {"imported": [7]}),
    ("config", {"model": []}), ("config", {"model": {"init": 7}}), ("config", {"model": {"image": "swin"}}),
)  # fmt: skip
# File, key, value: what other files of the folder say of the model, besides.
SAID = (
    ("config.json", "vision_config.depths", "ab"), ("config.json", "vision_config.depths", [1, 2]),
    ("config.json", "vision_config.image_size", 64), ("config.json", "text_config", []),
    ("config.json", "text_config.num_hidden_layers", 10**9), ("config.json", "text_config.vocab_size", 7),
    ("config.json", "text_config.num_attention_heads", 4), ("config.json", "vision_config.hidden_act", "relu"),
    ("preprocessor_config.json", "size", "big"), ("preprocessor_config.json", "size", 64),
    ("preprocessor_config.json", "image_mean", "abc"), ("preprocessor_config.json", "image_std", None),
    ("preprocessor_config.json", "resample", 2), ("preprocessor_config.json", "do_center_crop", True),
    ("preprocessor_config.json", "do_resize", False), ("preprocessor_config.json", "do_rescale", False),
    ("tokenizer.json", "model", 1), ("tokenizer.json", "model.vocab", []), ("tokenizer.json", "normalizer", None),
)  # fmt: skip
TEXTS = (META, "config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
EXTRA = {
    "lacks a layer": lambda t, k: t.pop("graph/conv_0/kernel"),
    "has a stranger": lambda t, k: t.update({"graph/conv_2/kernel": t["graph/conv_0/kernel"]}),
    "has a kernel transposed": lambda t, k: t.update({"graph/conv_0/kernel": t["graph/conv_0/kernel"].T.copy()}),
    "has a bias of whole numbers": lambda t, k: t.update({"logit_bias": t["logit_bias"].astype("int32")}),
}
TOLD = {
    "terms are a number": lambda said: said.update(clinicclip="7"),
    "terms are a list": lambda said: said.update(clinicclip="[]"),
    "terms are deep": lambda said: said.update(clinicclip="[" * 100_000),
    "terms are none": lambda said: said.update(clinicclip="{}"),
    "terms are not there": lambda said: said.pop("clinicclip"),
    "nothing is said": lambda said: said.clear(),
}
TERMS = (
    ("image_size", 64), ("image_size", ...), ("mean", "gray"), ("mean", [0.5, 0.5, 0.5]), ("std", None), ("scale", 1),
    ("resize", "shortest"), ("interpolation", "bilinear"), ("tokenizer", "0" * 64), ("text_length", 41),
    ("pooling", "mean"), ("pooling", ["pooler"]), ("crop", 0.9),
)  # fmt: skip

# Of what is done to any file of weights, what an export may meet in another place of the code.
SEALED = ("truncated to 0.5", "an array", "shape", "dtype", "an index", f"a pickle as {FILE}", "a shard called '..")

# Damage that the folder's own digests show, and, sealed, damage that they do not.
EXPORTS: dict[str, Mutation] = {
    **{f"{key} {str(value)[:40]}": partial(at, META, key, value) for key, value in FACTS},
    **{f"{name}: {key} {value}": partial(at, name, key, value) for name, key, value in SAID},
    **{f"{name} is {what}": partial(put, name, content) for name in TEXTS for what, content in DAMAGED.items()},
    **{f"{n}, unsealed": WEIGHTS[n] for n in ("truncated to 0.5", "an array transposed", "a picture for weights")},
    **{n: partial(sealed, change) for n, change in WEIGHTS.items() if n.startswith(SEALED)},
    **{f"extra {n}": partial(sealed, partial(arrays, change, name="extra.safetensors")) for n, change in EXTRA.items()},
    **{n: partial(sealed, partial(metadata, change)) for n, change in TOLD.items()},
    **{f"trained with {term} {value}": partial(sealed, partial(stated, term, value)) for term, value in TERMS},
}
