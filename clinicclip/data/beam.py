"""Apache Beam as the way past one machine: a pipeline that reads a release and makes its shards on many workers.

The pipeline's shards are those that `prepare` makes by itself, under the same names: the usual pass that follows finds
them finished, accounts for them in the reader's order, and makes what is missing. All workers must have this version of
the package, and must see source and output as folders under the same paths (a shared disk): nothing is read or written
in a bucket, so that Dataflow needs a network disk mounted in its workers' container.
"""

import logging
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from clinicclip.data import shards
from clinicclip.data.shards import Task
from clinicclip.errors import UserError

RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner")
INSTALL = "pip install 'clinicclip[beam]'"


class Runner(NamedTuple):
    """What runs a pipeline, and Beam's own options for it, such as ``--region=europe-west4``."""

    name: str
    options: tuple[str, ...] = ()


def make_shards(tasks: Callable[[], Iterator[Task]], runner: Runner, source: Path | None = None) -> None:
    """Makes the shards of ``tasks``, which a worker lists and all others share; the callable must be picklable.

    ``source`` is the folder they are read from, if any. Raises UserError when Beam is not installed, when a worker
    does not see that folder or the one to write to, or by what a worker raised as one.
    """
    beam = _beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)  # tracebacks of what is raised, too
    options = PipelineOptions([f"--runner={runner.name}", *runner.options])
    try:
        with beam.Pipeline(options=options) as pipeline:
            listed = (
                pipeline
                | beam.Create([0])
                | "list" >> beam.FlatMap(partial(_list, tasks, source)).with_output_types(object)
            )
            _ = listed | beam.Reshuffle() | "make" >> beam.Map(_make).with_output_types(int)
    except Exception as fault:  # of a worker, told in its own exception or as a text in one of Beam's
        said = re.search(r"UserError: (.+?)(?: \[while running|\n|$)", f"{type(fault).__name__}: {fault}")
        if said is None:
            raise
        raise UserError(said[1]) from None


def _list(tasks: Callable[[], Iterator[Task]], source: Path | None, _: int) -> Iterator[Task]:
    _require(source)
    yield from tasks()


def _make(task: Any) -> int:  # not Task: of named tuples Beam would make rows of its own
    _require(task.folder)
    return shards.make(task).records


def _require(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise UserError(
            f"the Beam worker {socket.gethostname()} sees no folder {folder}: give --source and --output on a disk "
            "that all workers mount under the same path (nothing is read or written in gs:// or other buckets)"
        )


def _beam() -> Any:
    try:
        import apache_beam
    except ImportError:
        raise UserError(f"--runner needs Apache Beam: {INSTALL}") from None
    return apache_beam
