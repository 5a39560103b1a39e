"""The program `clinicclip.train`, with the batches that each process is fed written down.

python observed_train.py FILE STOP FLAG ...: FILE.PROCESS gets a JSON line a batch, with the step that learns from it.
In process 1, the batch of number STOP (from 1; 0 = none) comes with a SIGTERM.
"""

import json
import signal
import sys

import jax

from clinicclip import cli, runs, train
from clinicclip.data.pipeline import Batch, Batches, TrainBatches

unseen, batches, count, first = TrainBatches.__next__, train.batches, 0, 0


def begun(run: runs.Run, start: int) -> Batches:
    """The stream of batches, as it is."""
    global first
    first = start
    return batches(run, start)


def observed(stream: TrainBatches) -> Batch:
    """The next batch, as it is."""
    global count
    batch, count = unseen(stream), count + 1
    rows = len(batch["text_ids"]) // jax.local_device_count()
    with open(f"{sys.argv[1]}.{jax.process_index()}", "a") as file:
        file.write(json.dumps({"step": first + count, "ids": batch["id"].tolist(), "rows": rows}) + "\n")
    if count == int(sys.argv[2]) and jax.process_index() == 1:
        signal.raise_signal(signal.SIGTERM)
    return batch


if __name__ == "__main__":
    train.batches = begun
    TrainBatches.__next__ = observed  # type: ignore[method-assign]
    sys.exit(cli.call(train.main, train.parser(), sys.argv[3:]))
