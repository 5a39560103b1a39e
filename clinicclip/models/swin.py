"""Swin image tower (Liu et al., arXiv:2103.14030), numerically the Swin of timm and of transformers."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from clinicclip.errors import UserError
from clinicclip.models.layers import Dense, LayerNorm, Mlp, drop_path, softmax
from clinicclip.models.sizes import require_shares, require_sizes

EPSILON = 1e-5
MOST_RATIO = 1024
MASKED = -100.0


@dataclass(frozen=True)
class SwinSpec:
    """Shape of a Swin tower; the defaults are Swin-T. Raises UserError on sizes that do not fit together."""

    image_size: int = 224
    patch_size: int = 4
    window_size: int = 7
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    mlp_ratio: float = 4.0
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        """Check the sizes against each other once, so that no layer has to."""
        if len(self.depths) != len(self.heads):
            raise UserError(f"swin: {len(self.depths)} depths and {len(self.heads)} heads must be as many")
        sizes = {name: getattr(self, name) for name in ("image_size", "patch_size", "window_size", "embed_dim")}
        sizes |= {"stages": len(self.depths), "heads": self.heads, "out_width": self.out_width}
        require_sizes("swin", depths=self.depths, **sizes)
        require_shares("swin", drop_path=self.drop_path)
        if not 0 < self.mlp_ratio <= MOST_RATIO:
            raise UserError(f"swin: mlp_ratio is {self.mlp_ratio}, expected more than 0, and {MOST_RATIO} at most")
        if self.image_size % self.patch_size:
            raise UserError(f"swin: image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        for stage, heads in enumerate(self.heads):
            if self.width(stage) % heads:
                raise UserError(f"swin: stage {stage} is {self.width(stage)} wide, not a multiple of {heads} heads")
            if self.side(stage) < self.window_size:
                raise UserError(
                    f"swin: stage {stage} has {self.side(stage)} tokens a side, less than window_size "
                    f"{self.window_size}: use larger images, a smaller window or fewer stages"
                )

    def width(self, stage: int) -> int:
        """Return the channels of a stage."""
        return self.embed_dim * 2**stage

    def side(self, stage: int) -> int:
        """Return the tokens along one side of a stage's square map."""
        side = self.image_size // self.patch_size
        for _ in range(stage):
            side = -(-side // 2)
        return side

    def padded_side(self, stage: int) -> int:
        """Return a stage's side rounded up to whole windows."""
        return -(-self.side(stage) // self.window_size) * self.window_size

    def shift(self, stage: int, block: int) -> int:
        """Return the window shift of a block: half a window on odd blocks if there are several windows."""
        return self.window_size // 2 if block % 2 and self.side(stage) > self.window_size else 0

    def drop_path_rate(self, stage: int, block: int) -> float:
        """Return the stochastic-depth rate of a block, linear in depth from 0 to `drop_path`."""
        return self.drop_path * (sum(self.depths[:stage]) + block) / max(sum(self.depths) - 1, 1)

    @property
    def out_width(self) -> int:
        """Return the width of the pooled features."""
        return self.width(len(self.depths) - 1)


def relative_position_index(window: int) -> Int[np.ndarray, "n n"]:
    """Return for each (query, key) token of a window the row of its relative position in the bias table."""
    y, x = np.divmod(np.arange(window * window), window)
    span = 2 * window - 1
    return (y[:, None] - y[None, :] + window - 1) * span + (x[:, None] - x[None, :] + window - 1)


def shift_mask(side: int, window: int, shift: int) -> Float[np.ndarray, "windows n n"]:
    """Return the score offsets of a shifted map: MASKED where only the shift made tokens neighbours."""
    axis = np.arange(side)
    band = (axis >= side - window).astype(np.int32) + (axis >= side - shift)
    map_of_regions = (band[:, None] * 3 + band[None, :]).reshape(side // window, window, side // window, window)
    regions = map_of_regions.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return np.where(regions[:, :, None] == regions[:, None, :], 0.0, MASKED).astype(np.float32)


def to_windows(x: Float[Array, "b side side c"], window: int, shift: int) -> Float[Array, "b windows n c"]:
    """Return the tokens of a map, cyclically shifted up and left by `shift`, grouped by window."""
    b, side, _, c = x.shape
    if shift:
        x = jnp.roll(x, (-shift, -shift), axis=(1, 2))
    x = x.reshape(b, side // window, window, side // window, window, c).swapaxes(2, 3)
    return x.reshape(b, (side // window) ** 2, window * window, c)


def from_windows(x: Float[Array, "b windows n c"], side: int, shift: int) -> Float[Array, "b side side c"]:
    """Return the map whose `to_windows` is x."""
    b, windows, n, c = x.shape
    across, window = round(windows**0.5), round(n**0.5)
    x = x.reshape(b, across, across, window, window, c).swapaxes(2, 3).reshape(b, side, side, c)
    return jnp.roll(x, (shift, shift), axis=(1, 2)) if shift else x


def patch_products(
    images: Float[Array, "b h w 3"], kernel: Float[Array, "p p 3 c"], *_: object, **__: object
) -> Float[Array, "b i j c"]:
    """Return a convolution with strides as wide as its kernel, as one product of patches and kernel.

    XLA's CPU compiler transposes images in memory for the gradient of a convolution.
    """
    (b, h, w, channels), p = images.shape, kernel.shape[0]
    patches = images.reshape(b, h // p, p, w // p, p, channels).swapaxes(2, 3).reshape(-1, p * p * channels)
    return (patches @ kernel.reshape(-1, kernel.shape[-1])).reshape(b, h // p, w // p, -1)


class PatchEmbed(nn.Module):
    """Non-overlapping patch convolution and its norm."""

    spec: SwinSpec
    dtype: str

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b side side c"]:
        """Return patch tokens as a map."""
        patch = (self.spec.patch_size, self.spec.patch_size)
        proj = nn.Conv(
            self.spec.embed_dim,
            patch,
            patch,
            padding="VALID",
            dtype=self.dtype,
            conv_general_dilated=patch_products,
            name="proj",
        )
        return LayerNorm(EPSILON, self.dtype, name="norm")(proj(images))


class Downsample(nn.Module):
    """Patch merging: 2x2 neighbours side by side (column-outer), norm, linear map to twice the width."""

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "b side side c"]) -> Float[Array, "b half half c2"]:
        """Return the map at half the resolution; an odd side is padded with zeros at its end."""
        odd = x.shape[1] % 2
        x = jnp.pad(x, ((0, 0), (0, odd), (0, odd), (0, 0))) if odd else x
        b, side, _, c = x.shape
        # Column-in-pair outside row-in-pair: published weights were trained in this order.
        x = x.reshape(b, side // 2, 2, side // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(b, side // 2, side // 2, 4 * c)
        x = LayerNorm(EPSILON, self.dtype, name="norm")(x)
        return Dense(2 * c, self.dtype, use_bias=False, name="reduction")(x)


class WindowAttention(nn.Module):
    """Multi-head attention inside each window with a learnt relative position bias."""

    heads: int
    window: int
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "b windows n c"], offset: Float[np.ndarray, "windows n n"] | None
    ) -> Float[Array, "b windows n c"]:
        """Return attended tokens; `offset` is added to the scores of every head."""
        b, windows, n, c = x.shape
        size = ((2 * self.window - 1) ** 2, self.heads)
        table = self.param("relative_position_bias_table", nn.initializers.zeros, size, jnp.float32)
        bias = table[relative_position_index(self.window)].transpose(2, 0, 1)[None]
        if offset is not None:
            bias = bias + offset[:, None]
        qkv = Dense(3 * c, self.dtype, name="qkv")(x).reshape(b, windows, n, 3, self.heads, c // self.heads)
        q, k, v = qkv[:, :, :, 0], qkv[:, :, :, 1], qkv[:, :, :, 2]
        scores = jnp.einsum("bwqhd,bwkhd->bwhqk", q * (c // self.heads) ** -0.5, k)
        weights = softmax(scores + bias[None].astype(scores.dtype), self.dtype)
        out = jnp.einsum("bwhqk,bwkhd->bwqhd", weights, v).reshape(b, windows, n, c)
        return Dense(c, self.dtype, name="proj")(out)


class Block(nn.Module):
    """One pre-norm Swin block on tokens already grouped by (shifted) window."""

    spec: SwinSpec
    stage: int
    index: int
    dtype: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b windows n c"],
        real: Float[Array, "1 windows n 1"] | None,
        drawn: Int[Array, " b"] | None,
    ) -> Float[Array, "b windows n c"]:
        """Return the block's output; `real` is 0 at padding tokens, which attention must see as zeros."""
        spec, window = self.spec, self.spec.window_size
        shift, rate = spec.shift(self.stage, self.index), spec.drop_path_rate(self.stage, self.index)
        offset = shift_mask(spec.padded_side(self.stage), window, shift) if shift else None
        y = LayerNorm(EPSILON, self.dtype, name="norm1")(x)
        y = y if real is None else y * real.astype(self.dtype)
        y = WindowAttention(spec.heads[self.stage], window, self.dtype, name="attn")(y, offset)
        x = x + drop_path(self, y, rate, drawn)
        y = LayerNorm(EPSILON, self.dtype, name="norm2")(x)
        y = Mlp(int(x.shape[-1] * spec.mlp_ratio), self.dtype, name="mlp")(y)
        return x + drop_path(self, y, rate, drawn)


class Stage(nn.Module):
    """Optional patch merging, then blocks; tokens stay grouped by window until the shift changes."""

    spec: SwinSpec
    stage: int
    dtype: str
    remat: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b i i c"], drawn: Int[Array, " b"] | None) -> Float[Array, "b o o d"]:
        """Return the stage's output map."""
        spec, stage, window = self.spec, self.stage, self.spec.window_size
        if stage:
            x = Downsample(self.dtype, name="downsample")(x)
        side, padded = spec.side(stage), spec.padded_side(stage)
        end = ((0, 0), (0, padded - side), (0, padded - side), (0, 0))
        real = jnp.pad(jnp.ones((1, side, side, 1)), end)
        block = nn.remat(Block) if self.remat else Block
        x, held = to_windows(jnp.pad(x, end), window, 0), 0
        for index in range(spec.depths[stage]):
            shift = spec.shift(stage, index)
            if shift != held:
                x, held = to_windows(from_windows(x, padded, held), window, shift), shift
            cover = to_windows(real, window, shift) if padded > side else None
            x = block(spec, stage, index, self.dtype, name=f"block_{index}")(x, cover, drawn)
        return from_windows(x, padded, held)[:, :side, :side]


class Swin(nn.Module):
    """The image tower: patch embedding, stages, final norm, mean over tokens."""

    spec: SwinSpec
    dtype: str = "float32"
    remat: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], drawn: Int[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b c"], Float[Array, "b side side c"]]:
        """Return pooled features and the final token map, float32.

        In training, `drawn` holds a number for each image, from which stochastic depth is drawn; None = none.

        Raises UserError when the images are not `image_size` square.
        """
        size = self.spec.image_size
        if images.shape[1:3] != (size, size):
            raise UserError(
                f"swin: images of {images.shape[1]}x{images.shape[2]} pixels, the model expects {size}x{size}"
            )
        x = PatchEmbed(self.spec, self.dtype, name="patch_embed")(images.astype(self.dtype))
        for stage in range(len(self.spec.depths)):
            x = Stage(self.spec, stage, self.dtype, self.remat, name=f"stage_{stage}")(x, drawn)
        tokens = LayerNorm(EPSILON, "float32", name="norm")(x)
        return tokens.mean(axis=(1, 2)), tokens
