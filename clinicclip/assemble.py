"""From a configuration to the parts of a run: model, optimiser, loss, and what a batch holds.

The only code that reads configuration keys, besides `dataset` and the programs themselves.
"""

from pathlib import Path

import jax
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from clinicclip import bounds, importing, starting
from clinicclip.data.augment import AugmentSpec
from clinicclip.data.draws import TrainSpec
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError, within
from clinicclip.evals import suites
from clinicclip.losses import LossSpec, require_block
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec
from clinicclip.training import optim
from clinicclip.training.sharding import LAYOUTS

FEATURES = ("tower", "tfidf")


def check(config: ConfigDict) -> None:
    """Refuses settings that no data could make possible, before anything is opened or written. Raises UserError."""
    bounds.require(config)
    if config.model.layout not in LAYOUTS:
        raise UserError(f"model.layout={config.model.layout!r}: expected one of {', '.join(LAYOUTS)}")
    if config.checkpoint_best and not config.evaluate_every:
        raise UserError(f"checkpoint_best={config.checkpoint_best}: set evaluate_every, or nothing is ever scored")
    with within("evals.suites"):
        suites.check_names(config.evals.suites)
    with within("evals.findings"):
        suites.check_names((), config.evals.findings)
    apart = ", ".join(name for name in config.evals.suites if name in suites.CHOOSING)
    if apart:
        raise UserError(
            f"evals.suites: {apart} would need other splits: run clinicclip.evaluate --suite on the run instead"
        )
    require_block(loss_spec(config), config.batch_size, jax.device_count())
    train_spec(config)


def resolve(config: ConfigDict, *, studies: int, tokenizer: Tokenizer) -> None:
    """Writes what depends on data and weights into the configuration: widths, vocabulary, number of steps.

    Raises:
        UserError: the training split is smaller than a batch, or a key has an impossible value.
    """
    resolve_widths(config, tokenizer.vocab_size)
    if tokenizer.vocab_size != config.model.text.vocab_size:
        raise UserError(
            f"{starting.text_place(config)}: its vocabulary has {tokenizer.vocab_size} pieces, its text tower "
            f"{config.model.text.vocab_size} rows; give the tokenizer the weights were trained with"
        )
    if config.batch_size > studies:
        raise UserError(f"batch_size={config.batch_size}: the training split holds only {studies} studies")
    if not config.total_steps:
        config.total_steps = config.epochs * (studies // config.batch_size)
    if config.total_steps < 1:
        raise UserError("nothing to train: set total_steps or epochs above 0")
    model_spec(config)
    optimizer(config)
    alpha_schedule(config)


def resolve_widths(config: ConfigDict, vocab_size: int) -> None:
    """Writes the widths of the starting weights, or the vocabulary of a tower from scratch, into the configuration.

    Where the weights are not on this machine, the widths written in the configuration stand for them.

    Raises:
        UserError: the weights are unusable; model.features is unknown, or needs weights that none are named for.
    """
    starting.resolve_sizes(config)
    if not starting.text_place(config):
        config.model.text.vocab_size = vocab_size
    _resolve_features(config)


def _resolve_features(config: ConfigDict) -> None:
    features = config.model.features
    if features not in FEATURES and not Path(features).is_dir():
        raise UserError(f"model.features={features!r}: one of {', '.join(FEATURES)}, or the folder of a BERT")
    if features == "tfidf" or not uses_features(config):
        return
    if features == "tower":
        if not starting.text_place(config):
            raise UserError(
                'model.features="tower" needs model.text.init or model.init; use "tfidf" for a text tower from scratch'
            )
        config.model.feature_dim = config.model.text.width
    else:
        config.model.feature_dim = importing.load_text_tower(features, pooling="mean")[0].width


def model_spec(config: ConfigDict) -> ClipSpec:
    """The architecture a resolved configuration describes."""
    model, loss = config.model, config.loss
    image = {k: v for k, v in model.image.items() if k != "init"}
    text = {k: v for k, v in model.text.items() if k not in ("init", "frozen")}
    with_graph = loss.graph or loss.graph_stream
    with within("model.image"):
        image_spec = SwinSpec(**image)
    with within("model.text"):
        text_spec = BertSpec(**text)
    return ClipSpec(
        image=image_spec,
        text=text_spec,
        graph=GcnSpec(feature_width=model.feature_dim, **model.graph) if with_graph else None,
        dim=model.dim,
        dtype=model.dtype,
        remat=model.remat,
        text_frozen=model.text.frozen,
    )


def initial_params(config: ConfigDict) -> PyTree:
    """Fresh parameters, with those of the starting weights put in place."""
    return starting.initial_params(config, model_spec(config))


def frozen_paths(config: ConfigDict) -> tuple[str, ...]:
    """Parameters that are not trained."""
    paths = ("text",) if config.model.text.frozen else ()
    return paths if config.model.learn_temperature else (*paths, "logit_scale", "logit_bias")


def optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """AdamW with the configured schedule."""
    return optim.make_optimizer(
        total_steps=config.total_steps,
        lr=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        warmup_fraction=config.optim.warmup,
        clip_norm=config.optim.clip_norm,
        frozen=frozen_paths(config),
    )


def loss_spec(config: ConfigDict) -> LossSpec:
    """The loss a configuration describes."""
    return LossSpec(**{k: v for k, v in config.loss.items() if k != "alpha_warmup"})


def alpha_schedule(config: ConfigDict) -> optax.Schedule | None:
    """Step -> alpha, or None when alpha is the same throughout."""
    if not config.loss.alpha_warmup:
        return None
    return optim.soft_share(config.total_steps, config.loss.alpha, config.loss.alpha_warmup)


def train_spec(config: ConfigDict) -> TrainSpec:
    """What a training batch holds."""
    data, loss = config.data, config.loss
    return TrainSpec(
        image_size=config.model.image.image_size,
        text_length=data.text_length,
        augment=AugmentSpec(data.crop_area, data.rotation, data.brightness, data.contrast),
        text_mode=data.text_mode,
        label_sentences=data.label_sentences,
        max_sentences=data.max_sentences,
        sentence_filter=data.sentence_filter,
        uncertain=data.uncertain,
        text_features=loss.text > 0 and not loss.live_text,
        negation=loss.negation > 0,
        claims=loss.entailment > 0,
        negation_generator=data.negation_generator,
        graph=loss.graph > 0 or loss.graph_stream > 0,
        graph_nodes=data.graph_nodes,
        graph_edges=data.graph_edges,
        row_step=data.row_step,
    )


def uses_features(config: ConfigDict) -> bool:
    """Whether anything is compared by frozen features."""
    spec = train_spec(config)
    return spec.text_features or spec.graph
