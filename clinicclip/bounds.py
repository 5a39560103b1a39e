"""What the numbers of a configuration may be, whatever the data."""

import math

from ml_collections import ConfigDict

from clinicclip import config as config_files
from clinicclip.errors import UserError

LEAST = {
    "seed": 0,
    "total_steps": 0,
    "epochs": 0,
    "batch_size": 1,
    "microbatch": 0,
    "log_every": 0,
    "checkpoint_every": 0,
    "checkpoint_keep": 1,
    "watchdog": 0,
    "heartbeat_timeout": 1,
    "evaluate_every": 0,
    "data.text_length": 3,
    "data.max_sentences": 0,
    "data.row_step": 1,
    "data.vocab_size": 1,
    "data.graph_nodes": 2,
    "data.graph_edges": 1,
    "data.workers": 0,
    "data.threads": 1,
    "data.memory_bytes": 0,
    "data.max_corrupt": 0,
    "model.dim": 1,
    "model.feature_dim": 1,
    "model.graph.hidden": 1,
    "model.graph.width": 1,
    "model.image.image_size": 1,
    "model.image.patch_size": 1,
    "model.image.window_size": 1,
    "model.image.embed_dim": 1,
    "model.image.mlp_ratio": 0.1,
    "model.image.drop_path": 0,
    "model.text.vocab_size": 1,
    "model.text.width": 1,
    "model.text.depth": 1,
    "model.text.heads": 1,
    "model.text.mlp_width": 1,
    "model.text.max_positions": 1,
    "model.text.type_vocab_size": 1,
    "model.text.dropout": 0,
    "model.text.layer_norm_eps": 0,
    "loss.alpha_warmup": 0,
    "optim.learning_rate": 0,
    "optim.weight_decay": 0,
    "optim.warmup": 0,
    "optim.clip_norm": 0,
    "evals.seed": 0,
    "evals.draws": 0,
    "evals.limit": 0,
}
MOST = dict.fromkeys(("model.image.drop_path", "model.text.dropout", "loss.alpha_warmup", "optim.warmup"), 1)


def require(config: ConfigDict) -> None:
    """Raises UserError for the first number that is out of its bounds, or not finite."""
    for key, value in config_files.leaves(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value}: expected a finite number")
        if key in LEAST and value < LEAST[key]:
            raise UserError(f"{key}={value}: expected {LEAST[key]} or more")
        if key in MOST and value > MOST[key]:
            raise UserError(f"{key}={value}: expected {MOST[key]} or less")
