"""Arithmetic of a training step by formula: floating-point operations of its matrix products, by part."""

from clinicclip.losses import LossSpec
from clinicclip.models import flops
from clinicclip.models.clip import ClipSpec
from clinicclip.training.abstract import Sizes

BACKWARD = 2  # a product's gradient is two products of its size


def step_flops(model: ClipSpec, loss: LossSpec, batch: Sizes, *, recomputed: bool) -> dict[str, int]:
    """Operations of the whole batch by part; ``recomputed``: microbatches run the towers' forward pass twice.

    ``model.remat`` runs the layers of the image and text tower once more.
    """
    studies = batch["image"].shape[0]
    passes = 1 + BACKWARD + recomputed
    layered = passes + model.remat
    kinds = 2 if loss.negation else 1
    rows, length = batch["text_ids"].shape if "text_ids" in batch else (0, 0)  # none of a frozen tower's known states
    text = flops.text(model.text, rows, length, kinds * studies) if rows else 0
    projected = 2 * studies * model.dim * passes
    parts = {
        "image tower": studies * flops.image(model.image) * layered + projected * model.image.out_width,
        "text tower": text * (1 if model.text_frozen else layered) + projected * model.text.width * kinds,
    }
    if model.graph is not None:
        nodes = batch["graph_nodes"].shape[1]
        parts["graph tower"] = studies * flops.graph(model.graph, nodes) * passes + projected * model.graph.width
    return parts | {"loss": _loss(model, loss, batch)}


def _loss(model: ClipSpec, loss: LossSpec, batch: Sizes) -> int:
    """All rows against all columns: logits with gradient, likenesses without; what a form computes again is not in."""
    learnt = 2 + 4 * (loss.graph > 0) + (loss.negation > 0 and loss.neg_scope == "all")
    widths = {"text": model.dim, "clinical": batch["labels"].shape[1], "graph": model.dim}
    if "text_feature" in batch and not loss.live_text:
        widths["text"] = batch["text_feature"].shape[1]
    compared = sum(widths[stream] for stream in loss.streams)
    return 2 * batch["image"].shape[0] ** 2 * (learnt * model.dim * (1 + BACKWARD) + compared)
