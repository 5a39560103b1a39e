"""The settings of a whole run that takes seconds, over those of the demo."""

STEPS = 6
TINY = {
    "total_steps": STEPS,
    "batch_size": 16,
    "log_every": 1,
    "checkpoint_every": 4,
    "evals.draws": 20,
    "data.text_length": 64,
    "data.vocab_size": 300,
    "data.row_step": 64,
    "data.phantom.studies": 160,
    "model.dim": 32,
    "model.feature_dim": 16,
    "model.image.embed_dim": 16,
    "model.image.depths": "(1,1)",
    "model.image.heads": "(1,2)",
    "model.text.width": 32,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "model.text.mlp_width": 64,
    "model.text.max_positions": 64,
    "model.graph.hidden": 16,
    "model.graph.width": 16,
}
