"""A trained model in use: images and texts in, unit embeddings and scores out, whatever it was loaded from."""

import copy
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8, UInt64

import clinicclip
from clinicclip import assemble, files, guests, importing, terms
from clinicclip import config as config_files
from clinicclip.data import images as pictures
from clinicclip.data import patients
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError, is_unicode, require_list, within
from clinicclip.evals import prompts
from clinicclip.evals.base import Rows
from clinicclip.evals.truth import SQUASH
from clinicclip.exporting import Origin, contract, is_export, write_export
from clinicclip.exporting.origin import FILE as ORIGIN
from clinicclip.models import clip, convert
from clinicclip.towers import Towers, in_turns
from clinicclip.training import checkpoint as checkpoints

IMPORTED = "imported"  # in the configuration of a model that others wrote: how its arrays were read
TERMS = "terms"  # in the facts of a checkpoint: what it was trained to be given
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
        trained: what its weights were trained to be given, in `clinicclip.terms`.
        forced: in words, what it is given other than that.
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
        self.trained: terms.Terms = self.given
        self.forced: list[str] = []
        self._towers = Towers(spec, devices)

    square = staticmethod(pictures.resize)
    says = SQUASH.says

    @property
    def given(self) -> dict[str, Any]:
        """What is done to images and texts on their way to the towers, in `clinicclip.terms`."""
        return contract.given(self.spec, self.tokenizer, self.text_length)

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        return self.spec.image.image_size

    def embed_images(self, images: np.ndarray | Iterable[pictures.Source]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of images in a list, each as `data.images.square` takes them: JPEG, PNG or DICOM files (paths
        or bytes), Pillow images, arrays of gray or colour; or of ready squares, one array [n, s, s] of 8-bit gray.

        Those of a list are squashed to ``image_size``; ready squares must have that size. Raises
        `data.images.ImageFault`, a UserError, for the first image that cannot be used; see ``stream_images``.
        """
        if isinstance(images, np.ndarray):
            pictures.require_ready(images, self.image_size)
            return self.embed_rows(images).vectors
        vectors = []
        for row in self.stream_images(images):
            if isinstance(row, pictures.ImageFault):
                raise row
            vectors.append(row)
        return np.stack(vectors) if vectors else np.zeros((0, self.spec.dim), np.float32)

    def embed_rows(self, squares: UInt8[np.ndarray, "n s s"], *, patches: bool = False) -> Rows:
        """Unit embeddings of ready squares with their marks, and their patches (`models.clip.ClinicCLIP.embed_patches`)
        where they are asked for, all in batches of one size."""
        if not len(squares):
            return Rows(np.zeros((0, self.spec.dim), np.float32), np.zeros(0, np.uint32))
        most = self._towers.most_images
        size = min(len(squares), most)

        def embed(part: UInt8[np.ndarray, "n s s"]) -> list[np.ndarray]:
            found = self._towers.rows(self._placed, part, size, patches=patches)
            return [np.asarray(array)[: len(part)] for array in found]

        parts = in_turns(embed, (squares[first : first + most] for first in range(0, len(squares), most)))
        marks, vectors, *rest = map(np.concatenate, zip(*parts, strict=True))
        return Rows(vectors, marks, *rest)

    def stream_images(self, images: Iterable[pictures.Source]) -> Iterator[Vector | pictures.ImageFault]:
        """As ``embed_images``, one after the other as they come; a fault stands for an image that cannot be used.

        The next batches are read while the devices are at work on some.
        """
        require_list(images, "images")
        squares = pictures.squares(images, self.image_size, ahead=2 * self._towers.most_images)
        batches = iter(lambda: list(itertools.islice(squares, self._towers.most_images)), [])
        for rows in in_turns(self._rows, batches):
            yield from rows

    def _rows(self, batch: Sequence[UInt8[np.ndarray, "s s"] | pictures.ImageFault]) -> list[Any]:
        """Unit embeddings of squares, the faults where they stood among them."""
        found = [square for square in batch if not isinstance(square, pictures.ImageFault)]
        rows = iter(np.asarray(self._towers.images(self._placed, np.stack(found))) if found else ())
        return [item if isinstance(item, pictures.ImageFault) else next(rows) for item in batch]

    def embed_texts(self, texts: Iterable[str]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of texts; those longer than ``text_length`` tokens are cut. Raises UserError for others."""
        require_list(texts, "texts")
        texts = list(texts)
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str):  # such as the nan that a table has for an empty cell
                raise UserError(f"text {number} of {len(texts)} is a {type(text).__name__}; expected a string")
            if not is_unicode(text):
                raise UserError(
                    f"text {number} of {len(texts)} holds half a character (a lone surrogate), which is no text"
                )
        ids, _ = self.tokenizer.encode(texts, self.text_length)
        vectors = np.zeros((len(ids), self.spec.dim), np.float32)
        for rows, embedded in self._towers.texts(self._placed, ids, self.text_length, self.tokenizer.pad_id):
            vectors[rows] = embedded
        return vectors

    def zero_shot(self, images: np.ndarray | Iterable[pictures.Source], findings: Sequence[str]) -> prompts.Scores:
        """Similarities, no probabilities, of images to the prompts of findings, columns in their order.

        Images as in ``embed_images``, findings out of `data.schema.FINDINGS`. Raises UserError for others.
        """
        require_list(findings, "findings")
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
        return {
            "checkpoint": self.source,
            "parameters_sha256": convert.digest(self.params),
            "tokenizer": f"{self.tokenizer.digest()}, at most {self.text_length} tokens",
            "pooling": self.spec.text.pooling,
            "clinicclip": f"{clinicclip.__version__}, {files.digest(Path(clinicclip.__file__).parent, '*.py')}",
            **terms.noted(self.forced),
        }

    def export(
        self, folder: Path, results: Sequence[Mapping[str, Any]] = (), *, dtype: str = "float32", hub: str = ""
    ) -> dict[str, Any] | None:
        """Writes the folder that PyTorch users load; ``results`` go into its card, weights are stored in ``dtype``.

        ``hub`` is the id it will be published under. Raises UserError.

        Returns the measured differences to PyTorch, None where it is not installed.
        """
        return write_export(
            folder,
            spec=self.spec,
            params=self.params,
            tokenizer=self.tokenizer,
            text_length=self.text_length,
            trained=self.trained,
            config={**self.config, **terms.noted(self.forced)},
            origin=self.origin,
            results=results,
            dtype=dtype,
            hub=hub,
        )

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path,
        *,
        pooling: str = "",
        force: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ) -> "ClinicCLIP":
        """Loads an exported folder, or weights of others: a folder, a weight file, or a hub id of either.

        ``pooling`` is how texts are pooled, one of `models.bert.POOLINGS`; "": as in training, or, where nothing says
        how, by the pooler. Raises UserError when image size, mean and standard deviation, tokenizer, text length or
        pooling are not those the weights were trained with, unless ``force``; always when they are not read whole.
        """
        found = importing.load_model(place, pooling=pooling, force=force)
        tokenizer = Tokenizer.load(str(found.tokenizer))
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
            config=found.meta.config if found.meta else {IMPORTED: importing.table(found.rows)},
            origin=found.meta.origin if found.meta else Origin.of_others(place),
            source=Path(place).resolve().name,
            devices=devices,
        )._held_to(found.trained, place, force)

    @classmethod
    def from_run(
        cls, workdir: str | Path, step: int | None = None, *, pooling: str = "", force: bool = False
    ) -> "ClinicCLIP":
        """Loads a run's newest checkpoint, or that of ``step``; ``pooling`` and ``force`` as in ``from_pretrained``."""
        workdir = Path(workdir)
        config = config_files.restore(workdir / "config.json")
        try:
            spec, text_length = assemble.model_spec(config), config.data.text_length
        except (AttributeError, KeyError, TypeError, UserError) as fault:
            raise UserError(f"{workdir / 'config.json'} is damaged ({fault}): restore the file") from None
        step, params = checkpoints.read_params(workdir / "checkpoints", step)
        trained = checkpoints.read_facts(workdir / "checkpoints", step).get(TERMS, {})
        with within(workdir):
            spec, params = clip.pooled_by(pooling, spec, params)
        return cls(
            spec=spec,
            params=params,
            tokenizer=Tokenizer.load(str(workdir / "tokenizer")),
            text_length=text_length,
            config=config.to_dict(),
            origin=dataclasses.replace(Origin.of_run(workdir), steps=step),
            source=f"{workdir.name}@{step}",
            trained_on=patients.load(workdir),
        )._held_to([trained], workdir, force)

    def _held_to(self, trained: Iterable[terms.Terms], place: str | Path, force: bool) -> "ClinicCLIP":
        """Itself, given what its weights were trained with, or with a note of what was forced. Raises UserError."""
        trained = list(trained)
        self.forced = terms.require(place, trained, self.given, force=force)
        self.trained = terms.agreed(trained, self.given)
        return self

    @functools.cached_property
    def _placed(self) -> Any:
        """The parameters on every device."""
        return self._towers.place(self.params)


def load(checkpoint: str, *, pooling: str = "", force: bool = False) -> ClinicCLIP:
    """A model from ``WORKDIR``, ``WORKDIR@STEP``, an exported folder, or weights of others. Raises UserError.

    ``pooling`` and ``force`` as in `ClinicCLIP.from_pretrained`.
    """
    path, step = files.at(checkpoint)
    # A run that has saved nothing yet is one, too.
    if not any(files.exists(Path(path) / name) for name in ("checkpoints", ORIGIN)):
        return ClinicCLIP.from_pretrained(checkpoint, pooling=pooling, force=force)
    if step and not step.isdecimal():
        raise UserError(f"{checkpoint}: the part after @ is a step number")
    return ClinicCLIP.from_run(path, int(step) if step else None, pooling=pooling, force=force)


def load_any(checkpoint: str, *, pooling: str = "", force: bool = False) -> ClinicCLIP | guests.Guest:
    """As `load`; a CLIP of others, where its library is installed, as a guest in PyTorch instead.

    Guests keep their own preprocessing, tokenizer and pooling: with ``pooling`` nothing is read as one. Raises
    UserError, which names what would read a guest.
    """
    path = Path(files.at(checkpoint)[0])
    place = path if files.exists(path) else importing.locate(checkpoint)
    layout = "" if pooling or is_export(place) else guests.find(place)
    lacking = guests.lacking(layout) if layout else ""
    if layout and not lacking:
        return guests.Guest(place, layout, force=force, noted=importing.own_terms(place, force=force))
    try:
        return load(checkpoint, pooling=pooling, force=force)
    except UserError as fault:
        if not lacking:
            raise
        raise UserError(f"{fault}; as a guest it is read with {lacking}", fault.table) from None
