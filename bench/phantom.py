"""How hard the phantom world is, without any contrastive learning: AUROC per finding on patients not trained on.

`pixels`: 48x48 grey levels, PCA(100), logistic regression; below .90 for the focal findings, or no tower is needed.
`tower`: a micro Swin trained on the gold labels of all fourteen; at least .95 for every finding on `easy`, or the
images do not show what the reports say.

    python bench/phantom.py [--quick] [--level=easy]
"""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from clinicclip import cli, host
from clinicclip.data.phantom import world
from clinicclip.data.schema import CHEXPERT, display_name
from clinicclip.models.clip import normalize_images
from clinicclip.models.swin import Swin, SwinSpec

FOCAL = ("pneumothorax", "lung_lesion", "fracture", "support_devices")
FLOOR_GOAL, TOWER_GOAL = 0.90, 0.95
SPEC = SwinSpec(image_size=64, window_size=4, embed_dim=32, depths=(1, 2, 1), heads=(2, 4, 8), drop_path=0.0)
STUDIES, EPOCHS, BATCH, RATE = 9000, 20, 64, 2.5e-3
SIDE, COMPONENTS = 48, 100


class Part(NamedTuple):
    """Images and gold labels of one part of the world."""

    images: UInt8[np.ndarray, "n s s"]
    labels: Float[np.ndarray, "n 14"]


class Classifier(nn.Module):
    """The demo's image tower with one linear map to the fourteen labels."""

    @nn.compact
    def __call__(self, images: UInt8[Array, "b s s"]) -> Float[Array, "b 14"]:
        """Log-odds of the labels."""
        pooled, _ = Swin(SPEC, name="image")(normalize_images(images), train=True)
        return nn.Dense(len(CHEXPERT), name="head")(pooled)


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(program="bench/phantom.py", description=__doc__, example="python bench/phantom.py --level=easy")
    flags.add_argument("--level", choices=sorted(world.LEVELS), help="one level only (default: both)")
    flags.add_argument("--quick", action="store_true", help="a tenth of the work: shows that it runs, proves nothing")
    flags.add_argument("--studies", type=int, default=STUDIES, help="size of the world, all splits")
    flags.add_argument("--epochs", type=int, default=EPOCHS, help="of the tower")
    flags.add_argument("--workers", type=int, default=2, help="processes that draw")
    return flags


def main(args: argparse.Namespace) -> int:
    """Measures the levels and prints a table and one JSON line."""
    host.tune_allocator()
    studies, epochs = (args.studies // 10, 2) if args.quick else (args.studies, args.epochs)
    found = {
        level: measure(level, studies, epochs, args.workers)
        for level in ([args.level] if args.level else sorted(world.LEVELS))
    }
    main_level = "easy" if "easy" in found else args.level
    tower = found[main_level]["tower"]
    line = {
        "name": "phantom",
        "value": min(tower.values()),
        "unit": f"lowest supervised AUROC, {main_level}, version {world.VERSION}",
        "goal": TOWER_GOAL if main_level == "easy" else None,
        "detail": {"version": world.VERSION, "studies": studies, "epochs": epochs} | found,
    }
    print(json.dumps(line))
    return 0


def measure(level: str, studies: int, epochs: int, workers: int) -> dict[str, dict[str, float]]:
    """AUROC of both probes per finding, printed as a table."""
    train, test = draw(level, studies, workers)
    print(f"{level}, version {world.VERSION}: {len(train.images)} studies to learn from, {len(test.images)} to test on")
    scores = {"pixels": pixel_scores(train, test), "tower": tower_scores(train, test, epochs)}
    found = {name: _aurocs(test.labels, values) for name, values in scores.items()}
    print(f"{'finding':28} {'positive':>8} {'pixels':>8} {'tower':>8}")
    for k, name in enumerate(CHEXPERT):
        flags = "  pixels too good" if name in FOCAL and found["pixels"][name] >= FLOOR_GOAL else ""
        flags += "  tower too weak" if level == "easy" and found["tower"][name] < TOWER_GOAL else ""
        cells = f"{found['pixels'][name]:8.3f} {found['tower'][name]:8.3f}"
        print(f"{display_name(name):28} {int(test.labels[:, k].sum()):8} {cells}{flags}", flush=True)
    return found


def draw(level: str, studies: int, workers: int) -> tuple[Part, Part]:
    """The training part and the other two parts of a world."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        work = pool.map(partial(_study, level), range(studies), chunksize=64)
        made = list(tqdm(work, desc=f"draw {level}", total=studies, unit=" studies", disable=None))
    return _part([m for m in made if m[0] == "train"]), _part([m for m in made if m[0] != "train"])


def _part(made: list[tuple[str, np.ndarray, np.ndarray]]) -> Part:
    return Part(np.stack([image for _, image, _ in made]), np.stack([labels for _, _, labels in made]))


def _study(level: str, index: int) -> tuple[str, np.ndarray, np.ndarray]:
    study = world.make(level, index, size=SPEC.image_size)
    return study.split, study.image, np.array([study.gold[name] for name in CHEXPERT], np.float32)


def _aurocs(labels: Float[np.ndarray, "n 14"], scores: Float[np.ndarray, "n 14"]) -> dict[str, float]:
    return {name: round(float(roc_auc_score(labels[:, k], scores[:, k])), 4) for k, name in enumerate(CHEXPERT)}


def pixel_scores(train: Part, test: Part) -> Float[np.ndarray, "n 14"]:
    """Log-odds by PCA and logistic regression on small images."""
    reduce = make_pipeline(PCA(COMPONENTS, random_state=0), StandardScaler())
    x, y = reduce.fit_transform(_small(train.images)), _small(test.images)
    models = [LogisticRegression(C=0.01, max_iter=2000).fit(x, train.labels[:, k]) for k in range(len(CHEXPERT))]
    return np.stack([model.decision_function(reduce.transform(y)) for model in models], 1).astype(np.float32)


def _small(images: UInt8[np.ndarray, "n s s"]) -> Float[np.ndarray, "n p"]:
    small = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in small]).reshape(len(images), -1).astype(np.float32) / 255


def tower_scores(train: Part, test: Part, epochs: int) -> Float[np.ndarray, "n 14"]:
    """Log-odds by the micro tower after `epochs` over the training part."""
    model = Classifier()
    params = model.init(jax.random.key(0), train.images[:2])
    steps = epochs * (len(train.images) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 10 + 1, steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05))

    @jax.jit
    def step(params: Any, opt: Any, images: Array, labels: Array) -> tuple[Any, Any, Array]:
        def loss(p: Any) -> Array:
            return optax.sigmoid_binary_cross_entropy(model.apply(p, images), labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, value

    opt = tx.init(params)
    with tqdm(total=steps, desc="tower", unit=" steps", disable=None) as bar:
        for images, labels in _batches(train, epochs):
            params, opt, value = step(params, opt, images, labels)
            bar.update()
            if bar.n % 100 == 0:
                bar.set_postfix(loss=f"{float(value):.4f}")
    score = jax.jit(model.apply)
    cuts = range(0, len(test.images), 256)
    return np.concatenate([np.asarray(score(params, test.images[i : i + 256])) for i in cuts])


def _batches(train: Part, epochs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches, each image moved by up to three pixels, made brighter or darker, steeper or flatter."""
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(train.images))
        for i in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[i : i + BATCH]
            images = np.pad(train.images[rows], ((0, 0), (3, 3), (3, 3)), mode="edge")
            at = rng.integers(0, 7, (BATCH, 2))
            side = SPEC.image_size
            images = np.stack([x[r : r + side, c : c + side] for x, (r, c) in zip(images, at, strict=True)])
            slope, shift = rng.uniform(0.85, 1.15, (BATCH, 1, 1)), rng.uniform(-15, 15, (BATCH, 1, 1))
            yield np.clip((images - 128.0) * slope + 128 + shift, 0, 255).astype(np.uint8), train.labels[rows]


if __name__ == "__main__":
    cli.run(main, parser())
