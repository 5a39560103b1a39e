"""Weights and inputs of the golden outputs, from numpy seeds alone, so that only outputs need storing.

Every parameter is away from its initial value: norms, biases and bias tables too. Fresh ones hide swapped norms.
"""

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClinicCLIP, ClipSpec
from clinicclip.models.swin import SwinSpec

TEXT = BertSpec(vocab_size=50, width=48, depth=3, heads=4, mlp_width=96, max_positions=24)
SIZES = {
    # maps of 16, 8 and 4 tokens: shifted windows twice, then one window over all
    "small": ClipSpec(SwinSpec(64, 4, 4, 24, (2, 2, 2), (2, 4, 8)), TEXT, dim=16),
    # maps of 14, 7 and 4 tokens: windows and merging need padding
    "padded": ClipSpec(SwinSpec(56, 4, 4, 24, (2, 2, 2), (2, 4, 8)), TEXT, dim=16),
    "full": ClipSpec(SwinSpec(), BertSpec(), dim=512),
}
# The registered Swins with fewer blocks: still a shifted window in one stage, and every width and number of heads.
SWINS = {
    "tiny": ClipSpec(SwinSpec(depths=(2, 1, 1, 1)), TEXT, dim=16),
    "small": ClipSpec(SwinSpec(depths=(1, 1, 3, 1)), TEXT, dim=16),
    "base": ClipSpec(SwinSpec(embed_dim=128, depths=(1, 1, 2, 1), heads=(4, 8, 16, 32)), TEXT, dim=16),
    "base_384": ClipSpec(
        SwinSpec(384, window_size=12, embed_dim=128, depths=(1, 1, 2, 1), heads=(4, 8, 16, 32)), TEXT, dim=16
    ),
}
WINDOWS = ((7, 12), (12, 7), (4, 6), (7, 8))  # of tables that are resized
LENGTHS = (11, 4, 17)  # tokens of the golden texts


def weights(spec, seed=0):
    """Parameter tree of the model, every leaf perturbed."""
    rng = np.random.default_rng(seed)
    shapes = flatten_dict(jax.eval_shape(ClinicCLIP(spec).init, jax.random.key(0))["params"], sep="/")
    flat = {}
    for path, leaf in sorted(shapes.items()):
        noise = rng.standard_normal(leaf.shape, np.float32)
        name = path.rsplit("/", 1)[-1]
        if name == "kernel":
            flat[path] = noise * np.float32(0.8 / np.sqrt(np.prod(leaf.shape[:-1])))
        else:
            flat[path] = np.float32(name == "scale") + np.float32(0.2) * noise
    return unflatten_dict(flat, sep="/")


def table(window, heads=3):
    """A relative-position table, float32 [(2 window - 1)^2, heads]."""
    return np.random.default_rng(window).standard_normal(((2 * window - 1) ** 2, heads)).astype(np.float32)


def images(spec, count=2):
    """Normalised images, float32 [count, s, s, 3]."""
    size = spec.image.image_size
    return np.random.default_rng(1).standard_normal((count, size, size, 3)).astype(np.float32)


def texts(spec):
    """Token id lists of LENGTHS, without padding id."""
    rng = np.random.default_rng(2)
    return [rng.integers(1, spec.text.vocab_size, n).tolist() for n in LENGTHS]
