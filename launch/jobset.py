#!/usr/bin/env python3
"""Builds the image, pushes it, and starts one run on several machines of a Kubernetes cluster with JobSet.

    python launch/jobset.py --image=REGISTRY/clinicclip:1 --target=cuda --hosts=2 --resource=nvidia.com/gpu=8 \\
        --claim=work -- python -m clinicclip.train --config=configs/n_g_dtcg.py --data_dir=/work/mimic --workdir=/work/1
    python launch/jobset.py --image=REGISTRY/clinicclip:1 --target=tpu --hosts=4 --resource=google.com/tpu=4 \\
        --selector=cloud.google.com/gke-tpu-accelerator=tpu-v5-lite-podslice \\
        --selector=cloud.google.com/gke-tpu-topology=4x4 --claim=work -- python -m clinicclip.doctor host /work

--dry_run prints the commands, and what kubectl is given to apply. What becomes of which exit code is written in
jobset.yaml, how an image is made in Dockerfile. `kubectl delete jobset NAME` stops a run, which saves within 300 s.

Data and run folder lie under /work, a claim that all pods mount for writing (ReadWriteMany, such as NFS); not tried.
--data_dir=gs://... or s3://... is copied into each pod, by an image with [gs] or [s3], which Dockerfile does not make
(tested with one process and stand-ins for the stores, bench/stores.py); run folders there are refused.
Secrets: `kubectl create secret generic NAME --from-env-file=FILE`, NAME being that of the run; never in the command.
TESTED: what it would run (--dry_run), and the Job in it against the schema of Kubernetes. It has met no cluster.
"""

import argparse
import json
import shlex
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(words: Sequence[str] | None = None) -> int:
    """Reads the command line and runs or prints every step; returns the first exit code that is not 0."""
    args = parser().parse_args(words)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser().error("name the command behind --")
    image = f"--tag={args.image}"
    build = ["docker", "build", f"--file={HERE / 'Dockerfile'}", f"--target={args.target}", image, str(HERE.parent)]
    steps: list[tuple[list[str], str]] = [] if args.built else [(build, ""), (["docker", "push", args.image], "")]
    steps.append((["kubectl", "apply", "--filename=-"], filled(args, command)))
    for step, given in steps:
        if args.dry_run:
            print(shlex.join(step) + (f" <<'END'\n{given}END" if given else ""))
            continue
        code = subprocess.run(step, input=given, text=True, check=False).returncode
        if code:
            return code
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--name", default="clinicclip", help="of the JobSet, and of its Secret (clinicclip)")
    flags.add_argument("--image", required=True, help="REGISTRY/NAME:TAG, where nodes can pull from")
    flags.add_argument("--target", choices=("cpu", "cuda", "tpu"), default="cpu", help="what the image is for (cpu)")
    flags.add_argument("--built", action="store_true", help="the image is in the registry already")
    flags.add_argument("--hosts", type=int, default=1, help="machines, a pod on each (1)")
    flags.add_argument("--resource", type=_pair, action="append", default=[], help="KEY=N of each machine; repeatable")
    flags.add_argument("--selector", type=_pair, action="append", default=[], help="KEY=VALUE of nodes; repeatable")
    flags.add_argument("--claim", required=True, help="the PersistentVolumeClaim that /work is")
    flags.add_argument("--dry_run", action="store_true", help="print the commands and run none")
    flags.add_argument("command", nargs=argparse.REMAINDER, help="behind --: what to run on each machine")
    return flags


def filled(args: argparse.Namespace, command: Sequence[str]) -> str:
    """The JobSet as YAML: what is filled in is JSON, which YAML contains."""
    values = {
        "command": command,
        "resources": dict(args.resource),
        "selector": dict(args.selector),
        "image": args.image,
        "claim": args.claim,
        "name": args.name,
    }
    template = string.Template((HERE / "jobset.yaml").read_text().partition("\napiVersion")[2])
    written = {key: json.dumps(value) for key, value in values.items()}
    return "apiVersion" + template.substitute(written, hosts=args.hosts)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, not {text!r}")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
