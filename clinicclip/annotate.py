"""Frozen features of prepared data: computed once, stored beside the shards, used by every run that asks for them.

DIR/features/NAME holds them; NAME says by a hash which model made them of which data, so what does not match is
never met. A killed computation goes on where it stopped.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clinicclip import files, frozen
from clinicclip.data import builder, draws, label_sentences, records
from clinicclip.data import features as tables
from clinicclip.data.features import FeatureTable, TfidfSvd
from clinicclip.data.schema import Graph, Record
from clinicclip.data.sources import Source
from clinicclip.errors import UserError

FOLDER = "features"
STREAMS = ("reports", "sentences", "nodes")
DRAWN = ("reports", "negated", "labels")  # whatever text a step may show of whole reports
RECORDS_PER_PART = 1024
FORM = 1  # of what is computed; another number and nothing stored before matches


def data_digest(manifest: Mapping[str, Any]) -> str:
    """Twelve hex digits over the checksums of all stored records: a run goes on only with the data it began with."""
    return hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()[:12]


def tower_facts(manifest: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """What decides the features a model folder gives. Raises UserError when there is no such folder."""
    if not Path(folder).is_dir():
        raise UserError(f"frozen features: no folder {folder}; give a BERT in the transformers layout, or tfidf")
    model = {"kind": "tower", "digest": frozen.folder_digest(Path(folder))}
    return {"model": model, "data": data_digest(manifest), "form": FORM}


def tfidf_facts(manifest: Mapping[str, Any], split: str, dim: int, seed: int) -> dict[str, Any]:
    """What decides the features of TF-IDF fitted on a split."""
    model = {"kind": "tfidf", "fitted_on": split, "dim": dim, "seed": seed}
    return {"model": model, "data": data_digest(manifest), "form": FORM}


def states_facts(manifest: Mapping[str, Any], split: str, place: Path, pooling: str, length: int) -> dict[str, Any]:
    """What decides the pooled states of a split's texts."""
    model = {"kind": "states", "digest": frozen.folder_digest(place), "pooling": pooling, "length": length}
    made = hashlib.sha256("\n".join(label_sentences.every()).encode()).hexdigest()[:12]
    return {"model": model, "data": data_digest(manifest), "split": split, "labels": made, "form": FORM}


def place(data_dir: Path, facts: Mapping[str, Any]) -> Path:
    """Where the features that ``facts`` describe are stored beside the data, if they are."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return data_dir / FOLDER / f"{facts['model']['kind']}-{digest}"


def find(data_dir: Path, facts: Mapping[str, Any]) -> FeatureTable | None:
    """The stored features that ``facts`` describe; None when there are none, or unfinished ones."""
    folder = place(data_dir, facts)
    return FeatureTable.load(folder) if (folder / tables.FINISHED).is_file() else None


def store(
    data_dir: Path, manifest: Mapping[str, Any], features: str, *, train: str = "train", dim: int = 128, seed: int = 0
) -> Path:
    """Computes features of prepared data, all their streams, beside the shards; finished ones stay.

    Args:
      data_dir: the prepared folder.
      manifest: of it.
      features: ``tfidf``, fitted on the split ``train``, or the folder of a BERT, which describes every split.
      train: the training split of the runs to come, as their config names it.
      dim: width of ``tfidf``.
      seed: of its SVD.

    Raises:
      UserError: no such model folder or split.
    """
    if features == "tfidf":
        if train.split("+")[0].split("[")[0] not in manifest["splits"]:
            raise UserError(
                f"tfidf is fitted on training records alone, and {data_dir} has no split {train!r}: name the runs' "
                f"data.train with --train, such as {'+'.join(list(manifest['splits'])[1:4])}"
            )
        facts, split = tfidf_facts(manifest, train, dim, seed), train
    else:
        facts, split = tower_facts(manifest, features), "+".join(manifest["splits"])
    if find(data_dir, facts) is None:
        source = builder.open_source(data_dir, split)
        model = frozen.Tfidf(fit_tfidf(source, dim, seed)) if features == "tfidf" else frozen.Tower(features)
        make(place(data_dir, facts), source, model, facts)
    return place(data_dir, facts)


def fit_tfidf(source: Source, dim: int, seed: int) -> TfidfSvd:
    """TF-IDF fitted on the reports of a source. Raises UserError when they hold no words."""
    return TfidfSvd.fit([draws.report_text(record) for record in _all(source)], dim, seed)


def make(
    folder: Path,
    source: Source,
    model: frozen.FrozenModel,
    facts: Mapping[str, Any],
    streams: tuple[str, ...] = STREAMS,
) -> FeatureTable:
    """The features of what ``streams`` names in a source's records, stored in ``folder`` part by part.

    Finished parts of an earlier, killed call are kept. Every string is computed once.
    """
    begun = {"facts": dict(facts), "streams": list(streams), "records": len(source)}
    _begin(folder, begun)
    seen: set[int] = set()
    parts = range(0, len(source), RECORDS_PER_PART)
    with tqdm(total=len(source), desc="frozen features", unit=" records", disable=None) as bar:
        for number, first in enumerate(parts):
            path = folder / tables.part_name(number)
            rows = range(first, min(first + RECORDS_PER_PART, len(source)))
            if not path.is_file():
                _write_part(path, [source[i] for i in rows], model, streams, seen)
            seen.update(files.map_tensors(path)["keys"].tolist())
            bar.update(len(rows))
    tables.finish(folder, len(parts), in_context=model.in_context, facts=begun)
    return FeatureTable.load(folder)


def _begin(folder: Path, begun: Mapping[str, Any]) -> None:
    """Makes the folder; one begun for something else is emptied."""
    note = folder / "begun.json"
    if not note.is_file() or json.loads(note.read_text()) != begun:
        shutil.rmtree(folder, ignore_errors=True)
        files.make_folder(folder)
        files.write_whole(note, json.dumps(begun) + "\n")


def _write_part(
    path: Path, found: list[Record], model: frozen.FrozenModel, streams: tuple[str, ...], seen: set[int]
) -> None:
    """Computes and stores what is new in some records."""
    texts: list[str] = []
    if "reports" in streams:
        texts += [draws.report_text(record) for record in found]
    if "sentences" in streams:
        texts += itertools.chain.from_iterable(record["sentences"] for record in found)
    if "negated" in streams:
        texts += [record["negated"] for record in found]
    if "labels" in streams:
        texts += ["", *label_sentences.every()]  # "" stands for a record that cannot be read
    texts = _new(texts, seen)
    graphs = _new_graphs(found, model.in_context, seen) if "nodes" in streams else []
    keys = [key for graph in graphs for key in tables.node_keys(graph, in_context=model.in_context)]
    tables.write_part(path, texts + keys, np.concatenate([model.texts(texts), model.spans(graphs)]))


def _new(texts: list[str], seen: set[int]) -> list[str]:
    """The distinct texts not yet computed, in order."""
    distinct = list(dict.fromkeys(texts))
    return [text for text, key in zip(distinct, tables.digests(distinct).tolist(), strict=True) if key not in seen]


def _new_graphs(found: list[Record], in_context: bool, seen: set[int]) -> list[Graph]:
    """Graphs with a node not yet computed; equal graphs once."""
    chosen: dict[Graph, None] = {}
    for record in found:
        graph = records.stored_graph(record)
        keys = tables.digests(tables.node_keys(graph, in_context=in_context)).tolist()
        if any(key not in seen for key in keys):
            chosen.setdefault(graph)
    return list(chosen)


def _all(source: Source) -> Iterator[Record]:
    return map(source.__getitem__, range(len(source)))
