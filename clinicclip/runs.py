"""A run of training: its parts, and how it is scored, reported and exported."""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import clinicclip
from clinicclip import api, assemble, scoring, starting
from clinicclip.errors import UserError, nearest
from clinicclip.evals import prompts, report, sets
from clinicclip.evals.base import EmbedFns, EvalSet
from clinicclip.evals.results import Evaluation
from clinicclip.evals.suites import run_suites
from clinicclip.exporting.dialects import dialects
from clinicclip.inputs import RunInputs, open_inputs
from clinicclip.models.clip import ClinicCLIP
from clinicclip.training import metrics, processes, segments, sharding, step
from clinicclip.training.progress import say

VALIDATION = "validation"  # what the names of that split's numbers begin with


class Run(NamedTuple):
    """The parts of a run that do not change while it trains."""

    config: ConfigDict
    workdir: Path
    inputs: RunInputs
    model: ClinicCLIP
    mesh: jax.sharding.Mesh
    facts: dict[str, Any]  # stored with every checkpoint
    scorer: api.ClinicCLIP  # evaluates any parameters; compiled once
    open_set: Callable[[str], EvalSet]  # by split; read once


def set_up(config: ConfigDict, workdir: Path) -> Run:
    """Opens the data and makes, or finds in ``workdir``, what training needs beside the parameters.

    Raises:
        UserError: data or settings do not allow the run, or ``workdir`` holds another one.
    """
    assemble.check(config)
    sharding.text_groups(config.batch_size, config.microbatch, jax.device_count())
    inputs = processes.in_turn(partial(open_inputs, config, workdir))
    say(
        f"{inputs.origin.data_title}: {len(inputs.source)} training studies; {config.total_steps} steps of "
        f"{config.batch_size} on {jax.device_count()} {jax.devices()[0].platform} device(s); run folder {workdir}"
    )
    for line in starting.told(config):
        say(line)
    model = ClinicCLIP(assemble.model_spec(config))
    scorer = api.ClinicCLIP(
        spec=model.spec,
        params={},
        tokenizer=inputs.tokenizer,
        text_length=config.data.text_length,
        config=config.to_dict(),
        origin=inputs.origin,
        source=workdir.name,
    )
    return Run(
        config=config,
        workdir=workdir,
        inputs=inputs,
        model=model,
        mesh=sharding.make_mesh(),
        facts={"clinicclip": clinicclip.__version__, "data": inputs.origin.data, api.TERMS: scorer.given},
        scorer=scorer,
        open_set=functools.cache(partial(open_set, config)),
    )


def open_set(config: ConfigDict, split: str) -> EvalSet:
    """A split of the run's own data as evaluation sees it."""
    data, size = config.data, config.model.image.image_size
    return sets.open_set(data.name, data.dir, split, image_size=size, limit=config.evals.limit)


def evaluate(run: Run, state: step.TrainState, split: str, draws: int) -> tuple[api.ClinicCLIP, Evaluation]:
    """Scores the current parameters on a split of the run's own data, embedded on the devices of all processes."""
    config = run.config
    here = jax.tree.map(lambda array: array.addressable_data(0), sharding.gather(state.params, run.mesh))
    model = run.scorer.with_params(here, f"{run.workdir.name}@{int(state.step)}")
    embed = EmbedFns(images=processes.shared(model.embed_rows), texts=processes.shared(model.embed_texts))
    findings, suites = config.evals.findings, config.evals.suites
    evaluation = run_suites(
        embed, [run.open_set(split)], suites, findings=findings, draws=draws, seed=config.evals.seed
    )
    return model, evaluation


def validate(run: Run, state: step.TrainState) -> dict[str, float]:
    """The validation split's numbers by name, without intervals."""
    _, evaluation = evaluate(run, state, run.config.data.validation, draws=0)
    return {f"{VALIDATION}/{r.metric}": r.value for r in evaluation.results if np.isfinite(r.value)}


def validated(run: Run, step: int) -> bool:
    """Whether the validation split's numbers after so many steps are written down."""
    records = segments.read(run.workdir / metrics.RECORDS)
    return any(r["step"] == step and any(name.startswith(VALIDATION) for name in r["metrics"]) for r in records)


def score_of(name: str, scores: dict[str, float]) -> float | None:
    """The validation's number that checkpoints are kept by; None where none is asked for or nothing was scored.

    Raises:
        UserError: the validation has no such number.
    """
    if not name or not scores:
        return None
    if f"{VALIDATION}/{name}" not in scores:
        known = [key.removeprefix(f"{VALIDATION}/") for key in scores]
        raise UserError(f"checkpoint_best={name}: the validation has no such number{nearest(name, known)}")
    return scores[f"{VALIDATION}/{name}"]


def finish(run: Run, state: step.TrainState) -> None:
    """Scores the test split; process 0 writes the report and the export, and prints both."""
    model, evaluation = evaluate(run, state, run.config.data.test, run.config.evals.draws)
    processes.on_first(partial(publish, run, model, evaluation))


def publish(run: Run, model: api.ClinicCLIP, evaluation: Evaluation) -> None:
    """Writes the report and the export, where the model can be exported, and prints both."""
    workdir, data, evals = run.workdir, run.config.data, run.config.evals
    setting = scoring.Setting(
        checkpoint=scoring.absolute(f"{workdir}@{run.config.total_steps}"),
        data={data.name: scoring.Place(str(Path(data.dir).resolve()), data.test, evals.limit, digest=data.digest)},
        suites=tuple(evals.suites),
        findings=tuple(evals.findings),
        prompts=prompts.REPORTS.name,
        draws=evals.draws,
        seed=evals.seed,
    )
    scoring.publish(evaluation, workdir / "report", setting, model.describe())
    print("\n".join(report.summary_lines(evaluation)), flush=True)
    say(f"report: {workdir / 'report' / 'report.html'}")
    try:
        dialects(model.spec)
    except UserError as reason:
        say(str(reason))
        return
    measured = model.export(workdir / "export", report.records(evaluation, {}))
    note = "" if measured else " (equality with PyTorch was not measured: torch is not installed)"
    say(f"export: {workdir / 'export'}{note}")
