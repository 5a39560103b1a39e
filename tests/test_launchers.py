"""The launchers of clusters: what they would run, and what they decide when real commands are stood in for."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jobset
import local
import pytest
import yaml

from clinicclip import cli

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
TRAIN = ["python", "-m", "clinicclip.train", "--config=configs/dt.py:demo", "--workdir=/mnt/a run"]
POD = ["--name=clip", "--zone=z", "--type=v5litepod-16", "--runtime=r"]
ONCE = ["scp", "ssh", "ssh"]  # the code, what it needs, and the run
# Stands in for gcloud: notes its words, and answers from files of lines, the last of which stays.
GCLOUD = """#!/usr/bin/env bash
echo "$*" >> calls
next() { sed -n 1p "$1"; (($(wc -l < "$1") < 2)) || sed -i 1d "$1"; }
case "$*" in
    *describe*) next states ;;
    *tpu_worker.sh*) exit "$(next codes)" ;;
    *"touch clinicclip/stopped"*) touch stopped ;;
    *"test -e clinicclip/stopped"*) test -e stopped ;;
esac
"""
# Stands in for srun: two tasks, each of which notes its place; their command's code is its own.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do echo "$1" >> calls; shift; done
for SLURM_PROCID in 0 1; do SLURM_LOCALID=0; export SLURM_PROCID SLURM_LOCALID; "$@" || code=$?; done
exit "${code:-0}"
"""
SCONTROL = """#!/usr/bin/env bash
[[ $1 == show ]] && printf 'node7\\nnode8\\n' || echo "scontrol $*" >> calls
"""
CURL = """#!/usr/bin/env bash
case "${*: -1}" in
    */worker-network-endpoints) echo "$ENDPOINTS" ;;
    */agent-worker-number) echo 1 ;;
esac
"""


def dry(*words: str) -> list[str]:
    """The commands a launcher would run, none of which is to be had."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def stand_in(folder: Path, **programs: str) -> dict[str, str]:
    """An environment in which those programs are the given ones; they work in ``folder``."""
    for name, text in programs.items():
        for file in (">> calls", "next states", "next codes", "touch stopped", "test -e stopped"):
            text = text.replace(file, f"{file.rpartition(' ')[0]} {folder / file.split()[-1]}")
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "POLL_SECONDS": "0"}


def test_a_pod_is_asked_for_given_the_code_and_told_what_to_run() -> None:
    lines = dry(str(LAUNCH / "tpu_pod.sh"), *POD, "--spot", "--project=p", "--dry_run", "--", *TRAIN)
    tpus, where = "gcloud compute tpus", "--zone=z --project=p"
    assert lines[:4] == [
        f"{tpus} queued-resources create clip {where} --node-id=clip --accelerator-type=v5litepod-16 "
        "--runtime-version=r --spot",
        f"{tpus} queued-resources describe clip {where} '--format=value(state.state)' # until ACTIVE",
        "git archive --prefix=clinicclip/ --output=clinicclip.tar.gz HEAD",
        f"{tpus} tpu-vm scp clinicclip.tar.gz clip: {where} --worker=all",
    ]
    on_all = f"{tpus} tpu-vm ssh clip {where} --worker=all '--command="
    assert [line.startswith(on_all) for line in lines] == [False] * 5 + [True, True, False]
    assert "-c clinicclip/.ci/constraints.txt" in lines[5] and "clinicclip[tpu,gs,dicom]" in lines[5]
    run = "python -m clinicclip.train --config=configs/dt.py:demo '\\''--workdir=/mnt/a run'\\'''"
    assert lines[6] == f"{on_all}clinicclip/launch/tpu_worker.sh {run}"
    assert lines[7].endswith(f"{tpus} queued-resources delete clip {where} --force")


@pytest.mark.parametrize(
    ("states", "codes", "code", "calls"),
    [
        (["ACTIVE"], [0], 0, ONCE),
        (["", "WAITING_FOR_RESOURCES", "ACTIVE"], [0], 0, ["create", *ONCE]),
        (["ACTIVE"], [75, 75, 0], 0, [*ONCE, *["ssh", "ssh"] * 2]),  # whether it was told to stop, and again
        (["ACTIVE"], [1], 1, ONCE),
        (["ACTIVE"], [76, 255, 0], 0, ONCE * 3),  # a worker was lost, and is there again
        # the machines go away meanwhile: others are asked for
        (
            ["ACTIVE", "ACTIVE", "SUSPENDED", "", "ACTIVE"],
            [255, 0],
            0,
            ["scp", "ssh", "ssh", "delete", "create", "scp", "ssh", "ssh"],
        ),
        (["SUSPENDED"], [0], 2, []),
        (["ACTIVE"], [75], 75, [*ONCE, *["ssh", "ssh"] * 2, "ssh"]),  # --restarts=2
        (["ACTIVE"], [76], 76, ONCE * 3),
    ],
)
def test_a_pod_starts_again_on_75_and_where_machines_were_lost(
    tmp_path: Path, states: list[str], codes: list[int], code: int, calls: list[str]
) -> None:
    variables = stand_in(tmp_path, gcloud=GCLOUD, git="#!/bin/sh\n")
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    line = [str(LAUNCH / "tpu_pod.sh"), *POD, "--restarts=2", "--", *TRAIN]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    words = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    assert [word[3] for word in words if word[3] != "describe"] == calls
    assert (code == 2) or "delete the pod: gcloud compute tpus queued-resources delete clip" in done.stdout


def test_a_run_on_a_pod_is_asked_to_stop_and_not_started_again(tmp_path: Path) -> None:
    stop = [str(LAUNCH / "tpu_pod.sh"), "--name=clip", "--zone=z", "--stop"]
    (line,) = dry(*stop, "--dry_run")
    assert "--worker=all" in line and 'kill -TERM "$(cat clinicclip/run.pid)"' in line
    # a stand-in that is told to stop while it runs
    stopped = GCLOUD.replace('exit "$(next codes)"', f"PATH={tmp_path}:$PATH {shlex.join(stop)}; exit 75")
    variables = stand_in(tmp_path, gcloud=stopped, git="#!/bin/sh\n")
    (tmp_path / "states").write_text("ACTIVE\n")
    done = subprocess.run([LAUNCH / "tpu_pod.sh", *POD, "--", *TRAIN], env=variables, check=False, timeout=60)
    assert done.returncode == cli.PREEMPTED
    assert (tmp_path / "calls").read_text().count("tpu_worker.sh") == 1


@pytest.mark.parametrize("endpoints", ["hosta,hostb,hostc", "unknown:0:hosta,unknown:1:hostb,unknown:2:hostc"])
def test_a_worker_of_a_pod_finds_its_place(tmp_path: Path, endpoints: str) -> None:
    variables = stand_in(tmp_path, curl=CURL) | {"ENDPOINTS": endpoints}
    (tmp_path / "launch").mkdir()
    worker = tmp_path / "launch" / "tpu_worker.sh"
    worker.write_text((LAUNCH / "tpu_worker.sh").read_text())
    done = subprocess.run(["bash", worker, "env"], env=variables, capture_output=True, text=True, check=True)
    placed = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("JAX_"))
    expected = {"JAX_COORDINATOR_ADDRESS": "hosta:8476", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "1"}
    assert placed.items() >= expected.items()
    assert (tmp_path / "run.pid").read_text().strip().isdecimal()


def test_slurm_gets_a_process_for_each_gpu() -> None:
    lines = dry(str(LAUNCH / "slurm.sh"), "--dry_run", *TRAIN)
    assert lines == [
        "scontrol show hostnames NODES",
        "srun --kill-on-bad-exit=0 --wait=120 env JAX_COORDINATOR_ADDRESS=FIRST_NODE:PORT JAX_NUM_PROCESSES=TASKS "
        "bash -c 'JAX_PROCESS_ID=$SLURM_PROCID JAX_LOCAL_DEVICE_IDS=$SLURM_LOCALID exec \"$@\"' process "
        "python -m clinicclip.train --config=configs/dt.py:demo '--workdir=/mnt/a run'",
        "scontrol requeue JOB",
    ]
    options = [line.split()[1] for line in (LAUNCH / "slurm.sh").read_text().splitlines() if line[:7] == "#SBATCH"]
    assert {"--requeue", "--signal=TERM@300"} <= set(options)


@pytest.mark.parametrize(
    ("code", "before", "again"), [(0, 0, False), (1, 0, False), (75, 0, True), (76, 99, True), (76, 100, False)]
)
def test_slurm_queues_again_what_can_go_on(tmp_path: Path, code: int, before: int, again: bool) -> None:
    variables = stand_in(tmp_path, srun=SRUN, scontrol=SCONTROL)
    variables |= {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
    variables["SLURM_RESTART_COUNT"] = str(before)
    # sbatch runs a copy that lies elsewhere
    script = tmp_path / "spooled"
    script.write_text((LAUNCH / "slurm.sh").read_text())
    variables["SLURM_SUBMIT_DIR"] = str(ROOT)
    names = "ADDRESS|PROCESS|DEVICE"
    does = f"env | grep -E '^JAX_.*({names})' | sort | tr '\\n' ' ' >> {tmp_path}/calls; echo >> {tmp_path}/calls"
    line = ["bash", str(script), "bash", "-c", f"{does}; exit {code}"]
    assert subprocess.run(line, env=variables, check=False).returncode == code
    _, _, *places = (tmp_path / "calls").read_text().splitlines()
    port = 61440 + 7
    assert [place.split() for place in places[:2]] == [
        [
            f"JAX_COORDINATOR_ADDRESS=node7:{port}",
            "JAX_LOCAL_DEVICE_IDS=0",
            "JAX_NUM_PROCESSES=2",
            f"JAX_PROCESS_ID={index}",
        ]
        for index in range(2)
    ]
    assert places[2:] == (["scontrol requeue 7"] if again else [])


@pytest.fixture
def applied(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], dict[str, Any]]:
    """What a dry run of jobset.py prints before it applies something, and what that is."""
    flags = ["--image=R/c:1", "--target=cuda", "--hosts=3", "--resource=nvidia.com/gpu=8", "--selector=a/b=c"]
    assert jobset.main([*flags, "--claim=work", "--dry_run", "--", *TRAIN]) == 0
    before, given = capsys.readouterr().out.split("kubectl apply --filename=- <<'END'\n")
    return before.splitlines(), yaml.safe_load(given.removesuffix("END\n"))


def test_an_image_is_built_and_pushed_before_it_is_used(applied: tuple[list[str], dict[str, Any]]) -> None:
    build = f"docker build --file={LAUNCH}/Dockerfile --target=cuda --tag=R/c:1 {ROOT}"
    assert applied[0] == [build, "docker push R/c:1"]
    targets = [line.split()[-1] for line in (LAUNCH / "Dockerfile").read_text().splitlines() if line[:5] == "FROM "]
    assert targets == ["base", "cpu", "cuda", "tpu"]


def test_a_jobset_places_its_pods_and_runs_the_command(applied: tuple[list[str], dict[str, Any]]) -> None:
    job = applied[1]["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (3, 3, "Indexed")
    assert container["command"] == TRAIN and container["image"] == "R/c:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"} and pod["nodeSelector"] == {"a/b": "c"}
    placed = {item["name"]: item.get("value") or item["valueFrom"]["fieldRef"] for item in container["env"]}
    assert placed == {
        "COORDINATOR": {"fieldPath": "metadata.annotations['jobset.sigs.k8s.io/coordinator']"},
        "JAX_COORDINATOR_ADDRESS": "$(COORDINATOR):8476",
        "JAX_NUM_PROCESSES": "3",
        "JAX_PROCESS_ID": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "clinicclip", "optional": True}}]


def test_a_jobset_starts_again_on_75_and_76_and_fails_on_other_codes(applied: tuple[list[str], dict[str, Any]]) -> None:
    spec = applied[1]["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    codes = [rule for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [cli.PREEMPTED, local.LOST]}}]
    (rule,) = spec["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


@pytest.mark.parametrize("script", ["tpu_pod.sh", "slurm.sh", "jobset.py", "local.py"])
def test_every_launcher_says_how_it_is_used_and_what_was_tested(script: str) -> None:
    program = [sys.executable] if script.endswith(".py") else ["bash"]
    told = " ".join(dry(*program, str(LAUNCH / script), "--help"))
    assert f"launch/{script}" in told and "ested" in told.lower() and "Secrets" in told


@pytest.mark.parametrize("words", [["tpu_pod.sh", "--nmae=x"], ["tpu_pod.sh", *POD], ["slurm.sh"]])
def test_a_command_line_that_cannot_be_is_one_line_and_2(words: list[str]) -> None:
    done = subprocess.run([LAUNCH / words[0], *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
