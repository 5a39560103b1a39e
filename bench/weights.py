"""Full-size weights in and out: how far imported towers are from the libraries they come from, and the way back.

Files with random weights, every bias, norm and bias table among them, are written under the names of timm,
transformers and open_clip, imported, and compared with what those libraries made of the same numbers
(tests/golden/make.py and make_towers.py). Then both dialects are written, read and compared bit for bit.

    python bench/weights.py [--quick]

The last line is JSON; its value is the largest absolute difference of any feature. --quick leaves out the full sizes.
"""

import argparse
import dataclasses
import json
import runpy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clinicclip import cli, importing
from clinicclip.data import packing
from clinicclip.models import clip, convert, hf_config, tensor_file
from clinicclip.models.bert import Bert
from clinicclip.models.swin import Swin

GOAL = 1e-4
GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
recipe = runpy.run_path(str(GOLDEN / "recipe.py"))
PREFIXES = {"swin, timm": ("open_clip", "visual.trunk."), "bert, transformers": ("transformers", "text_model."),
            "swin, transformers": ("transformers", "vision_model.")}  # fmt: skip


def parser() -> cli.Parser:
    """The command line."""
    p = cli.Parser(program="bench/weights.py", description=str(__doc__), example="python bench/weights.py --quick")
    p.add_argument("--quick", action="store_true", help="the small and the reduced sizes alone")
    return p


def write(folder: Path, spec: clip.ClipSpec, kind: str) -> Path:
    """A tower alone, as its library stores it."""
    dialect, prefix = PREFIXES[kind]
    tensors = convert.to_torch(recipe["weights"](spec), spec, dialect)
    tower = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    tensor_file.write(folder / "model.safetensors", tower)
    if dialect == "transformers":
        config = hf_config.bert_config(spec.text) if "bert" in kind else hf_config.swin_config(spec.image)
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def image_difference(place: Path, spec: clip.ClipSpec, golden: np.ndarray) -> float:
    """Of pooled features."""
    found, params = importing.load_image_tower(
        place, image_size=spec.image.image_size, window_size=spec.image.window_size
    )
    images = recipe["images"](spec, count=len(golden))
    pooled, _ = jax.jit(lambda p, x: Swin(found).apply({"params": p}, x))(params, images)
    return float(np.abs(pooled - golden).max())


def text_difference(place: Path, spec: clip.ClipSpec, golden: np.ndarray) -> float:
    """Of pooled features."""
    found, params = importing.load_text_tower(place)
    texts = packing.plain(recipe["texts"](spec), max(recipe["LENGTHS"]))
    bert = Bert(found)

    def pooled(params: Any, ids: Any, owner: Any, position: Any, start: Any) -> Any:
        return bert.apply(
            {"params": params},
            ids, owner, position, start,
            method=lambda self, i, o, p, s: self.pool(self(i, o, p), o, s, 1),
        )  # fmt: skip

    return float(np.abs(jax.jit(pooled)(params, *texts[:4]) - golden).max())


def whole_difference(place: Path, spec: clip.ClipSpec, golden: Any) -> float:
    """Of unit embeddings."""
    found = importing.load_model(place)
    model, images = clip.ClinicCLIP(found.spec), recipe["images"](spec)
    texts = packing.plain(recipe["texts"](spec), max(recipe["LENGTHS"]))
    image = jax.jit(lambda p, x: model.apply({"params": p}, x, method="embed_image"))(found.params, images)
    text = jax.jit(lambda p, *t: model.apply({"params": p}, *t, method="embed_text"))(found.params, *texts[:4])
    ours = {"open_clip/image": np.asarray(image), "open_clip/text": np.asarray(text)}
    return max(float(np.abs(ours[key] - golden[key]).max()) for key in ours)


def write_script(folder: Path, spec: clip.ClipSpec) -> Path:
    """A whole model in open_clip's dialect under a prefix of its own, so that nothing but shapes and names tells."""
    tensors = convert.to_torch(recipe["weights"](spec), spec, "open_clip")
    tensor_file.write(folder / "state.safetensors", {f"module.{key}": t for key, t in tensors.items()})
    return folder


def bits_kept(spec: clip.ClipSpec, dialect: str) -> bool:
    """Whether parameters written in a dialect and read back are the same bit for bit."""
    params = recipe["weights"](spec)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        tensor_file.write(file, convert.to_torch(params, spec, dialect))
        back = convert.from_torch(tensor_file.read(file), convert.extras(params, spec), spec, dialect)
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), back, params)))


def cases(quick: bool) -> list[tuple[str, Callable[[Path], float]]]:
    """Name and measurement of every case, each in a folder of its own."""
    towers, weights = (np.load(GOLDEN / name) for name in ("towers.npz", "weights.npz"))
    swins, sizes = recipe["SWINS"], recipe["SIZES"]

    def image(kind: str, spec: clip.ClipSpec, golden: np.ndarray, source: clip.ClipSpec | None = None) -> Any:
        return lambda folder: image_difference(write(folder, source or spec, kind), spec, golden)

    def text(spec: clip.ClipSpec, golden: np.ndarray) -> Any:
        return lambda folder: text_difference(write(folder, spec, "bert, transformers"), spec, golden)

    timm, theirs = "swin, timm", "swin, transformers"
    found = [(f"Swin {name}, few blocks, timm", image(timm, spec, weights[f"{name}/pooled"]))
             for name, spec in swins.items()]  # fmt: skip
    larger = clip.ClipSpec(
        dataclasses.replace(swins["tiny"].image, image_size=384, window_size=12), swins["tiny"].text, dim=16
    )
    found.append(("the tiny one at 384, window 7 to 12", image(timm, larger, weights["resized/pooled"], swins["tiny"])))
    found += [
        (f"Swin {name}, transformers", image(theirs, sizes[name], towers[f"{name}/image"])) for name in ("small",)
    ]
    found += [("BERT small, transformers", text(sizes["small"], towers["small/text"]))]
    if not quick:
        full = sizes["full"]
        found += [
            ("Swin-T, full size, timm", image(timm, full, weights["full/pooled"])),
            ("Swin-T, full size, transformers", image(theirs, full, towers["full/image"])),
            ("BERT-base, full size, transformers", text(full, towers["full/text"])),
            ("both, full size, open_clip", lambda folder: whole_difference(write_script(folder, full), full, weights)),
        ]
    return found


def main(args: argparse.Namespace) -> int:
    """Measures, prints a table and the JSON line."""
    jax.config.update("jax_default_matmul_precision", "highest")
    differences = {}
    print(f"{'imported':40}{'largest difference':>20}{'seconds':>10}")
    for name, measure in cases(args.quick):
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            differences[name] = measure(Path(folder))
        print(f"{name:40}{differences[name]:20.1e}{time.perf_counter() - began:10.1f}", flush=True)
    spec = recipe["SIZES"]["small" if args.quick else "full"]
    kept = {dialect: bits_kept(spec, dialect) for dialect in ("transformers", "open_clip")}
    print(f"written and read back bit for bit: {kept}")
    value = max(differences.values()) if all(kept.values()) else float("inf")
    detail = {"differences": differences, "bits_kept": kept}
    return cli.measured("weights", value, "absolute", GOAL, detail, met=value <= GOAL)


if __name__ == "__main__":
    cli.run(main, parser())
