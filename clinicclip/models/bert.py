"""BERT text tower (Devlin et al., arXiv:1810.04805) that reads several packed texts a row."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from clinicclip.errors import UserError
from clinicclip.models.layers import Dense, LayerNorm, Mlp, dropout, softmax
from clinicclip.models.sizes import POOLINGS, require_shares, require_sizes

# Finite, so that a row of padding only gets uniform weights instead of NaN.
MASKED = -1e30


@dataclass(frozen=True)
class BertSpec:
    """Shape of a BERT tower; the defaults are Bio_ClinicalBERT's. Raises UserError on sizes that disagree."""

    vocab_size: int = 28996
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_positions: int = 512
    type_vocab_size: int = 2
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    pad_id: int = 0
    pooling: str = "pooler"

    def __post_init__(self) -> None:
        """Check the sizes against each other."""
        if self.pooling not in POOLINGS:
            raise UserError(f"bert: pooling '{self.pooling}' must be one of {', '.join(POOLINGS)}")
        names = ("vocab_size", "width", "heads", "mlp_width", "max_positions", "type_vocab_size")
        require_sizes("bert", depths=(self.depth,), **{name: getattr(self, name) for name in names})
        require_shares("bert", dropout=self.dropout, layer_norm_eps=self.layer_norm_eps)
        if not 0 <= self.pad_id < self.vocab_size:
            raise UserError(f"bert: pad_id is {self.pad_id}, expected one of {self.vocab_size} pieces")
        if self.width % self.heads:
            raise UserError(f"bert: width {self.width} must be a multiple of {self.heads} heads")


def same_text(owner: Int[Array, "r l"]) -> Bool[Array, "r 1 l l"]:
    """Return which (query, key) pairs of a row belong to the same text; padding (owner 0) belongs to none."""
    return ((owner[:, :, None] == owner[:, None, :]) & (owner[:, None, :] > 0))[:, None]


class Embeddings(nn.Module):
    """Sum of word, position and (first) token type embeddings, normalised."""

    spec: BertSpec
    dtype: str

    @nn.compact
    def __call__(
        self, ids: Int[Array, "r l"], position: Int[Array, "r l"], drawn: Int[Array, " r"] | None
    ) -> Float[Array, "r l w"]:
        """Return the input of the first layer."""
        spec = self.spec
        word = nn.Embed(spec.vocab_size, spec.width, name="word_embeddings")(ids)
        place = nn.Embed(spec.max_positions, spec.width, name="position_embeddings")
        kind = nn.Embed(spec.type_vocab_size, spec.width, name="token_type_embeddings")
        x = word + place(position) + kind.embedding[0][None, None]
        x = LayerNorm(spec.layer_norm_eps, self.dtype, name="norm")(x)
        return dropout(self, x, spec.dropout, drawn)


class Attention(nn.Module):
    """Multi-head attention among the tokens of one text, with residual and norm."""

    spec: BertSpec
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "r l w"], visible: Bool[Array, "r 1 l l"], drawn: Int[Array, " r"] | None
    ) -> Float[Array, "r l w"]:
        """Return norm(x + attention(x))."""
        spec, w = self.spec, self.spec.width
        heads = (*x.shape[:2], spec.heads, w // spec.heads)
        q, k, v = (Dense(w, self.dtype, name=name)(x).reshape(heads) for name in ("query", "key", "value"))
        scores = jnp.einsum("rqhd,rkhd->rhqk", q * (w // spec.heads) ** -0.5, k)
        weights = softmax(jnp.where(visible, scores.astype(jnp.float32), MASKED), self.dtype)
        weights = dropout(self, weights, spec.dropout, drawn)
        out = jnp.einsum("rhqk,rkhd->rqhd", weights, v).reshape(x.shape)
        out = dropout(self, Dense(w, self.dtype, name="output")(out), spec.dropout, drawn)
        return LayerNorm(spec.layer_norm_eps, self.dtype, name="norm")(x + out)


class Layer(nn.Module):
    """One post-norm transformer layer."""

    spec: BertSpec
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "r l w"], visible: Bool[Array, "r 1 l l"], drawn: Int[Array, " r"] | None
    ) -> Float[Array, "r l w"]:
        """Return the layer's output."""
        x = Attention(self.spec, self.dtype, name="attention")(x, visible, drawn)
        y = dropout(self, Mlp(self.spec.mlp_width, self.dtype, name="mlp")(x), self.spec.dropout, drawn)
        return LayerNorm(self.spec.layer_norm_eps, self.dtype, name="mlp_norm")(x + y)


class Bert(nn.Module):
    """The text tower."""

    spec: BertSpec
    dtype: str = "float32"
    remat: bool = False

    def setup(self) -> None:
        """Name the parts as the converter knows them."""
        layer = nn.remat(Layer) if self.remat else Layer
        self.embeddings = Embeddings(self.spec, self.dtype)
        self.layers = [layer(self.spec, self.dtype, name=f"layer_{i}") for i in range(self.spec.depth)]
        if self.spec.pooling == "pooler":
            self.pooler = Dense(self.spec.width, self.dtype)

    def __call__(
        self,
        ids: Int[Array, "r l"],
        owner: Int[Array, "r l"],
        position: Int[Array, "r l"],
        drawn: Int[Array, " r"] | None = None,
    ) -> Float[Array, "r l w"]:
        """Return hidden states; a token attends only to tokens of its row with the same non-zero owner.

        In training, `drawn` holds a number for each row, from which dropout is drawn; None = none.

        Raises UserError when a row is longer than the position table.
        """
        if ids.shape[1] > self.spec.max_positions:
            raise UserError(f"bert: rows of {ids.shape[1]} tokens, the model knows {self.spec.max_positions} positions")
        visible = same_text(owner)
        x = self.embeddings(ids, position, drawn)
        for layer in self.layers:
            x = layer(x, visible, drawn)
        return x

    def pool(
        self, hidden: Float[Array, "r l w"], owner: Int[Array, "r l"], start: Int[Array, " b"], groups: int
    ) -> Float[Array, "b w"]:
        """Return one vector a text, float32; `start` indexes the tokens of the text's group of rows.

        Rows and texts are split evenly over groups, and no gather leaves its group, so that a batch
        sharded over groups is pooled without communication.
        """
        hidden = hidden.reshape(groups, -1, hidden.shape[-1])
        start = start.reshape(groups, -1)
        if self.spec.pooling == "mean":
            text = jnp.arange(1, start.shape[1] + 1)[None, :, None]
            own = (owner.reshape(groups, 1, -1) == text).astype(jnp.float32)
            total = jnp.einsum("gnt,gtw->gnw", own, hidden.astype(jnp.float32))
            pooled = total / jnp.maximum(own.sum(axis=-1, keepdims=True), 1.0)
        else:
            pooled = jnp.take_along_axis(hidden, start[:, :, None], axis=1)
        if self.spec.pooling == "pooler":
            pooled = jnp.tanh(self.pooler(pooled))
        return pooled.reshape(-1, pooled.shape[-1]).astype(jnp.float32)
