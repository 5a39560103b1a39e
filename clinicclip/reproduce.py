"""Trains and evaluates the variants of configs/ on the same studies in the same order, and puts them in a table.

OUTPUT holds a run's folder a variant and seed (VARIANT-seedS, as `clinicclip.train` makes it), results_summary.csv (a
row a variant), results_counts.csv (n and prevalence of every number), results_differences.csv (every number against
the baseline) and results.md. A child process trains each run, one after the other; the same command goes on where it
stopped, between runs and within one.
"""

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from clinicclip import cli, dataset, files, host, scoring, tabular
from clinicclip import config as config_files
from clinicclip.data import builder
from clinicclip.errors import UsageError, UserError, nearest
from clinicclip.evals import references, sets, stored, summary

VARIANTS = ("baseline", "dt", "dt_c", "n", "n_dt_c", "g", "g_dtcg", "n_g_dtcg", "off_clip", "entail")
PHANTOM = "phantom"
SAVES = 4  # a run that is short for its configuration saves at least so often
MORE = "evaluated"  # folder of further sets' results in a run's, a folder a set
Further = Mapping[str, scoring.Where]  # further sets, by name


def parser() -> cli.Parser:
    """The program's flags."""
    flags = cli.Parser(
        program="reproduce",
        description=__doc__ or "",
        example="python -m clinicclip.reproduce --data=phantom --output=runs/phantom --steps=300\n"
        "  python -m clinicclip.reproduce --data=openi:data/openi --config_arg=size=micro,fold=0 --output=runs/openi",
        overrides=True,
    )
    flags.add_argument("--data", required=True, help="NAME:DIR of a prepared folder, or phantom")
    flags.add_argument("--output", required=True, type=Path, help="folder of all runs and of the tables")
    flags.add_argument("--variants", default=",".join(VARIANTS), help=f"default: {','.join(VARIANTS)}")
    flags.add_argument("--seeds", default="0", help="whole numbers, each a run of every variant; default: 0")
    flags.add_argument("--steps", type=cli.count, default=0, help="training steps of each run; 0 = the configuration's")
    flags.add_argument("--config_arg", default="", help="further config arguments, such as size=micro,fold=0")
    sets_help = "further sets to score every run on, such as 5x200:data/chexpert@five_by_200"
    flags.add_argument("--evaluate", default="", metavar="NAME:DIR[@SPLIT],...", help=sets_help)
    return flags


class Job(NamedTuple):
    """One run: which variant and seed, and the folder it lives in."""

    variant: str
    seed: int
    folder: Path


def main(args: argparse.Namespace) -> int:
    """Trains what is not trained yet, run by run, then writes the tables."""
    jobs = [
        Job(variant, seed, args.output / f"{variant}-seed{seed}")
        for seed in _seeds(args.seeds)
        for variant in _variants(args.variants)
    ]
    # Whatever is wrong with settings or data is told before anything is trained.
    configs = [config_files.load(f"configs/{job.variant}.py:{_config_arg(args)}", args.overrides) for job in jobs]
    further = _further(args.evaluate, configs[0])
    configs[0].data.dir = str(_data_dir(args))
    dataset.prepared(configs[0])
    require_same_data(jobs, _data_dir(args))
    files.make_folder(args.output)
    try:
        with host.StopRequest() as stop, files.alone(args.output) as lock:
            child = functools.partial(_child, lock=lock, stop=stop)
            for number, job in enumerate(jobs, 1):
                lines = (train_line(job, args), *evaluate_lines(job, further))
                code = _run(job, lines, f"{number} of {len(jobs)}", child)
                if code:
                    return code
    except host.Stopped:
        print("stopped as asked, nothing is lost; the same command goes on")
        return cli.PREEMPTED
    require_same_data(jobs, _data_dir(args))
    write_tables(args.output, jobs, tuple(further))
    return 0


def _further(text: str, config: ConfigDict) -> Further:
    """The further sets, each with the split that is scored. Raises UserError when a set or its split is not there."""
    found = {}
    for name, where in scoring.places(text).items():
        split = where.split or sets.held_out_split(where.folder, config.to_dict())
        builder.open_source(where.folder, split)
        if name == config.data.name:
            raise UsageError(f"--evaluate={name}:...: every run is scored on its own {name} data; choose another name")
        found[name] = where._replace(split=split)
    return found


def require_same_data(jobs: Sequence[Job], data: Path) -> None:
    """Raises UserError when a run was begun with other records than the folder holds now, where it holds any."""
    digest = scoring.data_digest(data) if (data / "manifest.json").is_file() else ""
    for job in jobs:
        stored = job.folder / "config.json"
        told = config_files.restore(stored).data.digest if digest and stored.is_file() else digest
        if told != digest:
            raise UserError(
                f"{data} was prepared again after {job.folder} was begun ({told}, now {digest}): choose another "
                "--output, or delete that run and all that were begun before"
            )


def _data_dir(args: argparse.Namespace) -> Path:
    _, _, folder = args.data.partition(":")
    return Path(folder or args.output / "data")


def _run(job: Job, lines: Iterable[list[str]], place: str, child: Callable[[list[str], Path], int]) -> int:
    """Trains and scores one run in child processes, their output in OUTPUT/VARIANT-seedS.log. Returns the exit code."""
    log = job.folder.with_name(f"{job.folder.name}.log")
    print(f"{place}: {job.variant}, seed {job.seed} (output: {log})", flush=True)
    started = time.monotonic()
    for words in lines:
        code = child(words, log)
        if code not in (0, cli.PREEMPTED):
            raise UserError(
                f"{job.variant}, seed {job.seed}: {words[0]} ended with exit code {code}; see above and {log}"
            )
        if code:
            return code
    print(f"{place}: done in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return 0


def train_line(job: Job, args: argparse.Namespace) -> list[str]:
    """The words after ``python -m clinicclip.`` that train one run."""
    arg = _config_arg(args)
    name = f"configs/{job.variant}.py:{arg}"
    given = dict(args.overrides)
    if args.steps:
        given |= {"total_steps": str(args.steps)}
        save = config_files.load(name, args.overrides).checkpoint_every
        given.setdefault("checkpoint_every", str(min(save, max(1, args.steps // SAVES))))
    given |= {"seed": str(job.seed)}
    overrides = [f"{cli.CONFIG_OVERRIDE}{key}={value}" for key, value in given.items()]
    return ["train", f"--config={name}", f"--workdir={job.folder}", f"--data_dir={_data_dir(args)}", *overrides]


def evaluate_lines(job: Job, further: Further) -> Iterator[list[str]]:
    """The words that score a run on the further sets, each in a folder of its own, that it is not scored on yet."""
    for name, where in further.items():
        output = job.folder / MORE / name
        if not _is_scored(output, name, where):
            flags = {"checkpoint": job.folder, "data": f"{name}:{where.folder}@{where.split}", "output": output}
            yield ["evaluate", *(f"--{flag}={value}" for flag, value in flags.items())]


def _is_scored(output: Path, name: str, where: scoring.Where) -> bool:
    """Whether a folder holds results on these very records; the setting is written last."""
    if not (output / scoring.SETTING).exists():
        return False
    place = scoring.Setting.load(output).data.get(name)
    asked = str(where.folder.resolve()), where.split
    return place is not None and (place.folder, place.split) == asked and place.is_as_scored()


def _child(words: Sequence[str], log: Path, *, lock: int, stop: host.StopRequest) -> int:
    """Runs a program to its end; when this process is asked to stop, so is the child, which saves first.

    Should this process be killed, the child goes on to its end and holds the lock until then: nobody starts beside it.
    """
    line = [sys.executable, "-m", f"clinicclip.{words[0]}", *words[1:]]
    child: subprocess.Popen[bytes] | None = None
    with log.open("a") as file:
        try:
            with stop.deferred():  # no child is begun and not known of
                child = subprocess.Popen(line, stdout=file, pass_fds=(lock,))
            return child.wait()
        except (host.Stopped, KeyboardInterrupt):
            if child is not None:
                child.terminate()
                child.wait()
            raise


def write_tables(output: Path, jobs: Sequence[Job], further: Sequence[str] = ()) -> None:
    """Reads the results of all runs on their own and these further sets, writes the tables, prints the page."""
    places = {job: [job.folder / "report", *(job.folder / MORE / name for name in further)] for job in jobs}
    variants = [
        summary.Variant(name, tuple(_results(places[job]) for job in jobs if job.variant == name))
        for name in dict.fromkeys(job.variant for job in jobs)
    ]
    rows = summary.rows(variants)
    deltas = [delta._asdict() for delta in summary.deltas(variants)]
    page = summary.markdown(variants, _about(jobs, places[jobs[0]], variants), _published(places[jobs[0]]))
    files.write_whole(output / "results_summary.csv", tabular.comma_separated(rows))
    files.write_whole(output / "results_counts.csv", tabular.comma_separated(summary.counts(variants)))
    if deltas:
        files.write_whole(output / "results_differences.csv", tabular.comma_separated(deltas))
    files.write_whole(output / "results.md", page)
    print(
        f"{page}\n{output / 'results_summary.csv'}: {len(rows)} variants, {len(summary.columns(variants))} numbers each"
    )


def _results(places: Sequence[Path]) -> stored.Stored:
    """What a run's own report and the further sets' hold, together."""
    return functools.reduce(stored.joined, map(stored.read, places))


def _about(jobs: Sequence[Job], results: Sequence[Path], variants: Sequence[summary.Variant]) -> dict[str, str]:
    config = config_files.restore(jobs[0].folder / "config.json")
    about = {
        "seeds": ", ".join(str(seed) for seed in dict.fromkeys(job.seed for job in jobs)),
        "steps": f"{config.total_steps} of {config.batch_size} studies, the same in the same order for all of a seed",
        "models": "each run's last step; no checkpoint is chosen by a score",
        "trained on": f"{config.data.name}, {config.data.train} ({config.data.digest})",
    }
    for name, place in _places(results).items():
        record = next(row for (data, _), row in _results(results).records.items() if data == name)
        about[f"scored on {name}"] = f"{record['data_title']}, {place.split} ({record['data_hash']})"
    codes = {row["clinicclip"] for each in variants for run in each.runs for row in run.records.values()}
    return about | {"code": "; ".join(sorted(codes))}


def _places(results: Sequence[Path]) -> dict[str, scoring.Place]:
    """The sets that a run was scored on."""
    return {name: place for folder in results for name, place in scoring.Setting.load(folder).data.items()}


def _published(results: Sequence[Path]) -> dict[str, references.Found]:
    """By set, the published levels that stand beside what was scored."""
    found, records = {}, _results(results).records
    for name, place in _places(results).items():
        manifest = builder.read_manifest(place.folder)
        own = {metric: row for (data, metric), row in records.items() if data == name}
        truths, unread = {metric: row["truth"] for metric, row in own.items()}, next(iter(own.values()))["unread"]
        found[name] = references.of(manifest, place.split, name, truths=truths, limit=place.limit, unread=unread)
    return found


def _config_arg(args: argparse.Namespace) -> str:
    name, _, _ = args.data.partition(":")
    if name == PHANTOM and not args.config_arg:
        return "demo"
    return ",".join(filter(None, (f"data={name}", args.config_arg)))


def _variants(text: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, text.split(","))))
    for name in names:
        if name not in VARIANTS:
            raise UsageError(f"unknown variant {name!r}{nearest(name, VARIANTS)}")
    if not names:
        raise UsageError(f"--variants is empty: name some of {', '.join(VARIANTS)}")
    return names


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--seeds={text}: expected whole numbers, such as 0,1,2")
    return list(dict.fromkeys(map(int, words)))


if __name__ == "__main__":
    cli.run(main, parser())
