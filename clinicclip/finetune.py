"""Full fine-tuning on 1, 10 and 100 % of a set's labels: image tower and a linear head, scored on the test split.

    python -m clinicclip.finetune --checkpoint=runs/dt_c --data_dir=data/chexpert --output=runs/dt_c-finetuned

Every share of the training patients and every seed is a job of its own with the same number of steps: nothing is
chosen by a score. Jobs that are done are not done again; the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float
from safetensors.numpy import load_file
from tqdm import tqdm

from clinicclip import api, cli, files, host
from clinicclip.data import augment, builder, schema
from clinicclip.errors import UsageError, UserError
from clinicclip.evals import outcomes, report, sets, shares, suites
from clinicclip.evals.base import EvalSet
from clinicclip.evals.results import Evaluation
from clinicclip.evals.stats import PatientBootstrap
from clinicclip.evals.truth import NORMAL
from clinicclip.training import optim, sharding
from clinicclip.training.finetune import Classifier, Scorer, Step, make_scorer, make_step
from clinicclip.training.step import init_state

JOB = "job.json"  # what the folder's jobs have in common
SCORES = "scores"
AUGMENT = augment.AugmentSpec(crop_area=0.8, rotation=5.0, brightness=0.1, contrast=0.1)
WARMUP, WEIGHT_DECAY, CLIP_NORM = 0.1, 1e-4, 1.0


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="finetune",
        description="Fine-tune the image tower on shares of a set's labels; the same command resumes.",
        example="python -m clinicclip.finetune --checkpoint=runs/dt_c --data_dir=data/chexpert --output=runs/finetuned",
    )
    one = partial(cli.count, least=1)
    cli.add_model_flags(flags)
    flags.add_argument("--data_dir", required=True, type=Path, help="prepared folder with labels")
    flags.add_argument("--output", required=True, type=Path, help="folder of the jobs and the report")
    flags.add_argument("--train_split", default="", help="default: the run's or the folder's")
    flags.add_argument("--split", default="", help="what is measured; default: the run's or the folder's test split")
    flags.add_argument("--shares", default="0.01,0.1,1", help="of the training patients, each above 0 and up to 1")
    flags.add_argument("--seeds", type=one, default=len(shares.SEEDS), help="jobs of a share, numbered from 0")
    flags.add_argument("--steps", type=one, default=1000, help="of a job, whatever its share")
    flags.add_argument("--batch_size", type=one, default=64, help="images of a step over all devices")
    flags.add_argument("--learning_rate", type=float, default=5e-5, help="of AdamW after warm-up; then cosine")
    flags.add_argument("--limit", type=cli.count, default=0, help="studies a split; 0 = all")
    flags.add_argument("--draws", type=one, default=1000, help="bootstrap draws by patient")
    return flags


class Task(NamedTuple):
    """What the jobs have in common."""

    model: api.ClinicCLIP
    train: EvalSet
    test: EvalSet
    findings: tuple[int, ...]  # columns of the head
    steps: int
    batch_size: int
    mesh: Mesh
    classifier: Classifier
    optimizer: optax.GradientTransformation
    step: Step  # compiled once for all jobs
    scorer: Scorer


def main(args: argparse.Namespace) -> int:
    """Do the jobs that are not done, then write and print what all of them score."""
    host.tune_allocator()
    host.keep_compiled()
    parts = _shares(args.shares)
    task = _task(args)
    _require_same(args, task)
    by_share: dict[float, list[dict[int, Float[np.ndarray, " n"]]]] = {}
    for share in parts:
        for seed in range(args.seeds):
            by_share.setdefault(share, []).append(_scores(task, args.output, share, seed))
    bootstrap = PatientBootstrap(task.test.patients, draws=args.draws)
    evaluation = Evaluation(
        facts={"steps": str(args.steps), "seeds": str(args.seeds), "bootstrap_draws": str(args.draws)},
        sets=(suites.facts_of(task.test, suites.Beside(train=task.train)),),
    )
    for share, by_seed in by_share.items():
        evaluation.results.extend(shares.results(task.test, bootstrap, f"finetune/auroc@{share:g}", by_seed))
    report.write(evaluation, args.output, provenance=task.model.describe())
    print("\n".join(report.summary_lines(evaluation)))
    print(f"\nreport: {args.output / 'report.html'}")
    return 0


def _shares(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--shares={text}: expected numbers such as 0.01,0.1,1") from None
    if not all(0 < share <= 1 for share in found) or len(set(found)) < len(found):
        raise UsageError(f"--shares={text}: expected different shares above 0 and up to 1")
    return found


def _task(args: argparse.Namespace) -> Task:
    """Opens model and data. Raises UserError when they do not allow the jobs."""
    mesh = sharding.make_mesh()
    sharding.microbatches(args.batch_size, 0, mesh.size)
    model = api.load(args.checkpoint, pooling=args.pooling, force=args.force)
    split = args.split or sets.held_out_split(args.data_dir, model.config)
    learnt = args.train_split or sets.other_split(args.data_dir, "train", split, model.config)
    if not learnt:
        raise UserError(f"{args.data_dir}: no training split beside {split}; name one with --train_split")
    known = sets.overlap(args.data_dir, split, model.config, model.trained_on)
    if known:
        raise UserError(f"{args.data_dir}, split {split}: this model was trained on {known}; choose another --split")
    if kinship := sets.kinship(args.data_dir, model.config):
        print(f"warning: {args.data_dir}: {kinship} (no id tells): these may be no held-out numbers", file=sys.stderr)
    name = builder.read_manifest(args.data_dir)["name"]
    train, test = (
        sets.open_set(name, args.data_dir, part, image_size=model.image_size, limit=args.limit)
        for part in (learnt, split)
    )
    shared = len(set(train.patients) & set(test.patients))
    if shared:
        raise UserError(f"{args.data_dir}: {shared} patients are in {learnt} and in {split}; choose others")
    findings = tuple(f for f in range(len(schema.FINDINGS)) if f != NORMAL and outcomes.both(train.truth[:, f]))
    if not findings:
        raise UserError(
            f"{args.data_dir}: split {learnt} has no finding with both outcomes, so there is nothing to learn"
        )
    print(f"{name}: {len(train)} studies of {learnt} to learn {len(findings)} findings from, {len(test)} of {split}")
    classifier = Classifier(model.spec.image, model.spec.dtype)
    tx = optim.make_optimizer(
        total_steps=args.steps,
        lr=args.learning_rate,
        weight_decay=WEIGHT_DECAY,
        warmup_fraction=WARMUP,
        clip_norm=CLIP_NORM,
    )
    compiled = make_step(classifier, tx, mesh), make_scorer(classifier, mesh)
    return Task(model, train, test, findings, args.steps, args.batch_size, mesh, classifier, tx, *compiled)


def _require_same(args: argparse.Namespace, task: Task) -> None:
    """Notes what the folder's jobs are of. Raises UserError when it holds jobs of something else."""
    files.make_folder(args.output)
    asked = {
        "parameters_sha256": task.model.describe()["parameters_sha256"],
        "train": task.train.digest(),
        "test": task.test.digest(),
        "steps": task.steps,
        "batch_size": task.batch_size,
        "learning_rate": args.learning_rate,
    }
    path = args.output / JOB
    if not path.is_file():
        files.write_whole(path, json.dumps(asked, indent=1) + "\n")
    held = files.read_json(path, (), "delete the folder and run again")
    other = [key for key in asked if asked[key] != held.get(key)]
    if other:
        raise UserError(f"{path}: these jobs are of another {', '.join(other)}; choose another --output")


def _scores(task: Task, output: Path, share: float, seed: int) -> dict[int, Float[np.ndarray, " n"]]:
    """Log-odds of the test images for each finding that the drawn patients teach, of this job or its stored ones."""
    path = output / f"share{share:g}-seed{seed}.safetensors"
    rows = shares.drawn(task.train.patients, share, seed)
    if not path.is_file():
        files.write_tensors(path, {SCORES: _job(task, rows, seed, f"share {share:g}, seed {seed}")})
    scores = load_file(path)[SCORES].astype(np.float64)
    taught = [f for f in task.findings if outcomes.both(task.train.truth[rows, f])]
    return {finding: scores[:, task.findings.index(finding)] for finding in taught}


def _job(task: Task, rows: np.ndarray, seed: int, title: str) -> Float[np.ndarray, "n f"]:
    """Train on these rows and score the test images. Raises UserError when the loss is not finite."""
    start = task.classifier.start(task.model.params["image"], len(task.findings))
    state = init_state(start, task.optimizer, task.mesh)
    batches = _batches(task.train, rows, task.findings, size=task.batch_size, steps=task.steps, seed=seed)
    for number, batch in enumerate(tqdm(batches, title, task.steps, disable=None)):
        state, loss = task.step(state, sharding.place(batch, task.mesh), seed)
        if not np.isfinite(loss):
            raise UserError(f"{title}: the loss is not finite at step {number + 1}; use a smaller --learning_rate")
    return _score(task, state.params)


def _batches(
    train: EvalSet, rows: np.ndarray, findings: Sequence[int], *, size: int, steps: int, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    """Batches over these rows, each epoch in a new order: functions of the seed and the step alone."""
    need, epoch, queue = size * steps, 0, list[int]()
    while len(queue) < need:
        queue += rows[np.random.default_rng((seed, 0, epoch)).permutation(len(rows))].tolist()
        epoch += 1
    side = train.images.shape[1]
    for number in range(steps):
        chosen = queue[number * size : (number + 1) * size]
        rng = np.random.default_rng((seed, 1, number))
        images = [augment.render(gray, augment.draw(AUGMENT, rng), side) for gray in train.images[chosen]]
        labels = train.truth[chosen][:, findings]
        known = np.isfinite(labels).astype(np.float32)
        yield {"image": np.stack(images), "labels": np.nan_to_num(labels), "known": known}


def _score(task: Task, params: Any) -> Float[np.ndarray, "n f"]:
    """In batches of one size, the last filled up by repeating its last row."""
    count, parts = len(task.test), []
    for first in range(0, count, task.batch_size):
        rows = np.minimum(np.arange(first, first + task.batch_size), count - 1)
        placed = sharding.place({"image": task.test.images[rows]}, task.mesh)
        parts.append(np.asarray(jax.device_get(task.scorer(params, placed["image"])), np.float32)[: count - first])
    return np.concatenate(parts)


if __name__ == "__main__":
    cli.run(main, parser())
