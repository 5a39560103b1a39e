"""The prepared data that a configuration names, and what a run fits on them: tokenizer and frozen features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from clinicclip import annotate, assemble, frozen, importing, starting
from clinicclip.data import builder, draws
from clinicclip.data.features import FeatureTable
from clinicclip.data.sources import Source
from clinicclip.data.tokenizer import Tokenizer, train_wordpiece
from clinicclip.errors import UserError, within
from clinicclip.exporting import Origin

DEMO = "add :demo to the config to train on synthetic data without any download"
VOCABULARY_PATIENTS = 20  # a word of restricted reports must occur for so many to enter a vocabulary


def require_data(config: ConfigDict) -> dict[str, Any]:
    """The manifest of the prepared data; the phantom world is generated when it is not there yet.

    Raises:
        UserError: no prepared data, naming the commands that would make some.
    """
    if manifest := prepared(config):
        return manifest
    phantom = config.data.phantom
    options = {k: v for k, v in phantom.items() if k != "seed"}
    folder, workers = Path(config.data.dir), config.data.threads
    return builder.write("phantom", folder, options=options, seed=phantom.seed, workers=workers)


def prepared(config: ConfigDict) -> dict[str, Any] | None:
    """The manifest of the prepared data that are there; None for the phantom world not yet generated.

    Raises:
        UserError: as `require_data`.
    """
    data = config.data
    folder = Path(data.dir)
    if (folder / "manifest.json").is_file():
        manifest = builder.read_manifest(folder)
        _require_named_data(config, manifest)
        return manifest
    if data.name == "phantom":
        return None
    ways = f"name a prepared folder with --data_dir, or {DEMO}"
    command = f"python -m clinicclip.prepare {data.name} --source=DIR --output={folder}"
    raise UserError(f"no prepared data in {folder}: run `{command}`, {ways}")


def _require_named_data(config: ConfigDict, manifest: Mapping[str, Any]) -> None:
    """Refuses data under another name, whose results would be told as those of the one asked for."""
    data = config.data
    if manifest["name"] != data.name:
        raise UserError(f"data.name={data.name}: {data.dir} holds {manifest['name']} data: use data={manifest['name']}")
    if data.name == "phantom":
        made = {key: manifest["settings"][key] for key in data.phantom}
        if made != data.phantom.to_dict():
            flags = " ".join(f"--config.data.phantom.{key}={value}" for key, value in made.items())
            raise UserError(f"{data.dir} holds another phantom world: use {flags}, or another --data_dir")


def split_of(config: ConfigDict, role: str) -> builder.Source:
    """The records of a split by what it is for: train, validation or test. Raises UserError for an unknown one."""
    split = config.data[role]
    with within(f"data.{role}={split}"):
        return builder.open_source(config.data.dir, split)


def origin(config: ConfigDict, manifest: Mapping[str, Any], name: str) -> Origin:
    """What the run called ``name`` learns from, for its export's card. Raises UserError for an unknown split."""
    roles = {"training": "train", "validation": "validation", "test": "test"}
    counts = {role: len(split_of(config, key)) for role, key in roles.items()}
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


def frozen_features(
    config: ConfigDict, manifest: Mapping[str, Any], source: Source, workdir: Path
) -> FeatureTable | None:
    """Vectors of what the run compares by frozen features: reports or their sentences, and nodes of report graphs.

    Those stored beside the data are used when they are of this data and this model; else they are computed into
    ``workdir``, with the TF-IDF model fitted for them. Raises UserError when graphs are wanted and none is there.
    """
    spec = assemble.train_spec(config)
    if not assemble.uses_features(config):
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
    if not assemble.uses_features(config):
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
