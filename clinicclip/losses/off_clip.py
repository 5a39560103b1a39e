r"""OFF-CLIP: normal studies are alike, abnormal ones are each their own.

    z_ij = s cos(v_i, t_j) + b,    Y_ij = 1 if i = j or both studies are normal, else 0
    L_off = sum_ij softplus(z_ij) - Y_ij z_ij,    plus InfoNCE over abnormal rows and columns only

A study of which it is not known whether it is normal is neither.
Source: OFF-CLIP (arXiv:2503.01794), target as in its overview figure; the reduction is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clinicclip.losses.inputs import LossSpec, Studies
from clinicclip.losses.rows import Mean, contrast, mean


def off_diagonal(
    logits: Float[Array, "b n"], target: Bool[Array, "b n"], columns: Bool[Array, " n"]
) -> Float[Array, " b"]:
    """Each row's sum over valid columns of the sigmoid cross entropy of the biased logits, in nats."""
    pairs = jax.nn.softplus(logits) - jnp.where(target, logits, 0.0)
    return jnp.sum(jnp.where(columns[None, :], pairs, 0.0), axis=1)


def parts(
    rows: Studies,
    columns: Studies,
    logits: tuple[Float[Array, "b n"], Float[Array, "b n"]],
    bias: Float[Array, ""],
    same: Bool[Array, "b n"],
    spec: LossSpec,
) -> dict[str, Mean]:
    """The two terms from the (image-to-text, text-to-image) logits without bias."""
    image_text, text_image = logits
    means = {}
    if spec.off:
        target = same | (rows.kinds["normal"][:, None] & columns.kinds["normal"][None, :])
        values = off_diagonal(image_text + bias, target, columns.valid)
        if spec.off_reduction == "pairs":
            values = values / jnp.maximum(jnp.sum(columns.valid), 1)
        means["loss/off"] = mean(values, rows.valid)
    if spec.abnormal:
        abnormal = columns.kinds["abnormal"]
        own = (same & abnormal[None, :]).astype(jnp.float32)
        means["loss/abnormal"] = mean(contrast(image_text, text_image, own, abnormal), rows.kinds["abnormal"])
    return means
