"""The first training steps of a run, as one of several processes: ids and text rows fed, losses, parameters.

python steps.py OUTPUT STEPS CONFIG KEY=VALUE ...
"""

import sys
from pathlib import Path

import jax
import numpy as np

from clinicclip import config as config_files
from clinicclip import train
from clinicclip.data import pipeline
from clinicclip.training import checkpoint, processes, sharding


def main(output: Path, steps: int, config: str, *overrides: str) -> None:
    """Leaves OUTPUT/PROCESS.npz, and parameters in OUTPUT/checkpoints."""
    processes.join()
    run = train.set_up(config_files.load(config, [tuple(pair.split("=", 1)) for pair in overrides]), output)
    step, ids, rows, losses = train.make_step(run), [], [], []
    with checkpoint.Checkpoints(output / "checkpoints") as checkpoints, train.batches(run, 0) as stream:
        state, _ = train.restore_or_init(run, checkpoints)
        for _ in range(steps):
            batch = next(stream)
            facts = {key: batch.pop(key) for key in pipeline.HOST_ONLY if key in batch}
            ids.append(facts["id"])
            rows.append(len(batch["text_ids"]) // jax.local_device_count())
            state, measured = step(state, sharding.place(batch, run.mesh))
            losses.append(float(measured["loss"]))
        checkpoints.save(steps, state, run.facts)
    np.savez(output / f"{jax.process_index()}.npz", ids=ids, rows=rows, losses=losses)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
