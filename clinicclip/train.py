"""Trains one configuration from prepared data to a report and an export; the same command resumes.

    python -m clinicclip.train --config=configs/n_g_dtcg.py:demo

The run's folder holds config.json, tokenizer/, checkpoints/STEP/, metrics.jsonl, tensorboard/, report/, export/
and, once everything is there, DONE.
"""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

import clinicclip
from clinicclip import api, assemble, cli, files, host
from clinicclip import config as config_files
from clinicclip.data import builder, pipeline
from clinicclip.data.features import FeatureTable
from clinicclip.data.pipeline import Source
from clinicclip.data.tokenizer import Tokenizer
from clinicclip.errors import UserError
from clinicclip.evals import report, sets
from clinicclip.evals.base import EmbedFns, Evaluation
from clinicclip.evals.suites import run_suites
from clinicclip.exporting.dialects import dialects
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import checkpoint, metrics, sharding, step

# What may change between the first start of a run and its resumption: nothing that alters its result.
FREE_TO_CHANGE = (
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "data.workers",
    "data.threads",
    "data.memory_bytes",
    "data.dir",
    "evals.",
)


def parser() -> cli.Parser:
    """The command line."""
    p = cli.Parser(
        program="train",
        description="Train, evaluate and export one configuration. The same command resumes a stopped run.",
        example="python -m clinicclip.train --config=configs/n_g_dtcg.py:demo --config.seed=1",
        overrides=True,
    )
    p.add_argument(
        "--config", required=True, metavar="FILE[:ARG]", help="a file of configs/, e.g. configs/dt_c.py:demo"
    )
    p.add_argument("--workdir", metavar="DIR", help="where the run lives (default runs/<config>[-<arg>])")
    p.add_argument("--data_dir", metavar="DIR", help="prepared data (default config.data.dir)")
    return p


def main(args: argparse.Namespace) -> int:
    """Loads the configuration and trains."""
    host.tune_allocator()
    config = config_files.load(args.config, args.overrides)
    if args.data_dir:
        config.data.dir = args.data_dir
    workdir = Path(args.workdir) if args.workdir else config_files.default_workdir(args.config)
    return train(config, workdir)


def train(config: ConfigDict, workdir: Path) -> int:
    """Runs the configuration to its end in ``workdir``. Returns the exit code: 0 complete, 75 preempted.

    Raises:
        UserError: data, settings or an earlier run in ``workdir`` do not allow it, or the loss is not finite.
    """
    if (workdir / "DONE").exists():
        say(f"{workdir} is complete: its numbers are in {workdir / 'report' / 'report.md'}")
        return 0
    run = set_up(config, workdir)
    stop = StopRequest()
    with (
        checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints,
        tqdm(total=config.total_steps, unit="step", disable=not sys.stderr.isatty()) as bar,
    ):
        state, start = restore_or_init(run, checkpoints)
        bar.update(start)
        step_fn = make_step(run)
        with batches(run, start) as stream, closing(metrics.MetricWriter(workdir, start)) as writer:
            log = Log(writer, bar, config.batch_size)
            for now in range(start, config.total_steps + 1):
                last = now == config.total_steps
                if due(now, config.evaluate_every) and now > start and not last:
                    writer.write(now, validate(run, state), {})
                if (due(now, config.checkpoint_every) and now > start) or last or stop.requested:
                    log.check()
                    checkpoints.save(now, state, run.facts)
                if last:
                    break
                if stop.requested:
                    checkpoints.wait()
                    say(f"stopped at step {now}, everything saved; the same command goes on")
                    return cli.PREEMPTED
                waited = time.perf_counter()
                batch = next(stream)
                waited = time.perf_counter() - waited
                host = {key: batch.pop(key) for key in pipeline.HOST_ONLY if key in batch}
                state, measured = step_fn(state, sharding.place(batch, run.mesh))
                log.add(
                    now + 1,
                    measured,
                    host,
                    waited,
                    write=due(now + 1, config.log_every) or now + 1 == config.total_steps,
                )
        checkpoints.wait()
    stop.release()
    finish(run, state)
    files.write_whole(workdir / "DONE", f"{config.total_steps} steps\n")
    return 0


class Run(NamedTuple):
    """The parts of a run that do not change while it trains."""

    config: ConfigDict
    workdir: Path
    manifest: dict[str, Any]
    source: Source
    tokenizer: Tokenizer
    features: FeatureTable | None
    model: ClinicCLIP
    mesh: jax.sharding.Mesh
    facts: dict[str, str]  # stored with every checkpoint


def set_up(config: ConfigDict, workdir: Path) -> Run:
    """Opens the data and makes, or finds in ``workdir``, what training needs beside the parameters."""
    manifest = assemble.require_data(config)
    source = pipeline.Remembered(builder.open_source(config.data.dir, config.data.train), config.data.memory_bytes)
    config.data.digest = assemble.data_digest(manifest)
    workdir.mkdir(parents=True, exist_ok=True)
    tokenizer, features = (resume_inputs if (workdir / "config.json").exists() else first_inputs)(
        config, workdir, source, manifest
    )
    say(
        f"{manifest['title']}: {len(source)} training studies; {config.total_steps} steps of {config.batch_size} "
        f"on {jax.device_count()} {jax.devices()[0].platform} device(s); run folder {workdir}"
    )
    facts = {"clinicclip": clinicclip.__version__, "data": manifest["name"]}
    model = ClinicCLIP(assemble.model_spec(config))
    return Run(config, workdir, manifest, source, tokenizer, features, model, sharding.make_mesh(), facts)


def first_inputs(
    config: ConfigDict, workdir: Path, source: Source, manifest: dict[str, Any]
) -> tuple[Tokenizer, FeatureTable | None]:
    """Makes tokenizer and frozen features, stores them, and last the resolved configuration."""
    tokenizer = assemble.make_tokenizer(config, source, manifest)
    assemble.resolve(config, studies=len(source), tokenizer=tokenizer)
    tokenizer.save(workdir / "tokenizer", config.data.text_length)
    features = assemble.frozen_features(config, source, workdir)
    if features is not None:
        features.save(workdir / "features.safetensors")
    facts = dataclasses.asdict(assemble.origin(config, manifest, workdir.name))
    files.write_whole(workdir / api.ORIGIN, json.dumps(facts, indent=1) + "\n")
    config_files.save(config, workdir / "config.json")
    return tokenizer, features


def resume_inputs(
    config: ConfigDict, workdir: Path, source: Source, manifest: dict[str, Any]
) -> tuple[Tokenizer, FeatureTable | None]:
    """Reads what the first start stored, after checking that this is the same run.

    Raises:
        UserError: the settings differ from those the run was started with.
    """
    tokenizer = Tokenizer.load(str(workdir / "tokenizer"))
    assemble.resolve(config, studies=len(source), tokenizer=tokenizer)
    changed = config_files.differences(config_files.restore(workdir / "config.json"), config)
    changed = [key for key in changed if not key.startswith(FREE_TO_CHANGE)]
    if changed:
        shown = ", ".join(changed[:5])
        raise UserError(f"{workdir} holds a run with other settings ({shown}); choose another --workdir or delete it")
    stored = workdir / "features.safetensors"
    return tokenizer, FeatureTable.load(stored) if stored.exists() else None


def restore_or_init(run: Run, checkpoints: checkpoint.Checkpoints) -> tuple[step.TrainState, int]:
    """The newest saved state and its step, or a fresh state and 0."""
    latest = checkpoints.latest
    state = step.init_state(assemble.initial_params(run.config), assemble.optimizer(run.config), run.mesh)
    if latest is None:
        return state, 0
    say(f"resuming at step {latest}")
    return checkpoints.restore(latest, state), latest


def make_step(run: Run) -> step.Step:
    """The compiled training step of a run."""
    config = run.config
    return step.make_train_step(
        run.model,
        assemble.optimizer(config),
        assemble.loss_spec(config),
        run.mesh,
        seed=config.seed,
        microbatch=config.microbatch,
        alpha_schedule=assemble.alpha_schedule(config),
        learn_tau=config.model.learn_temperature,
        frozen=assemble.frozen_paths(config),
    )


def batches(run: Run, start: int) -> pipeline.Batches:
    """Host batches from step ``start`` on."""
    config = run.config
    processes = jax.process_count()
    local = config.batch_size // processes
    return pipeline.train_batches(
        run.source,
        tokenizer=run.tokenizer,
        features=run.features,
        spec=assemble.train_spec(config),
        seed=config.seed,
        batch_size=config.batch_size,
        start_step=start,
        process_index=jax.process_index(),
        process_count=processes,
        groups=sharding.text_groups(local, config.microbatch, jax.local_device_count()),
        workers=config.data.workers,
        threads=config.data.threads,
    )


def due(now: int, every: int) -> bool:
    """Whether something done every so many steps is done after ``now`` steps; 0 = never."""
    return every > 0 and now > 0 and now % every == 0


class StopRequest:
    """SIGTERM as a flag: the loop saves and leaves at the next step."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._request)

    def release(self) -> None:
        """From here on SIGTERM ends the process as usual: nothing is left that a stop could lose."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


class Log:
    """Collects steps and writes some; looks at each result one step late, so that the device never waits for it."""

    def __init__(self, writer: metrics.MetricWriter, bar: tqdm, batch_size: int) -> None:
        self._writer, self._bar, self._batch_size = writer, bar, batch_size
        self._pending: tuple[int, Mapping[str, jax.Array], Mapping[str, Any], bool] | None = None
        self._clock, self._steps, self._waited = time.perf_counter(), 0, 0.0

    def add(
        self,
        now: int,
        measured: Mapping[str, jax.Array],
        host: Mapping[str, Any],
        waited: float,
        *,
        write: bool,
    ) -> None:
        """Takes one step's metrics; ``waited`` seconds went by before its batch was there."""
        self.check()
        self._pending = (now, measured, host, write)
        self._steps += 1
        self._waited += waited

    def check(self) -> None:
        """Looks at the step added last. Raises UserError with the record ids when its loss is not finite."""
        if self._pending is None:
            return
        now, measured, host, write = self._pending
        self._pending = None
        if not bool(measured["finite"]):
            ids = ", ".join(map(str, np.ravel(host["id"])))
            raise UserError(
                f"step {now}: loss or gradient is not finite; no parameter was changed by it. Records: {ids}"
            )
        self._bar.update()
        if write:
            values = {k: float(v) for k, v in jax.device_get(dict(measured)).items() if k != "finite"}
            self._write(now, values | {k: float(host[k]) for k in pipeline.COUNTS if k in host})

    def _write(self, now: int, values: dict[str, float]) -> None:
        seconds = max(time.perf_counter() - self._clock, 1e-9)
        timing = {
            "studies_per_second": self._steps * self._batch_size / seconds,
            "data_wait_share": self._waited / seconds,
        }
        self._writer.write(now, values, timing)
        line = f"loss {values['loss']:.3f}  {timing['studies_per_second']:.0f} studies/s"
        self._bar.set_postfix_str(line)
        if self._bar.disable:
            say(f"step {now}: {line}, waiting for data {timing['data_wait_share']:.1%}")
        self._clock, self._steps, self._waited = time.perf_counter(), 0, 0.0


def evaluate(run: Run, state: step.TrainState, split: str, draws: int) -> tuple[api.ClinicCLIP, Evaluation]:
    """Scores the current parameters on a split of the run's own data."""
    config = run.config
    model = api.ClinicCLIP(
        spec=run.model.spec,
        params=jax.device_get(state.params),
        tokenizer=run.tokenizer,
        text_length=config.data.text_length,
        config=config.to_dict(),
        origin=api.read_origin(run.workdir),
        source=f"{run.workdir.name}@{int(state.step)}",
    )
    evalset = sets.open_set(
        config.data.name, config.data.dir, split, image_size=model.image_size, limit=config.evals.limit
    )
    embed = EmbedFns(images=model.embed_images, texts=model.embed_texts)
    findings, suites = config.evals.findings, config.evals.suites
    return model, run_suites(embed, [evalset], suites, findings=findings, draws=draws, seed=config.evals.seed)


def validate(run: Run, state: step.TrainState) -> dict[str, float]:
    """The validation split's numbers by name, without intervals."""
    _, evaluation = evaluate(run, state, run.config.data.validation, draws=0)
    return {f"validation/{r.metric}": r.value for r in evaluation.results if np.isfinite(r.value)}


def finish(run: Run, state: step.TrainState) -> None:
    """Writes the report on the test split and the export, and prints both."""
    config, workdir = run.config, run.workdir
    model, evaluation = evaluate(run, state, config.data.test, config.evals.draws)
    report.write(evaluation, workdir / "report", provenance=model.describe())
    print("\n".join(report.summary_lines(evaluation)), flush=True)
    say(f"report: {workdir / 'report' / 'report.md'}")
    try:
        dialects(model.spec)
    except UserError as reason:
        say(str(reason))
        return
    model.export(workdir / "export", report.records(evaluation, {}))
    say(f"export: {workdir / 'export'}")


def say(line: str) -> None:
    """A line for the person who watches, from the first process only."""
    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


if __name__ == "__main__":
    cli.run(main, parser())
