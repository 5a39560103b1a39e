"""The program `clinicclip.train`, with the batches that each process is fed written down.

python observed_train.py FILE STOP FLAG ...: FILE.PROCESS gets a JSON line a batch. In process 1, the batch of number
STOP (from 1; 0 = none) comes with a SIGTERM.
"""

import json
import signal
import sys

import jax

from clinicclip import cli, train
from clinicclip.data.pipeline import Batch, TrainBatches

unseen, count = TrainBatches.__next__, 0


def observed(stream: TrainBatches) -> Batch:
    """The next batch, as it is."""
    global count
    batch, count = unseen(stream), count + 1
    rows = [len(batch[f"{name}_ids"]) // jax.local_device_count() for name in ("text", "negated")]
    with open(f"{sys.argv[1]}.{jax.process_index()}", "a") as file:
        file.write(json.dumps({"ids": batch["id"].tolist(), "rows": rows}) + "\n")
    if count == int(sys.argv[2]) and jax.process_index() == 1:
        signal.raise_signal(signal.SIGTERM)
    return batch


if __name__ == "__main__":
    TrainBatches.__next__ = observed  # type: ignore[method-assign]
    sys.exit(cli.call(train.main, train.parser(), sys.argv[3:]))
