"""Trains one configuration from prepared data to a report and an export; the same command resumes.

    python -m clinicclip.train --config=configs/n_g_dtcg.py:demo

The run's folder holds config.json, tokenizer/, checkpoints/STEP/, metrics.jsonl, tensorboard/, report/, export/
and, once everything is there, DONE. Started in several processes (see `training.processes.join`), the same command
in each, it is one run on the devices of all, in a folder that all see and process 0 writes.
"""

from clinicclip import cli

if __name__ == "__main__":
    cli.stoppable()  # before all that takes seconds to import

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from clinicclip import assemble, dataset, devices, expected, files, host, preflight, runs
from clinicclip import config as config_files
from clinicclip.data import pipeline
from clinicclip.inputs import require_same_run
from clinicclip.models.clip import ClinicCLIP
from clinicclip.skipped import Skipped
from clinicclip.training import abstract, checkpoint, lost, metrics, processes, sharding, step, watch
from clinicclip.training.abstract import Sizes
from clinicclip.training.arithmetic import step_flops
from clinicclip.training.progress import Log, say

HANDOVER = 100.0  # seconds for another start of this run that is being killed, or whose NFS lease has to run out
DONE = "DONE"  # in the run's folder, once everything is there: the settings as they were asked for


def parser() -> cli.Parser:
    """The command line."""
    p = cli.Parser(
        program="train",
        description="Train, evaluate and export one configuration. The same command resumes a stopped run.",
        example="python -m clinicclip.train --config=configs/n_g_dtcg.py:demo --config.seed=1 --workdir=runs/seed1",
        overrides=True,
        stores=("--data_dir", "--config.data.dir"),
    )
    p.add_argument(
        "--config", required=True, metavar="FILE[:ARG]", help="a file of configs/, e.g. configs/dt_c.py:demo"
    )
    p.add_argument("--workdir", metavar="DIR", help="where the run lives (default runs/<config>[-<arg>])")
    p.add_argument("--data_dir", metavar="DIR", help="prepared data, also gs:// or s3:// (default config.data.dir)")
    p.add_argument(
        "--profile_steps", type=steps, default=range(0), metavar="A:B", help="trace these steps into WORKDIR/profile"
    )
    return p


def steps(text: str) -> range:
    """The argparse type of A:B, the steps from A to before B."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"expected FIRST:LAST such as 100:105, not {text!r}")
    return range(int(first), int(last))


def main(args: argparse.Namespace) -> int:
    """Loads the configuration and trains."""
    config = configured(args)
    workdir = Path(args.workdir) if args.workdir else config_files.default_workdir(args.config)
    with lost.bound(config.heartbeat_timeout):
        try:
            with host.StopRequest():
                preflight.start(config, workdir)
        except host.Stopped:
            return cli.PREEMPTED
        return train(config, workdir, args.profile_steps)


def configured(args: argparse.Namespace) -> ConfigDict:
    """The configuration of a command line, in a process made ready to train."""
    host.tune_allocator()
    host.keep_compiled()
    config = config_files.load(args.config, args.overrides)
    if args.data_dir:
        config.data.dir = args.data_dir
    return config


def train(config: ConfigDict, workdir: Path, traced: range = range(0)) -> int:
    """Runs the configuration to its end in ``workdir``. Returns the exit code: 0 complete, 75 preempted.

    The steps of ``traced`` are profiled.

    Raises:
        UserError: data, settings or an earlier run in ``workdir`` do not allow it, or the loss is not finite.
    """
    asked, done = ConfigDict(config.to_dict()), workdir / DONE
    if processes.everywhere(done.exists)[0]:
        processes.on_first(partial(require_same_run, done, asked))
        say(f"{workdir} is complete: its numbers are in {workdir / 'report' / 'report.html'}")
        return 0
    try:
        with (
            host.StopRequest(processes.anywhere if jax.process_count() > 1 else None) as stop,
            held(config, workdir),
            watch.Watch(workdir, config.watchdog, traced, ends=config.watchdog_ends) as watched,
        ):
            run = runs.set_up(config, workdir)
            state = fit(run, stop, watched)
            runs.finish(run, state)
    except host.Stopped:
        say("stopped as asked, nothing is lost; the same command goes on")
        return cli.PREEMPTED
    processes.on_first(partial(config_files.save, asked, done))
    return 0


def fit(run: runs.Run, stop: host.StopRequest, watched: watch.Watch) -> step.TrainState:
    """The loop: evaluate, save, next batch, step, log. Raises host.Stopped, with all saved, when asked to stop."""
    config = run.config
    with (
        checkpoint.Checkpoints(run.workdir / "checkpoints", config.checkpoint_keep) as checkpoints,
        tqdm(total=config.total_steps, unit="step", disable=not (processes.first() and sys.stderr.isatty())) as bar,
    ):
        state, start = restore_or_init(run, checkpoints)
        processes.on_first(partial(preflight.require_room, run.workdir, state))
        bar.update(start)
        step_fn = make_step(run.config, run.model, run.mesh)
        with (
            stop.deferred(),
            batches(run, start) as stream,
            closing(open_writer(run, start)) as writer,
        ):
            device = devices.known(jax.devices()[0].device_kind)
            log = Log(writer, bar, config.batch_size, device and device.flops, {"seed": config.seed, **run.facts})
            unscored = not processes.everywhere(lambda: processes.first() and runs.validated(run, start))[0]
            known = checkpoint.read_facts(run.workdir / "checkpoints", start) if start else {}
            skipped = Skipped(writer, run.inputs.source, config.data.max_corrupt, config.batch_size, known)
            for now in range(start, config.total_steps + 1):
                watched.step(now, state)
                last, stopping = now == config.total_steps, stop.requested  # looked at once: it may change any moment
                scores: dict[str, float] = {}
                if due(now, config.evaluate_every) and (now > start or unscored) and not last:
                    log.check()
                    try:
                        with stop.cuttable():
                            scores = runs.validate(run, state)
                        writer.write(now, scores, {})
                        log.restart()
                    except host.Stopped:  # saved as it is; what goes on from there makes up for it
                        stopping = True
                best = runs.score_of(config.checkpoint_best, scores)
                if (due(now, config.checkpoint_every) and now > start) or best is not None or last or stopping:
                    log.check()
                    checkpoints.save(now, state, run.facts | skipped.facts, best)
                if last or stopping:
                    checkpoints.wait()
                    break
                waited = time.perf_counter()
                batch = next(stream)
                waited = time.perf_counter() - waited
                batch_facts = {key: batch.pop(key) for key in pipeline.HOST_ONLY if key in batch}
                if batch_facts["skipped"]:
                    log.check()
                numbers = batch_facts.pop("corrupt")
                batch_facts["skipped"] = skipped.add(now + 1, batch_facts["skipped"], numbers)
                batch = sharding.place(batch, run.mesh)
                state, measured = step_fn(state, batch)
                write = due(now + 1, config.log_every) or now + 1 == config.total_steps
                sizes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}
                flops = arithmetic(config, run.model, sizes, run.mesh.size)
                if now == start:  # compiled just now, and not once more for this
                    compiled = abstract.compile_step(step_fn, state, batch)
                    planned = expected.of(compiled, state, sizes, flops=flops, devices=run.mesh.size)
                    log.compare(partial(expected.beside, planned, device=device))
                log.add(now + 1, measured, batch_facts, waited, flops=sum(flops.values()), write=write)
    return state


@contextmanager
def held(config: ConfigDict, workdir: Path) -> Iterator[None]:
    """Makes the run's folder, once settings and data allow it, and keeps every other start of this run out of it.

    Raises:
        UserError: they do not, or another start is at work.
    """
    with ExitStack() as stack:

        def hold() -> None:
            assemble.check(config)
            dataset.require_data(config)
            files.make_folder(workdir)
            stack.enter_context(files.alone(workdir, HANDOVER))

        processes.on_first(hold)
        yield


def arithmetic(config: ConfigDict, model: ClinicCLIP, batch: Sizes, devices: int) -> dict[str, float]:
    """Operations of one device in a step, by part and by formula."""
    again = 0 < config.microbatch < config.batch_size // devices
    parts = step_flops(model.spec, assemble.loss_spec(config), batch, recomputed=again)
    return {part: count / devices for part, count in parts.items()}


def restore_or_init(run: runs.Run, checkpoints: checkpoint.Checkpoints) -> tuple[step.TrainState, int]:
    """The newest saved state and its step, or a fresh state and 0."""
    latest = checkpoints.latest
    config = run.config
    tx, layout = assemble.optimizer(config), config.model.layout
    if latest is None:
        return step.init_state(assemble.initial_params(config), tx, run.mesh, layout), 0
    say(f"resuming at step {latest}")
    return checkpoints.restore(latest, abstract.state(run.model, tx, run.mesh, layout)), latest


def open_writer(run: runs.Run, start: int) -> metrics.MetricWriter | metrics.NoWriter:
    """What a run writes down as it goes, in process 0."""
    return processes.on_first(partial(metrics.MetricWriter, run.workdir, start)) or metrics.NoWriter()


def make_step(config: ConfigDict, model: ClinicCLIP, mesh: jax.sharding.Mesh) -> step.Step:
    """The compiled training step a resolved configuration describes."""
    return step.make_train_step(
        model,
        assemble.optimizer(config),
        assemble.loss_spec(config),
        mesh,
        seed=config.seed,
        microbatch=config.microbatch,
        alpha_schedule=assemble.alpha_schedule(config),
        learn_tau=config.model.learn_temperature,
        layout=config.model.layout,
        frozen=assemble.frozen_paths(config),
    )


def batches(run: runs.Run, start: int) -> pipeline.Batches:
    """Host batches from step ``start`` on."""
    config = run.config
    local = config.batch_size // jax.process_count()
    return pipeline.train_batches(
        run.inputs.source,
        tokenizer=run.inputs.tokenizer,
        features=run.inputs.features,
        spec=assemble.train_spec(config),
        seed=config.seed,
        batch_size=config.batch_size,
        start_step=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        everywhere=processes.everywhere,
        groups=sharding.text_groups(local, config.microbatch, jax.local_device_count()),
        workers=config.data.workers,
        threads=config.data.threads,
    )


def due(now: int, every: int) -> bool:
    """Whether something done every so many steps is done after ``now`` steps; 0 = never."""
    return every > 0 and now > 0 and now % every == 0


if __name__ == "__main__":
    cli.run(main, parser())
