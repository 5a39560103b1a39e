"""A run in several processes is the run of one on as many devices: what is fed, learned, saved, measured, told."""

import json
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
from flax.traverse_util import flatten_dict

from clinicclip import cli
from clinicclip.training import checkpoint, segments

STEPS = 3
TINY = {
    "total_steps": STEPS,
    "batch_size": 16,
    "log_every": 1,
    "checkpoint_every": 1,
    "evaluate_every": 2,
    "evals.draws": 20,
    "evals.limit": 13,  # odd, so that the studies do not divide by the processes
    "evals.suites": '("zero_shot",)',
    "data.text_length": 24,  # of the texts of a device, some fill three rows and some four
    "data.vocab_size": 300,
    "data.row_step": 1,
    "data.phantom.studies": 160,
    "loss.implementation": "ring",
    "loss.block": 2,
    "model.layout": "fsdp",  # so that no process holds all parameters
    "model.dim": 32,
    "model.feature_dim": 16,
    "model.image.image_size": 32,
    "model.image.embed_dim": 16,
    "model.image.depths": "(1,)",
    "model.image.heads": "(2,)",
    "model.text.width": 32,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "model.text.mlp_width": 64,
    "model.text.max_positions": 64,
    "model.text.dropout": 0.1,
    "model.graph.hidden": 16,
    "model.graph.width": 16,
}
PLACES = {1: 4, 2: 2}  # processes: devices of each
OBSERVED = Path(processes.__file__).with_name("observed_train.py")


@pytest.fixture(scope="module")
def place(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared data, for the outputs of all processes and what they compile."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "data").symlink_to(phantom)
    return folder


def train(place: Path, name: str, count: int, stop: int = 0) -> tuple[int, list[processes.Ended]]:
    """Trains in so many processes in a folder of that name; all must end with the same code, which comes first."""
    flags = [f"--config.{key}={value}" for key, value in TINY.items()]
    where = [f"--workdir={place / name}", f"--data_dir={place / 'data'}"]
    words = [OBSERVED, place / f"{name}.fed", stop, "--config=configs/n_g_dtcg.py:demo", *where, *flags]
    ended = processes.start(words, place / "processes", processes=count, devices=PLACES[count])
    codes = {process.code for process in ended}
    assert len(codes) == 1 and codes <= {0, cli.PREEMPTED}, [process.err for process in ended]
    return codes.pop(), ended


def fed(place: Path, name: str, process: int) -> list[dict]:
    """The batches of a process, one by one."""
    return [json.loads(line) for line in (place / f"{name}.fed.{process}").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """The folder of a run of one process."""
    assert train(place, "alone", 1)[0] == 0
    return place / "alone"


@pytest.fixture(scope="module")
def together(place: Path) -> tuple[Path, list[processes.Ended]]:
    """The folder of a run of two processes, and how they ended."""
    code, ended = train(place, "together", 2)
    assert code == 0, ended
    return place / "together", ended


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    """The newest ones but for the biases of the keys: their gradient is 0, and Adam makes steps of its rounding."""
    found = flatten_dict(checkpoint.read_params(workdir / "checkpoints")[1], sep="/")
    for name in [name for name in found if name.endswith("qkv/bias")]:
        found[name] = np.delete(found[name].reshape(3, -1), 1, axis=0)
    return {name: values for name, values in found.items() if not name.endswith("key/bias")}


def assert_same_parameters(ours: Path, theirs: Path) -> None:
    found, expected = parameters(ours), parameters(theirs)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=2e-6, err_msg=name)


def assert_same_results(ours: Path, theirs: Path) -> None:
    """Equal but for the order in which floats were summed."""
    assert_same_parameters(ours, theirs)
    columns = [segments.read(folder / "metrics.jsonl") for folder in (ours, theirs)]
    assert [r["step"] for r in columns[0]] == [r["step"] for r in columns[1]] == [1, 2, 2, 3]
    for one, other in zip(*columns, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-5)
    reports = [json.loads((folder / "report" / "results.json").read_text()) for folder in (ours, theirs)]
    assert len(reports[0]) == len(reports[1]) > 10
    for one, other in zip(*reports, strict=True):
        assert (one["metric"], one["n"]) == (other["metric"], other["n"])
        found, expected = ([row[key] or 0.0 for key in ("value", "ci_low", "ci_high")] for row in (one, other))
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (ours / "DONE").read_bytes() == (theirs / "DONE").read_bytes()


def test_two_processes_are_fed_what_one_is_in_equal_shapes(
    place: Path, alone: Path, together: tuple[Path, list[processes.Ended]]
) -> None:
    whole, *parts = fed(place, "alone", 0), fed(place, "together", 0), fed(place, "together", 1)
    assert len(whole) == STEPS
    for one, first, second in zip(whole, *parts, strict=True):
        assert first["ids"] + second["ids"] == one["ids"]
        assert first["rows"] == second["rows"] == one["rows"]


def test_two_processes_make_the_run_of_one(alone: Path, together: tuple[Path, list[processes.Ended]]) -> None:
    workdir, (first, second) = together
    assert_same_results(workdir, alone)
    assert f"step {STEPS}" in first.out and "report.html" in first.out
    assert "step" not in second.out and "report" not in second.out


def test_one_process_asked_to_stop_stops_all_and_another_number_of_them_goes_on(place: Path, alone: Path) -> None:
    workdir = shutil.copytree(alone, place / "stopped")
    (workdir / "DONE").unlink()
    for name in ("report", "export", "checkpoints/2", "checkpoints/3"):
        shutil.rmtree(workdir / name)  # what is left was saved by one process after a step
    code, (first, _) = train(place, "stopped", 2, stop=1)
    assert code == cli.PREEMPTED
    assert "resuming at step 1" in first.out and "nothing is lost" in first.out
    assert not (workdir / "DONE").exists() and not (workdir / "report").exists()
    code, (process,) = train(place, "stopped", 1)
    assert code == 0 and "resuming at step 2" in process.out
    assert_same_results(workdir, alone)


def test_a_fault_of_process_0_ends_all_with_its_line(place: Path) -> None:
    words = ["-m", "clinicclip.train", "--config=configs/dt_c.py:data=openi,size=micro,text=scratch"]
    words += [f"--data_dir={place / 'nowhere'}", f"--workdir={place / 'faulty'}"]
    ended = processes.start(words, place / "processes", processes=2, devices=1)
    assert [process.code for process in ended] == [1, 1]
    for process in ended:
        (line,) = [line for line in process.err.splitlines() if not line.startswith("[Gloo]")]
        assert line.startswith("error: no prepared data in") and "clinicclip.prepare openi" in line
    assert not (place / "faulty").exists()
