"""The export folder: written whole or not at all, and read back."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import clinicclip
from clinicclip import files, terms
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError, within
from clinicclip.exporting import contract, parity
from clinicclip.exporting.card import card, public
from clinicclip.exporting.dialects import WEIGHTS, config_files, dialects, require_agreement
from clinicclip.exporting.meta import FORMAT, META, Meta
from clinicclip.exporting.origin import Origin
from clinicclip.models import convert, shards, tensor_file
from clinicclip.models.clip import ClipSpec
from clinicclip.models.torch_names import TRANSFORMERS

EXTRA, CARD = "extra.safetensors", "README.md"


class Export(NamedTuple):
    """An export as read back; `tokenizer` is the folder to load the tokenizer from."""

    params: convert.Params
    tokenizer: Path
    meta: Meta

    @property
    def spec(self) -> ClipSpec:
        """The architecture."""
        return self.meta.spec


def write_export(
    output: Path | str,
    *,
    spec: ClipSpec,
    params: Mapping[str, Any],
    tokenizer: Tokenizer,
    text_length: int,
    config: Mapping[str, Any],
    origin: Origin,
    results: Sequence[Mapping[str, Any]] = (),
    trained: terms.Terms | None = None,
    dtype: str = "float32",
    hub: str = "",
    shard_bytes: int = shards.LIMIT,
) -> dict[str, Any] | None:
    """Write a model as a folder that transformers and open_clip load without us.

    `results` are records with metric, value, ci_low, ci_high, n, data, split. `trained` is what the weights say they
    were trained to be given, by default what they are given. `dtype` is that of the stored weights;
    what is measured and read back is the model so rounded. `hub` is the id under which it will be published, "" for
    none: open_clip then finds the text tower's configuration there. Files for transformers above `shard_bytes` are
    split.
    Returns the measured parity, None where no PyTorch library that reads the folder is installed. An earlier export
    in `output` is replaced; on any failure nothing changes.
    Raises UserError when no dialect can say the model, or `output` holds something else.
    """
    output = Path(output)
    allowed = dialects(spec)
    require_agreement(spec, tokenizer, text_length)
    if not origin.vocabulary_public:
        raise UserError(
            f"export: the vocabulary was trained on restricted reports of {origin.data} and may hold names; "
            "train with a published tokenizer or the patient filter"
        )
    params = convert.rounded(params, dtype)
    with _replacing(output) as draft:
        sample = parity.sample(spec, params, tokenizer, text_length)
        agreed = contract.metadata(trained or contract.given(spec, tokenizer, text_length), parity.packed(sample))
        _write_weights(draft, spec, params, allowed, dtype, shard_bytes, agreed)
        tokenizer.save(draft, text_length)
        scale = float(params["logit_scale"])
        configs = config_files(spec, text_length=text_length, logit_scale=scale, dtype=dtype, hub=hub)
        for name, content in configs.items():
            _write_json(draft / name, content)
        measured = parity.measure(draft, sample)
        if measured:
            _write_json(draft / parity.REPORT, measured)
        text = card(
            spec,
            origin,
            dialects=allowed,
            text_length=text_length,
            config=config,
            results=results,
            parity=measured,
            dtype=dtype,
            hub=hub,
        )
        (draft / CARD).write_text(text, encoding="utf-8")
        meta = _meta(draft, spec, text_length, config, origin, allowed, hub)
        _write_json(draft / META, dataclasses.asdict(meta))
    return measured


def load_export(folder: Path | str, *, force: bool = False) -> Export:
    """Read an export back, graph tower and logit bias included.

    Raises UserError when the folder is no export, is damaged, was written by a newer version or, unless `force`, says
    that images or texts are prepared otherwise than in training (`contract`).
    """
    folder = Path(folder)
    meta = Meta.read(folder)
    with within(folder / META):
        dialect = dialects(meta.spec)[0]
    weights, extra = (_read_whole(folder, name, meta.files) for name in (WEIGHTS[dialect], EXTRA))
    trained, given = settings(folder, meta, WEIGHTS[dialect])
    terms.require(folder, trained, *given, force=force)
    sources = {"source": str(folder / WEIGHTS[dialect]), "extra_source": str(folder / EXTRA)}
    params = convert.from_torch(weights, extra, meta.spec, dialect, **sources)
    return Export(params, folder, meta)


def settings(folder: Path, meta: Meta, weights: str) -> tuple[tuple[terms.Terms], list[terms.Terms]]:
    """What the weights of an export say of their training; what we, and others by their files, give them."""
    trained = contract.read(shards.parts(folder / weights)[0])
    return (trained,), [contract.given(meta.spec, Tokenizer.load(folder), meta.text_length), *terms.beside(folder)]


def _read_whole(folder: Path, name: str, digests: Mapping[str, str]) -> shards.Tensors:
    for path in shards.parts(folder / name):
        _require_same(path, digests.get(path.name))
    return shards.read(folder / name)


def whole(folder: Path, meta: Meta) -> list[str]:
    """The names of an export's files. Raises UserError unless all are there and, but for the card, unchanged."""
    for name, digest in meta.files.items():
        if name != CARD:  # which its owner may complete
            _require_same(folder / name, digest)
    if not (folder / CARD).is_file():
        raise UserError(f"{folder / CARD}: no such file; an export has a card: restore it or export again")
    return [META, CARD, *(name for name in meta.files if name != CARD)]


def _require_same(path: Path, digest: str | None) -> None:
    if not path.is_file() or _sha256(path) != digest:
        raise UserError(f"{path}: absent or changed since the export was written; export or copy again")


def is_export(folder: Path) -> bool:
    """Whether a folder was written by `write_export`."""
    return (folder / META).is_file()


def _write_weights(
    folder: Path,
    spec: ClipSpec,
    params: Mapping[str, Any],
    allowed: Sequence[str],
    dtype: str,
    limit: int,
    metadata: Mapping[str, str],
) -> None:
    for dialect in allowed:
        tensors = {k: convert.in_dtype(t, dtype) for k, t in convert.to_torch(params, spec, dialect).items()}
        if dialect == TRANSFORMERS:
            shards.write(folder / WEIGHTS[dialect], tensors, metadata=metadata, limit=limit)
        else:  # open_clip reads a single file only
            tensor_file.write(folder / WEIGHTS[dialect], tensors, metadata=metadata)
    beside = {key: said for key, said in metadata.items() if key != contract.TENSORS}
    tensor_file.write(folder / EXTRA, convert.extras(params, spec), metadata=beside)


def _meta(
    folder: Path,
    spec: ClipSpec,
    text_length: int,
    config: Mapping[str, Any],
    origin: Origin,
    allowed: tuple[str, ...],
    hub: str,
) -> Meta:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Meta(
        format=FORMAT,
        clinicclip=clinicclip.__version__,
        dialects=allowed,
        spec=spec,
        text_length=text_length,
        hub=hub,
        origin=origin,
        config=public(config),
        files={path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    )


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A draft folder that takes the place of `output` when the block ends well, else vanishes."""
    if output.is_dir() and any(output.iterdir()) and not is_export(output):
        raise UserError(f"{output}: holds files that are no export; choose another --output or empty it")
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: is a file; --output must be a folder")
    if output.exists() and (output.is_mount() or output.resolve() == Path.cwd()):
        raise UserError(f"{output}: is a mount or where this runs, and cannot be replaced; name a folder in it")
    if is_export(output):
        _require_own(output)
    output = output.resolve()
    files.make_folder(output.parent)
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as fault:
        raise UserError(f"{output}: nothing can be written there ({fault.strerror}); choose another --output") from None
    try:
        draft = work / "new"
        draft.mkdir(mode=0o755)
        yield draft
        if output.exists():
            output.rename(work / "old")
        draft.rename(output)
    finally:
        if (work / "old").exists() and not output.exists():
            (work / "old").rename(output)
        shutil.rmtree(work)


def _require_own(output: Path) -> None:
    """Raises UserError when an export holds files that it was not written with, which would be lost with it."""
    written = {META, *Meta.read(output).files}
    held = sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    if strangers := [name for name in held if name not in written]:
        first = f"{strangers[0]}, {len(strangers)} in all"
        raise UserError(f"{output}: holds files beside an export ({first}); move them, or choose another --output")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
