"""A trained model in use: images and texts in, unit embeddings and scores out, whatever it was loaded from."""

import copy
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import Float, UInt8, UInt64

import clinicclip
from clinicclip import assemble, files, guests, importing
from clinicclip import config as config_files
from clinicclip.data import images as pictures
from clinicclip.data import patients
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.evals import prompts
from clinicclip.evals.truth import SQUASH
from clinicclip.exporting import Origin, is_export, load_export, write_export
from clinicclip.models import clip
from clinicclip.towers import Towers
from clinicclip.training import checkpoint as checkpoints

ORIGIN = "origin.json"  # in a run's folder
IMPORTED = "imported"  # in the configuration of a model that others wrote: how its arrays were read
Vector = Float[np.ndarray, " d"]


class ClinicCLIP:
    """Image and text towers with parameters and tokenizer.

    Attributes:
        spec: the architecture.
        params: numpy or jax parameters by path.
        tokenizer, text_length: how texts become at most ``text_length`` tokens.
        config: the run's resolved configuration as a plain dict.
        origin: what it learned from, as an export's card tells it.
        source: what it was loaded from, for reports.
        trained_on: digests of the patients it learnt from (`data.patients`); empty where they are not known.
        square, says: how images are brought to size, and words for it.

    ``devices`` share the work; default: all of this process.
    """

    def __init__(
        self,
        *,
        spec: clip.ClipSpec,
        params: Mapping[str, Any],
        tokenizer: Tokenizer,
        text_length: int,
        config: Mapping[str, Any],
        origin: Origin,
        source: str,
        trained_on: UInt64[np.ndarray, " n"] | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self.spec = spec
        self.params = params
        self.tokenizer = tokenizer
        self.text_length = text_length
        self.config = dict(config)
        self.origin = origin
        self.source = source
        self.trained_on = np.empty(0, np.uint64) if trained_on is None else trained_on
        self._towers = Towers(spec, devices)

    square = staticmethod(pictures.resize)
    says = SQUASH.says

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        return self.spec.image.image_size

    def embed_images(self, images: UInt8[np.ndarray, "n s s"] | Sequence[pictures.Source]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of images: JPEG, PNG or DICOM files (paths or bytes), gray arrays [h, w], or ready squares.

        Files and single arrays are squashed to ``image_size``; an array [n, s, s] must have that size. Raises
        `data.images.ImageFault`, a UserError, for the first image that cannot be used; see ``stream_images``.
        """
        if isinstance(images, np.ndarray):
            return self._over(self._towers.images, images)
        vectors = []
        for row in self.stream_images(images):
            if isinstance(row, pictures.ImageFault):
                raise row
            vectors.append(row)
        return np.stack(vectors) if vectors else np.zeros((0, self.spec.dim), np.float32)

    def embed_patches(self, images: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n h w d"]:
        """Unit embeddings of the patches of ready squares, row by row (`models.clip.ClinicCLIP.embed_patches`)."""
        side = self.spec.image.side(len(self.spec.image.depths) - 1)
        return self._over(self._towers.patches, images).reshape(len(images), side, side, self.spec.dim)

    def stream_images(self, images: Iterable[pictures.Source]) -> Iterator[Vector | pictures.ImageFault]:
        """As ``embed_images``, one after the other as they come; a fault stands for an image that cannot be used.

        The next batch is read while the devices are at work on one.
        """
        ahead: Iterator[Vector | pictures.ImageFault] = iter(())
        squares = pictures.squares(images, self.image_size, ahead=2 * self._towers.most_images)
        while batch := list(itertools.islice(squares, self._towers.most_images)):
            found = [square for square in batch if not isinstance(square, pictures.ImageFault)]
            rows = self._towers.images(self._placed, np.stack(found)) if found else None
            yield from ahead
            ahead = _rejoined(batch, rows)
        yield from ahead

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of texts; those longer than ``text_length`` tokens are cut."""
        ids, _ = self.tokenizer.encode(list(texts), self.text_length)
        vectors = np.zeros((len(ids), self.spec.dim), np.float32)
        for rows, embedded in self._towers.texts(self._placed, ids, self.text_length, self.tokenizer.pad_id):
            vectors[rows] = embedded
        return vectors

    def zero_shot(
        self, images: UInt8[np.ndarray, "n s s"] | Sequence[pictures.Source], findings: Sequence[str]
    ) -> prompts.Scores:
        """Similarities, no probabilities, of images to the prompts of findings, columns in their order.

        Images as in ``embed_images``, findings out of `data.schema.FINDINGS`. Raises UserError for others.
        """
        sides = prompts.embed_all(findings, self.embed_texts)
        return prompts.scores(self.embed_images(images), sides)

    def with_params(self, params: Mapping[str, Any], source: str) -> "ClinicCLIP":
        """The same model with other parameters of the same shapes; what is compiled is shared."""
        other = copy.copy(self)
        other.params, other.source = params, source
        vars(other).pop("_placed", None)
        return other

    def with_tokenizer(self, tokenizer: Tokenizer, text_length: int) -> "ClinicCLIP":
        """The same model reading texts by another tokenizer, of as many pieces and no longer texts than it knows."""
        other = copy.copy(self)
        other.tokenizer, other.text_length = tokenizer, text_length
        return other

    def describe(self) -> dict[str, str]:
        """Where the model came from, the hash of its parameters, and the code's version."""
        digest = hashlib.sha256()
        flat = flax.traverse_util.flatten_dict(dict(self.params), sep="/")
        for name in sorted(flat):
            digest.update(name.encode())
            digest.update(np.asarray(flat[name]).tobytes())
        return {
            "checkpoint": self.source,
            "parameters_sha256": digest.hexdigest(),
            "tokenizer": f"{self.tokenizer.digest()}, at most {self.text_length} tokens",
            "clinicclip": f"{clinicclip.__version__}, {files.digest(Path(clinicclip.__file__).parent, '*.py')}",
        }

    def export(
        self, folder: Path, results: Sequence[Mapping[str, Any]] = (), *, dtype: str = "float32"
    ) -> dict[str, Any] | None:
        """Writes the folder that PyTorch users load; ``results`` go into its card, weights are stored in ``dtype``.

        Raises UserError.

        Returns the measured differences to PyTorch, None where it is not installed.
        """
        return write_export(
            folder,
            spec=self.spec,
            params=self.params,
            tokenizer=self.tokenizer,
            text_length=self.text_length,
            config=self.config,
            origin=self.origin,
            results=results,
            dtype=dtype,
        )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, force: bool = False, devices: Sequence[jax.Device] | None = None
    ) -> "ClinicCLIP":
        """Loads an exported folder.

        Raises UserError when the folder's image size, mean and standard deviation, tokenizer, text length or pooling
        are not those its weights were trained with, unless ``force``; always when it is damaged.
        """
        export = load_export(folder, force=force)
        return cls(
            spec=export.spec,
            params=export.params,
            tokenizer=Tokenizer.load(str(export.tokenizer)),
            text_length=export.meta["text_length"],
            config=export.meta["config"],
            origin=Origin(**export.meta["origin"]),
            source=Path(folder).resolve().name,
            devices=devices,
        )

    @classmethod
    def from_weights(cls, place: str | Path) -> "ClinicCLIP":
        """Loads a model that others wrote: open_clip's or transformers' folder, a weight file, or a hub id.

        Raises UserError when it is not read whole, or its images were prepared otherwise than here.
        """
        found = importing.load_model(place)
        if found.unlike:
            raise UserError(
                f"{place}: trained on images prepared otherwise ({'; '.join(found.unlike)}): its numbers here would "
                "not be its own; train on from it (--config.model.init), or mend what its files say if they are wrong"
            )
        tokenizer = Tokenizer.load(found.tokenizer)
        if tokenizer.vocab_size != found.spec.text.vocab_size:
            raise UserError(
                f"{found.tokenizer}: a vocabulary of {tokenizer.vocab_size} pieces, the text tower has "
                f"{found.spec.text.vocab_size} rows; put the tokenizer it was trained with beside the weights"
            )
        return cls(
            spec=found.spec,
            params=found.params,
            tokenizer=tokenizer,
            text_length=found.text_length,
            config={IMPORTED: importing.table(found.rows)},
            origin=imported_origin(place),
            source=Path(place).resolve().name,
        )

    @classmethod
    def from_run(cls, workdir: str | Path, step: int | None = None) -> "ClinicCLIP":
        """Loads a run's newest checkpoint, or the one of ``step``."""
        workdir = Path(workdir)
        config = config_files.restore(workdir / "config.json")
        try:
            spec, text_length = assemble.model_spec(config), config.data.text_length
        except (AttributeError, KeyError, TypeError, UserError) as fault:
            raise UserError(f"{workdir / 'config.json'} is damaged ({fault}): restore the file") from None
        step, params = checkpoints.read_params(workdir / "checkpoints", step)
        return cls(
            spec=spec,
            params=params,
            tokenizer=Tokenizer.load(str(workdir / "tokenizer")),
            text_length=text_length,
            config=config.to_dict(),
            origin=dataclasses.replace(read_origin(workdir), steps=step),
            source=f"{workdir.name}@{step}",
            trained_on=patients.load(workdir),
        )

    @functools.cached_property
    def _placed(self) -> Any:
        """The parameters on every device."""
        return self._towers.place(self.params)

    def _over(self, embed: Callable[..., jax.Array], squares: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n ..."]:
        """A tower's rows for ready squares, all of them in batches of one size."""
        side = self.image_size
        if squares.shape[1:] != (side, side) or squares.dtype != np.uint8:
            raise UserError(f"images are {squares.shape[1:]}, this model takes {side} x {side}: pass a list of images")
        most = self._towers.most_images
        size = min(len(squares), most)
        parts = [squares[first : first + most] for first in range(0, len(squares), most)]
        rows = [np.asarray(embed(self._placed, part, size))[: len(part)] for part in parts]
        return np.concatenate(rows) if rows else np.zeros((0, self.spec.dim), np.float32)


def _rejoined(batch: Sequence[Any], rows: jax.Array | None) -> Iterator[Vector | pictures.ImageFault]:
    """The faults of a batch where they stood among the rows of what was embedded."""
    vectors = iter(() if rows is None else np.asarray(rows))
    for item in batch:
        yield item if isinstance(item, pictures.ImageFault) else next(vectors)


def read_origin(workdir: Path) -> Origin:
    """What a run learns from, as it noted at its start. Raises UserError when the note is missing."""
    try:
        known = {field.name for field in dataclasses.fields(Origin)}
        noted = files.read_json(workdir / ORIGIN, known)
        return Origin(**{name: noted[name] for name in known})
    except FileNotFoundError:
        raise UserError(f"{workdir / ORIGIN}: not found; every run writes it at its start, restore it") from None


def imported_origin(place: str | Path) -> Origin:
    """What can be said of weights that others trained: where they are from, and that their terms are not ours."""
    return Origin(
        name=Path(place).name,
        data="unknown",
        data_title="not known here: the weights were trained elsewhere",
        data_licence=f"those of the weights, {Path(place).name}",
        data_citation="",
        data_open=False,
        phantom=False,
        steps=0,
    )


def load(checkpoint: str, *, force: bool = False) -> ClinicCLIP:
    """A model from ``WORKDIR``, ``WORKDIR@STEP``, an exported folder, or weights of others. Raises UserError.

    ``force`` as in `ClinicCLIP.from_pretrained`.
    """
    path, _, step = checkpoint.partition("@")
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        if step and not step.isdecimal():
            raise UserError(f"{checkpoint}: the part after @ is a step number")
        return ClinicCLIP.from_run(folder, int(step) if step else None)
    if is_export(folder):
        return ClinicCLIP.from_pretrained(folder, force=force)
    return ClinicCLIP.from_weights(checkpoint)


def load_any(checkpoint: str, *, force: bool = False) -> ClinicCLIP | guests.Guest:
    """As `load`; a CLIP folder of others, where its library is installed, as a guest in PyTorch instead.

    Guests keep their own preprocessing and tokenizer. Raises UserError, which names what would read a guest.
    """
    folder = Path(checkpoint)
    layout = "" if is_export(folder) else guests.find(folder)
    lacking = guests.lacking(layout) if layout else ""
    if layout and not lacking:
        return guests.Guest(folder, layout)
    try:
        return load(checkpoint, force=force)
    except UserError as fault:
        if not lacking:
            raise
        raise UserError(f"{fault}; as a guest it is read with {lacking}") from None
