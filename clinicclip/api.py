"""A trained model in use: grey images and texts in, unit embeddings out, whatever it was loaded from."""

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import Float, UInt8, UInt64

import clinicclip
from clinicclip import assemble, files, importing
from clinicclip import config as config_files
from clinicclip.data import packing, patients
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.exporting import Origin, is_export, load_export, write_export
from clinicclip.models import clip
from clinicclip.training import checkpoint as checkpoints
from clinicclip.training import sharding

BATCH = 64  # images or texts that a device embeds at once, at most
ROW_STEP = 8
ORIGIN = "origin.json"  # in a run's folder
IMPORTED = "imported"  # in the configuration of a model that others wrote: how its arrays were read


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
    ) -> None:
        self.spec = spec
        self.params = params
        self.tokenizer = tokenizer
        self.text_length = text_length
        self.config = dict(config)
        self.origin = origin
        self.source = source
        self.trained_on = np.empty(0, np.uint64) if trained_on is None else trained_on
        self._model = clip.ClinicCLIP(spec)
        self._image_fn = jax.jit(self._images)
        self._patch_fn = jax.jit(self._patches)
        self._text_fn = jax.jit(self._texts)

    @property
    def image_size(self) -> int:
        """Side of the square input images, in pixels."""
        return self.spec.image.image_size

    def embed_images(self, images: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of grey images already resized to ``image_size`` (see ``data.images.resize``)."""
        return self._over_images(self._image_fn, images)

    def embed_patches(self, images: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n h w d"]:
        """Unit embeddings of the patches of each image, row by row (`ClinicCLIP.embed_patches`); images as above."""
        shape = (self.spec.image.side(len(self.spec.image.depths) - 1),) * 2
        return self._over_images(self._patch_fn, images).reshape(len(images), *shape, self.spec.dim)

    def _over_images(self, run: Callable, images: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n ..."]:
        if images.shape[1:] != (self.image_size, self.image_size):
            raise UserError(f"images are {images.shape[1:]}, this model takes {self.image_size} x {self.image_size}")

        def embed(rows: np.ndarray) -> jax.Array:
            return run(self._placed, sharding.place({"image": images[rows]}, self._mesh)["image"])

        return self._in_batches(len(images), embed)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Unit embeddings of texts; those longer than ``text_length`` tokens are cut."""
        ids, _ = self.tokenizer.encode(list(texts), self.text_length)

        def embed(rows: np.ndarray) -> jax.Array:
            groups, step = self._mesh.size, min(ROW_STEP, len(rows) // self._mesh.size)
            packed = packing.pack([ids[i] for i in rows], length=self.text_length, groups=groups, row_step=step)
            return self._text_fn(self._placed, *sharding.place(packed._asdict(), self._mesh).values())

        return self._in_batches(len(ids), embed)

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
    def from_pretrained(cls, folder: str | Path) -> "ClinicCLIP":
        """Loads an exported folder."""
        export = load_export(folder)
        return cls(
            spec=export.spec,
            params=export.params,
            tokenizer=Tokenizer.load(str(export.tokenizer)),
            text_length=export.meta["text_length"],
            config=export.meta["config"],
            origin=Origin(**export.meta["origin"]),
            source=Path(folder).resolve().name,
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
        step, params = checkpoints.read_params(workdir / "checkpoints", step)
        return cls(
            spec=assemble.model_spec(config),
            params=params,
            tokenizer=Tokenizer.load(str(workdir / "tokenizer")),
            text_length=config.data.text_length,
            config=config.to_dict(),
            origin=dataclasses.replace(read_origin(workdir), steps=step),
            source=f"{workdir.name}@{step}",
            trained_on=patients.load(workdir),
        )

    @functools.cached_property
    def _mesh(self) -> jax.sharding.Mesh:
        """All devices of this process: each embeds an equal part of a batch."""
        return sharding.make_mesh(jax.local_devices())

    @functools.cached_property
    def _placed(self) -> Any:
        """The parameters on every device of the mesh."""
        return sharding.replicate(dict(self.params), self._mesh)

    def _in_batches(self, count: int, embed: Callable[[np.ndarray], jax.Array]) -> Float[np.ndarray, "n ..."]:
        """Runs ``embed`` on batches of one size, the last filled up by repeating its last row; those rows are dropped.

        A device's part is the power of two that holds its share of all rows, at most ``BATCH``.
        """
        share = -(-count // self._mesh.size)
        size = self._mesh.size * min(BATCH, 1 << (share - 1).bit_length()) if count else 1
        parts = []
        for first in range(0, count, size):
            rows = np.minimum(np.arange(first, first + size), count - 1)
            parts.append(np.asarray(embed(rows))[: count - first])
        return np.concatenate(parts) if parts else np.zeros((0, self.spec.dim), np.float32)

    def _images(self, params: Any, images: jax.Array) -> Any:
        return self._model.apply({"params": params}, clip.normalize_images(images), method="embed_image")

    def _patches(self, params: Any, images: jax.Array) -> Any:
        return self._model.apply({"params": params}, clip.normalize_images(images), method="embed_patches")

    def _texts(self, params: Any, *packed: jax.Array) -> Any:
        return self._model.apply({"params": params}, *packed, self._mesh.size, method="embed_text")


def read_origin(workdir: Path) -> Origin:
    """What a run learns from, as it noted at its start. Raises UserError when the note is missing."""
    try:
        return Origin(**json.loads((workdir / ORIGIN).read_text()))
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


def load(checkpoint: str) -> ClinicCLIP:
    """A model from ``WORKDIR``, ``WORKDIR@STEP``, an exported folder, or weights of others. Raises UserError."""
    path, _, step = checkpoint.partition("@")
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        if step and not step.isdecimal():
            raise UserError(f"{checkpoint}: the part after @ is a step number")
        return ClinicCLIP.from_run(folder, int(step) if step else None)
    if is_export(folder):
        return ClinicCLIP.from_pretrained(folder)
    return ClinicCLIP.from_weights(checkpoint)
