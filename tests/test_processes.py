"""A run in several processes is the run of one on as many devices: what is fed, learned, saved, measured, told."""

import json
import platform
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import jax
import local
import numpy as np
import processes
import pytest
from flax.traverse_util import flatten_dict

from clinicclip import cli
from clinicclip.data import builder
from clinicclip.errors import UserError
from clinicclip.training import checkpoint, segments
from clinicclip.training import processes as joined

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
# What two processes have to say to each other, where the second can fail.
NOTES = """
import json, sys
from pathlib import Path
import jax, numpy as np
from clinicclip.errors import UserError
from clinicclip.training import processes
processes.join()
index, folder = jax.process_index(), Path(sys.argv[1])
file = folder / "note"
def faulty():
    if index == 1:
        raise UserError("disk full: é " + "x" * 2000)
def broken():
    if index == 0:
        raise KeyError("secret")
def written():
    if processes.first():
        file.write_text("by 0")
    return file.read_text()
def fault(work):
    try:
        processes.everywhere(work)
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"
numbers = np.arange(10, dtype=np.float32).reshape(5, 2)
embedded = [processes.shared(lambda rows: rows + index)(numbers[:n]) - numbers[:n] for n in (1, 4, 5)]
words = processes.shared(lambda texts: np.array([[len(text)] for text in texts], np.float32))(["a", "bb", "ccc"])
(folder / f"{index}.json").write_text(json.dumps({
    "everywhere": processes.everywhere(lambda: {"index": index}),
    "anywhere": [processes.anywhere(index == 1), processes.anywhere(False)],
    "on_first": processes.on_first(lambda: "made"),
    "in_turn": processes.in_turn(written),
    "faults": [fault(faulty), fault(broken)],
    "embedded": [rows[:, 0].tolist() for rows in embedded],
    "words": words[:, 0].tolist(),
}))
"""

# A program that only joins.
JOIN = """
import sys
from clinicclip import cli
from clinicclip.training import processes
parser = cli.Parser(program="join", description="", example="")
sys.exit(cli.call(lambda args: processes.join(), parser, []))
"""

# Two processes that work together until the one whose number is given is killed.
DIES = """
import os, signal, sys
from clinicclip.training import lost, processes
processes.join(heartbeat=2)
with lost.bound(2):
    for turn in range(9):
        dies = turn and processes.jax.process_index() == int(sys.argv[1])
        processes.everywhere(lambda: os.kill(os.getpid(), signal.SIGKILL) if dies else None)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared data, for the outputs of all processes and what they compile."""
    folder = tmp_path_factory.mktemp("processes")
    options = {"level": "easy", "studies": 160, "size": 64}
    builder.write("phantom", folder / "data", options=options, say=lambda line: None)
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


def test_a_machine_with_other_code_stops_all_before_anything_is_made(tmp_path: Path) -> None:
    shutil.copytree(processes.ROOT / "clinicclip", tmp_path / "stale" / "clinicclip")
    with (tmp_path / "stale" / "clinicclip" / "train.py").open("a") as file:
        file.write("# an older one\n")

    def placed(port: int, count: int, index: int) -> dict[str, str]:
        return local.place(port, count, index) | ({"PYTHONPATH": str(tmp_path / "stale")} if index else {})

    flags = [f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'data'}"]
    # -P: not the package of the folder this is started in
    words = ["-P", "-m", "clinicclip.train", f"--config={processes.ROOT}/configs/dt_c.py:demo", *flags]
    ended = processes.start(words, tmp_path / "processes", processes=2, devices=1, placed=placed, timeout=60)
    assert [process.code for process in ended] == [1, 1], ended
    assert ended[0].err == ended[1].err
    line, head, *rows = ended[0].err.splitlines()
    assert line == "error: the 2 processes are not ready as one; mend what is listed and start again:"
    assert head.split() == ["what", "found", "process", "(host)"]
    assert [(row.split()[0], row.split()[-2]) for row in rows] == [("clinicclip", "0"), ("clinicclip", "1")]
    assert not (tmp_path / "run").exists() and not (tmp_path / "data").exists()


def test_doctor_finds_two_processes_of_unlike_devices(tmp_path: Path) -> None:
    def placed(port: int, count: int, index: int) -> dict[str, str]:
        devices = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={1 + index}"}
        return local.place(port, count, index) | devices

    words = ["-m", "clinicclip.doctor", "host", tmp_path]
    ended = processes.start(words, tmp_path / "processes", processes=2, devices=1, placed=placed, timeout=60)
    assert [process.code for process in ended] == [1, 1]
    assert "devices       OK  1 cpu" in ended[0].out and not ended[1].out
    for process in ended:
        assert "error: the processes have different devices" in process.err
        assert [" ".join(line.split()[:4]) for line in process.err.splitlines()[-2:]] == [
            "devices 1 cpu 0",
            "devices 2 cpu 1",
        ]


@pytest.mark.parametrize(
    ("placed", "says"),
    [
        (local.place, "error: process 1 of 2 did not come within 2 s"),
        (processes.by_slurm, "error: not all processes came within 2 s"),
    ],
)
def test_a_process_that_does_not_come_is_told_in_time(
    tmp_path: Path, placed: Callable[[int, int, int], dict[str, str]], says: str
) -> None:
    def first_of_two(port: int, count: int, index: int) -> dict[str, str]:
        return placed(port, 2, 0) | {joined.JOIN_SECONDS: "2"}

    (ended,) = processes.start(["-c", JOIN], tmp_path, processes=1, devices=1, placed=first_of_two, timeout=60)
    assert ended.code == 1 and ended.err.startswith(says) and ended.err.count("\n") == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_others_soon_with_a_line_that_names_it(tmp_path: Path, victim: int) -> None:
    ended = processes.start(["-c", DIES, victim], tmp_path, processes=2, devices=1, timeout=20)
    left = ended[1 - victim]
    assert (left.code, ended[victim].code) == (1, -signal.SIGKILL)
    (line,) = [line for line in left.err.splitlines() if not line.startswith("[Gloo]")]
    assert line.startswith(f"error: process {victim} of 2 ({platform.node()}) went away: see in its log")


def test_processes_tell_each_other_what_they_found_and_what_failed(tmp_path: Path) -> None:
    ended = processes.start(["-c", NOTES, tmp_path], tmp_path, processes=2, devices=2, placed=processes.by_slurm)
    assert [process.code for process in ended] == [0, 0], [process.err for process in ended]
    found = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert [one.pop("on_first") for one in found] == ["made", None]
    (told, own), (cause, other) = (one.pop("faults") for one in found)
    assert told.startswith("UserError: disk full: \u00e9 xxx") and cause.startswith(told)
    assert own == "KeyError: 'secret'" and other == "UserError: process 0: KeyError"
    assert (
        found[0]
        == found[1]
        == {
            "everywhere": [{"index": 0}, {"index": 1}],
            "anywhere": [True, False],
            "in_turn": "by 0",
            "embedded": [[0], [0, 0, 1, 1], [0, 0, 0, 1, 1]],
            "words": [1, 2, 3],
        }
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (("host:1234", "", ""), "JAX_COORDINATOR_ADDRESS set without JAX_NUM_PROCESSES, JAX_PROCESS_ID"),
        (("", "2", "0"), "without JAX_COORDINATOR_ADDRESS"),
        (("host:1234", "2", "2"), "JAX_PROCESS_ID=2"),
        (("host:1234", "two", "0"), "JAX_NUM_PROCESSES=two"),
        (("host", "2", "0"), "expected HOST:PORT"),
    ],
)
def test_variables_that_cannot_join_are_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...], says: str
) -> None:
    for name, value in zip(joined.VARIABLES, variables, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=says):
        joined.join()


def test_a_single_machine_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in joined.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in joined.LAUNCHED:
        monkeypatch.setenv(name, "1")
    joined.join()
    assert not jax.distributed.is_initialized()
