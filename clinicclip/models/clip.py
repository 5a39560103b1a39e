"""ClinicCLIP: image, text and graph towers with one linear projection each into a common unit sphere."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from clinicclip.errors import UserError
from clinicclip.models.bert import Bert, BertSpec
from clinicclip.models.gcn import ENTITY_TYPES, Gcn, GcnSpec
from clinicclip.models.swin import Swin, SwinSpec

# ImageNet statistics, what Swin weights were trained with.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
INITIAL = {"scale": 1.0, "bias": 0.0, "logit_scale": math.log(10.0), "logit_bias": -10.0}
TABLE_STD = 0.02
DTYPES = ("float32", "bfloat16", "float16")
TINY = 1e-24  # squared length below which a row counts as zero


@dataclass(frozen=True)
class ClipSpec:
    """The whole model: one spec a tower (no graph tower when None), embedding width and compute settings."""

    image: SwinSpec
    text: BertSpec
    graph: GcnSpec | None = None
    dim: int = 512
    dtype: str = "float32"
    remat: bool = False
    text_frozen: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes and types that no model can have."""
        if self.dim < 1:
            raise UserError(f"model.dim={self.dim}: expected 1 or more")
        if self.dtype not in DTYPES:
            raise UserError(f"model.dtype={self.dtype!r}: one of {', '.join(DTYPES)}")


def pooled_by(pooling: str, spec: ClipSpec, params: Mapping[str, Any]) -> tuple[ClipSpec, dict[str, Any]]:
    """The same model with its texts pooled in one of `POOLINGS`; "" as they are.

    Raises UserError for another word, and for the pooler where there is none.
    """
    if pooling in ("", spec.text.pooling):
        return spec, dict(params)
    pooled = dataclasses.replace(spec, text=dataclasses.replace(spec.text, pooling=pooling))
    if pooling == "pooler":
        raise UserError(f"pools its texts by {spec.text.pooling!r} and holds no pooler; leave its pooling as it is")
    return pooled, {**params, "text": {name: part for name, part in params["text"].items() if name != "pooler"}}


def normalize_images(images: UInt8[Array, "b s s"]) -> Float[Array, "b s s 3"]:
    """Return grey images 0..255 as three equal channels, standardised with IMAGE_MEAN and IMAGE_STD."""
    mean, std = (jnp.asarray(c, jnp.float32)[None, None, None] for c in (IMAGE_MEAN, IMAGE_STD))
    return (images[..., None].astype(jnp.float32) / 255.0 - mean) / std


def unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Return rows scaled to length 1 in float32; a zero row is left as it is, so its gradient is finite."""
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square > TINY, square, 1.0))


class ClinicCLIP(nn.Module):
    """The towers with their projections; every method returns unit float32 rows [b, dim]."""

    spec: ClipSpec

    def setup(self) -> None:
        """Name the parts as the converter knows them."""
        spec = self.spec
        self.image = Swin(spec.image, spec.dtype, spec.remat)
        self.text = Bert(spec.text, spec.dtype, spec.remat)
        self.image_projection = nn.Dense(spec.dim, use_bias=False)
        self.text_projection = nn.Dense(spec.dim, use_bias=False)
        if spec.graph is not None:
            self.graph = Gcn(spec.graph)
            self.graph_projection = nn.Dense(spec.dim, use_bias=False)
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(INITIAL["logit_scale"]), ())
        self.logit_bias = self.param("logit_bias", nn.initializers.constant(INITIAL["logit_bias"]), ())

    def embed_image(
        self, images: Float[Array, "b s s 3"], drawn: Int[Array, " b"] | None = None
    ) -> Float[Array, "b d"]:
        """Return embeddings of normalised images; in training `drawn` numbers them for stochastic depth."""
        pooled, _ = self.image(images, drawn)
        return unit(self.image_projection(pooled))

    def embed_patches(self, images: Float[Array, "b s s 3"]) -> tuple[Float[Array, "b d"], Float[Array, "b h w d"]]:
        """As `embed_image`, and unit embeddings of the last stage's patches, whose mean, projected, is the image's."""
        pooled, tokens = self.image(images)
        flat = unit(self.image_projection(tokens).reshape(-1, self.spec.dim))
        return unit(self.image_projection(pooled)), flat.reshape(*tokens.shape[:3], self.spec.dim)

    def embed_text(
        self,
        ids: Int[Array, "r l"],
        owner: Int[Array, "r l"],
        position: Int[Array, "r l"],
        start: Int[Array, " b"],
        groups: int = 1,
        drawn: Int[Array, " r"] | None = None,
    ) -> Float[Array, "b d"]:
        """Return embeddings of packed texts; in training `drawn` numbers the rows for dropout.

        A frozen tower runs without dropout and gets no gradient.
        """
        frozen = self.spec.text_frozen
        hidden = self.text(ids, owner, position, None if frozen else drawn)
        pooled = self.text.pool(hidden, owner, start, groups)
        return self.embed_state(jax.lax.stop_gradient(pooled) if frozen else pooled)

    def embed_state(self, pooled: Float[Array, "b w"]) -> Float[Array, "b d"]:
        """Return embeddings of texts whose pooled states are known, as those of a frozen tower are."""
        return unit(self.text_projection(pooled))

    def embed_graph(
        self,
        nodes: Float[Array, "b v f"],
        senders: Int[Array, "b e"],
        receivers: Int[Array, "b e"],
        mask: Bool[Array, "b v"],
    ) -> Float[Array, "b d"]:
        """Return embeddings of padded report graphs."""
        return unit(self.graph_projection(self.graph(nodes, senders, receivers, mask)))

    def __call__(self) -> None:
        """Touch every parameter on the smallest inputs, for initialisation."""
        size, one = self.spec.image.image_size, jnp.ones((1, 1), jnp.int32)
        self.embed_image(jnp.zeros((1, size, size, 3), jnp.float32))
        self.embed_text(one, one, one * 0, one[0] * 0)
        if self.spec.graph is not None:
            nodes = jnp.zeros((1, 1, self.spec.graph.feature_width + ENTITY_TYPES), jnp.float32)
            self.embed_graph(nodes, one * 0, one * 0, one > 0)


def init_params(spec: ClipSpec, seed: int) -> PyTree:
    """Return fresh float32 parameters: N(0, 1 / fan in) maps, N(0, 0.02^2) embeddings and tables, zero biases.

    Scaling by the fan in keeps the signal in towers of any width: with 0.02 throughout, the published start of
    BERT and Swin, narrow towers learn far more slowly. The values are drawn and left on the host: compiling a
    generator for every array takes longer than drawing them all, and a model that is split need not fit a device.
    """
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(ClinicCLIP(spec).init, jax.random.key(0))["params"]
    return traverse_util.path_aware_map(lambda path, leaf: _initial(tuple(map(str, path)), leaf.shape, rng), shapes)


def _initial(path: tuple[str, ...], shape: tuple[int, ...], rng: np.random.Generator) -> Float[np.ndarray, "..."]:
    """Return the first value of one parameter."""
    if path[-1] in INITIAL:
        return np.full(shape, INITIAL[path[-1]], np.float32)
    std = math.prod(shape[:-1]) ** -0.5 if path[-1] == "kernel" else TABLE_STD
    return rng.standard_normal(shape, np.float32) * np.float32(std)
