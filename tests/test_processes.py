"""A run in several processes is the run of one on as many devices: what is fed, learned, saved, measured, told."""

import json
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
from flax.traverse_util import flatten_dict

from clinicclip import cli
from clinicclip.data import builder
from clinicclip.training import checkpoint, metrics

STEPS = 4
TINY = {
    "total_steps": STEPS,
    "batch_size": 16,
    "log_every": 1,
    "checkpoint_every": 2,
    "evaluate_every": 3,
    "evals.draws": 20,
    "evals.limit": 13,  # odd, so that the studies do not divide by the processes
    "evals.suites": '("zero_shot",)',
    "data.text_length": 24,  # so short that the processes' texts take different numbers of rows
    "data.vocab_size": 300,
    "data.row_step": 1,
    "data.phantom.studies": 160,
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
# The command of `python -m clinicclip.train`, with a SIGTERM to process 1 while it makes the third step.
STOPPED = """
import signal, jax
from clinicclip import cli, train
make_step = train.make_step
def stopping(run):
    step = make_step(run)
    def stepped(state, batch):
        if int(state.step) == 2 and jax.process_index() == 1:
            signal.raise_signal(signal.SIGTERM)
        return step(state, batch)
    return stepped
train.make_step = stopping
cli.run(train.main, train.parser())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared data, for the outputs of all processes and what they compile."""
    folder = tmp_path_factory.mktemp("processes")
    options = {"level": "easy", "studies": 160, "size": 64}
    builder.write("phantom", folder / "data", options=options, say=lambda line: None)
    return folder


def train(place: Path, workdir: Path, count: int, command: tuple[str, ...] = ("-m", "clinicclip.train")):
    """Runs the program in so many processes; every one must end with the same code, which is returned with them."""
    flags = [f"--config.{key}={value}" for key, value in TINY.items()]
    where = ["--config=configs/baseline.py:demo", f"--workdir={workdir}", f"--data_dir={place / 'data'}"]
    ended = processes.start([*command, *where, *flags], place / "run", processes=count, devices=PLACES[count])
    codes = {process.code for process in ended}
    assert len(codes) == 1 and codes <= {0, cli.PREEMPTED}, [process.err for process in ended]
    return codes.pop(), ended


@pytest.fixture(scope="module")
def alone(place: Path) -> Path:
    """The folder of a run of one process."""
    assert train(place, place / "alone", 1)[0] == 0
    return place / "alone"


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
    columns = [metrics.read(folder / "metrics.jsonl") for folder in (ours, theirs)]
    assert [r["step"] for r in columns[0]] == [r["step"] for r in columns[1]] == [1, 2, 3, 3, 4]
    for one, other in zip(*columns, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-5)
    reports = [json.loads((folder / "report" / "results.json").read_text()) for folder in (ours, theirs)]
    assert len(reports[0]) == len(reports[1]) > 10
    for one, other in zip(*reports, strict=True):
        assert (one["metric"], one["n"]) == (other["metric"], other["n"])
        found, expected = ([row[key] or 0.0 for key in ("value", "ci_low", "ci_high")] for row in (one, other))
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert (ours / "DONE").read_bytes() == (theirs / "DONE").read_bytes()


def test_two_processes_are_fed_and_learn_what_one_is_and_does(place: Path) -> None:
    settings = [f"{key}={value}" for key, value in (TINY | {"data.dir": place / "data"}).items()]
    found = {}
    for count, devices in PLACES.items():
        folder = place / f"steps{count}"
        script = Path(processes.__file__).with_name("steps.py")
        words = [script, folder, 3, "configs/n_g_dtcg.py:demo", *settings]
        ended = processes.start(words, place / "steps", processes=count, devices=devices)
        assert [process.code for process in ended] == [0] * count, [process.err for process in ended]
        found[count] = [np.load(folder / f"{index}.npz") for index in range(count)]
    (one,), two = found[1], found[2]
    np.testing.assert_array_equal(np.concatenate([part["ids"] for part in two], axis=1), one["ids"])
    for part in two:
        np.testing.assert_array_equal(part["rows"], one["rows"])
        np.testing.assert_allclose(part["losses"], one["losses"], rtol=1e-6)
    assert_same_parameters(place / "steps2", place / "steps1")


def test_the_command_in_two_processes_makes_the_run_of_one(place: Path, alone: Path) -> None:
    code, (first, second) = train(place, place / "together", 2)
    assert code == 0
    assert_same_results(place / "together", alone)
    assert "step 4" in first.out and "report.md" in first.out
    assert not [line for line in second.out.splitlines() if not line.startswith("[Gloo]")]


def test_one_process_asked_to_stop_stops_all_and_another_number_of_them_goes_on(place: Path, alone: Path) -> None:
    workdir = shutil.copytree(alone, place / "stopped")
    (workdir / "DONE").unlink()
    for name in ("report", "export", f"checkpoints/{STEPS}"):
        shutil.rmtree(workdir / name)  # what is left was saved by one process after two steps
    code, ended = train(place, workdir, 2, ("-c", STOPPED))
    assert code == cli.PREEMPTED
    assert "resuming at step 2" in ended[0].out and "nothing is lost" in ended[0].out
    assert not (workdir / "DONE").exists() and not (workdir / "report").exists()
    code, (process,) = train(place, workdir, 1)
    assert code == 0 and "resuming at step 3" in process.out
    assert_same_results(workdir, alone)


def test_a_fault_of_process_0_ends_all_with_its_line(place: Path) -> None:
    words = ["-m", "clinicclip.train", "--config=configs/dt_c.py:data=openi,size=micro,text=scratch"]
    words += [f"--data_dir={place / 'nowhere'}", f"--workdir={place / 'faulty'}"]
    ended = processes.start(words, place / "fault", processes=2, devices=1)
    assert [process.code for process in ended] == [1, 1]
    for process in ended:
        (line,) = [line for line in process.err.splitlines() if not line.startswith("[Gloo]")]
        assert line.startswith("error: no prepared data in") and "clinicclip.prepare openi" in line
    assert not (place / "faulty").exists()
