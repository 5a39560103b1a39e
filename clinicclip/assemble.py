"""From a configuration to the parts of a run: data, tokenizer, frozen features, model, optimiser, loss.

The only code that reads configuration keys, besides the programs themselves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from clinicclip import annotate, bounds, frozen, importing, starting
from clinicclip.data import builder, draws
from clinicclip.data.augment import AugmentSpec
from clinicclip.data.draws import TrainSpec
from clinicclip.data.features import FeatureTable
from clinicclip.data.pipeline import Source
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError
from clinicclip.evals import suites
from clinicclip.exporting import Origin
from clinicclip.losses import LossSpec, require_block
from clinicclip.models.bert import BertSpec
from clinicclip.models.clip import ClipSpec
from clinicclip.models.gcn import GcnSpec
from clinicclip.models.swin import SwinSpec
from clinicclip.training import optim
from clinicclip.training.sharding import LAYOUTS

FEATURES = ("tower", "tfidf")
DEMO = "add :demo to the config to train on synthetic data without any download"
VOCABULARY_PATIENTS = 20  # a word of restricted reports must occur for so many to enter a vocabulary


def require_data(config: ConfigDict) -> dict[str, Any]:
    """The manifest of the prepared data; the phantom world is generated when it is not there yet.

    Raises:
        UserError: no prepared data, naming the commands that would make some.
    """
    data = config.data
    folder = Path(data.dir)
    if (folder / "manifest.json").is_file():
        manifest = builder.read_manifest(folder)
        _require_named_data(config, manifest)
        return manifest
    if data.name == "phantom":
        options = {k: v for k, v in data.phantom.items() if k != "seed"}
        return builder.write("phantom", folder, options=options, seed=data.phantom.seed, workers=data.threads)
    ways = f"name a prepared folder with --data_dir, or {DEMO}"
    command = f"python -m clinicclip.prepare {data.name} --source=DIR --output={folder}"
    raise UserError(f"no prepared data in {folder}: run `{command}`, {ways}")


def _require_named_data(config: ConfigDict, manifest: Mapping[str, Any]) -> None:
    """Refuses data under another name, whose results would be told as those of the one asked for."""
    data = config.data
    if manifest["name"] != data.name:
        raise UserError(f"{data.dir} holds {manifest['name']} data, not {data.name}: use data={manifest['name']}")
    if data.name == "phantom":
        made = {key: manifest["settings"][key] for key in data.phantom}
        if made != data.phantom.to_dict():
            flags = " ".join(f"--config.data.phantom.{key}={value}" for key, value in made.items())
            raise UserError(f"{data.dir} holds another phantom world: use {flags}, or another --data_dir")


def check(config: ConfigDict) -> None:
    """Refuses settings that no data could make possible, before anything is opened or written. Raises UserError."""
    bounds.require(config)
    if config.model.layout not in LAYOUTS:
        raise UserError(f"model.layout={config.model.layout!r}: expected one of {', '.join(LAYOUTS)}")
    if config.checkpoint_best and not config.evaluate_every:
        raise UserError(f"checkpoint_best={config.checkpoint_best}: set evaluate_every, or nothing is ever scored")
    suites.check_names(config.evals.suites, config.evals.findings)
    require_block(loss_spec(config), config.batch_size, jax.device_count())
    train_spec(config)


def origin(config: ConfigDict, manifest: Mapping[str, Any], name: str) -> Origin:
    """What the run called ``name`` learns from, for its export's card. Raises UserError for an unknown split."""
    roles = {"training": config.data.train, "validation": config.data.validation, "test": config.data.test}
    counts = {role: len(builder.open_source(config.data.dir, split)) for role, split in roles.items()}
    return Origin(
        name=name,
        data=manifest["name"],
        data_title=manifest["title"],
        data_licence=manifest["licence"],
        data_citation=manifest["citation"],
        data_open=manifest["open"],
        phantom=manifest["name"] == "phantom",
        steps=config.total_steps,
        studies=counts,
        vocabulary_public=True,  # a vocabulary of restricted reports is filtered by `make_tokenizer`
    )


def make_tokenizer(config: ConfigDict, source: Source, manifest: dict[str, Any]) -> Tokenizer:
    """The text tower's own tokenizer, or a WordPiece vocabulary of the training reports for a tower from scratch.

    A vocabulary of reports that are not open keeps only words of many patients, so that it can be exported.
    """
    if place := starting.text_place(config):
        return Tokenizer.load(importing.folder_of(importing.locate(place)))
    texts, patients = [], []
    for record in map(source.__getitem__, range(len(source))):
        texts += [draws.report_text(record), record["negated"]]
        patients += [record["patient"]] * 2
    if manifest["open"]:
        return train_wordpiece(texts, config.data.vocab_size)
    return train_wordpiece(texts, config.data.vocab_size, patients=patients, min_patients=VOCABULARY_PATIENTS)


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
    if features == "tfidf" or not _uses_features(config):
        return
    if features == "tower":
        if not starting.text_place(config):
            raise UserError(
                'model.features="tower" needs model.text.init or model.init; use "tfidf" for a text tower from scratch'
            )
        config.model.feature_dim = config.model.text.width
    else:
        config.model.feature_dim = importing.load_text_tower(features, pooling="mean")[0].width


def frozen_features(
    config: ConfigDict, manifest: Mapping[str, Any], source: Source, workdir: Path
) -> FeatureTable | None:
    """Vectors of what the run compares by frozen features: reports or their sentences, and nodes of report graphs.

    Those stored beside the data are used when they are of this data and this model; else they are computed into
    ``workdir``, with the TF-IDF model fitted for them. Raises UserError when graphs are wanted and none is there.
    """
    spec = train_spec(config)
    if not _uses_features(config):
        return None
    if spec.graph and not any(len(source[i]["graph_spans"]) for i in range(len(source))):
        raise UserError(
            f"{config.data.dir}: no training record has a report graph, which loss.graph and loss.graph_stream need; "
            "choose a variant without g, or set both to 0.0"
        )
    facts = _feature_facts(config, manifest)
    stored = annotate.find(Path(config.data.dir), facts)
    if stored is not None:
        return stored
    model: frozen.FrozenModel
    if config.model.features == "tfidf":
        fitted = annotate.fit_tfidf(source, config.model.feature_dim, config.seed)
        fitted.save(workdir / "tfidf")
        model = frozen.Tfidf(fitted)
    else:
        model = frozen.Tower(_feature_folder(config))
    wanted = ("nodes",) * spec.graph
    if spec.text_features:
        wanted += ("reports",) if spec.whole_reports else ("sentences",)
    return annotate.make(workdir / annotate.FOLDER, source, model, facts, wanted)


def stored_features(config: ConfigDict, manifest: Mapping[str, Any], workdir: Path) -> FeatureTable | None:
    """The vectors a run began with. Raises UserError when they are gone."""
    if not _uses_features(config):
        return None
    if (workdir / annotate.FOLDER).is_dir():
        return FeatureTable.load(workdir / annotate.FOLDER)
    stored = annotate.find(Path(config.data.dir), _feature_facts(config, manifest))
    if stored is None:
        raise UserError(
            f"{config.data.dir}/{annotate.FOLDER}: the frozen features this run began with are gone; make them again "
            "with `clinicclip.prepare ... --features`"
        )
    return stored


def _feature_facts(config: ConfigDict, manifest: Mapping[str, Any]) -> dict[str, Any]:
    if config.model.features == "tfidf":
        return annotate.tfidf_facts(manifest, config.data.train, config.model.feature_dim, config.seed)
    return annotate.tower_facts(manifest, _feature_folder(config))


def _feature_folder(config: ConfigDict) -> str:
    """The place of the model that frozen features come from."""
    return str(
        importing.locate(starting.text_place(config)) if config.model.features == "tower" else config.model.features
    )


def model_spec(config: ConfigDict) -> ClipSpec:
    """The architecture a resolved configuration describes."""
    model, loss = config.model, config.loss
    image = {k: v for k, v in model.image.items() if k != "init"}
    text = {k: v for k, v in model.text.items() if k not in ("init", "frozen")}
    with_graph = loss.graph or loss.graph_stream
    return ClipSpec(
        image=SwinSpec(**image),
        text=BertSpec(**text),
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


def _uses_features(config: ConfigDict) -> bool:
    spec = train_spec(config)
    return spec.text_features or spec.graph
