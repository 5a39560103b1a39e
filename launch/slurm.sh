#!/usr/bin/env bash
#SBATCH --job-name=clinicclip
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
#
# One run on the GPUs of several nodes, a process for each GPU, queued again whenever it was stopped before its end.
#
#   sbatch --nodes=4 launch/slurm.sh python -m clinicclip.train --config=configs/n_g_dtcg.py --workdir=/shared/runs/1
#   launch/slurm.sh --dry_run python -m clinicclip.train ...        # prints the commands and runs none
#
# Options of sbatch before the script's name replace those above; keep ntasks-per-node equal to gpus-per-node. Submit it
# in the checkout, which all nodes must see, in the environment that has clinicclip.
# Five minutes before the time is over, and when the job is preempted, Slurm sends SIGTERM to the processes: they save
# and end with 75, and the job is queued again under its number, as it is when they end with 76 because one was lost: 100
# times at most. srun tells the highest code of all; any other but 0 is a failure and ends the job, as does scancel. 0
# means that the run's folder holds DONE. Two minutes after one process ends, the others are ended too.
#
# Data and run folder must be seen by all nodes under one path (NFS, Lustre); neither was tried.
# --data_dir=gs://... or s3://... is copied to the cache of each node's user (tested with one process and stand-ins for
# the stores, bench/stores.py); run folders there are refused.
# Secrets: export them before sbatch, which hands the environment on; never write them behind the command, where the
# job's record shows them.
# TESTED: what it would run (--dry_run), and its decisions against stand-ins for srun. It has never met a Slurm.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" # sbatch runs a copy of this file, which lies elsewhere
source launch/common.sh

dry_run=""
[[ ${1:-} != --help ]] || { usage && exit; }
[[ ${1:-} != --dry_run ]] || { dry_run=yes && shift; }
(($#)) || die "name the command behind the script"

if [[ $dry_run ]]; then
    : "${SLURM_JOB_ID:=JOB}" "${SLURM_NTASKS:=TASKS}"
    run scontrol show hostnames NODES
    first=FIRST_NODE port=PORT
else
    nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    first=${nodes%%$'\n'*} port=$((61440 + SLURM_JOB_ID % 4096))
fi

cancelled=""
trap 'cancelled=yes' TERM # only scancel sends it to this script too
code=0
# shellcheck disable=SC2016 # it is for the processes to expand
run srun --kill-on-bad-exit=0 --wait=120 env "JAX_COORDINATOR_ADDRESS=$first:$port" "JAX_NUM_PROCESSES=$SLURM_NTASKS" \
    bash -c 'JAX_PROCESS_ID=$SLURM_PROCID JAX_LOCAL_DEVICE_IDS=$SLURM_LOCALID exec "$@"' process "$@" || code=$?
if [[ $dry_run ]] || ((code == AGAIN || code == LOST)) && ((${SLURM_RESTART_COUNT:-0} < 100)) && [[ -z $cancelled ]]; then
    run scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
