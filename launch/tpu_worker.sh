#!/usr/bin/env bash
# Runs a command on this worker of a TPU pod as its part of one run; tpu_pod.sh copies it here and starts it.
#
#   launch/tpu_worker.sh python -m clinicclip.train --config=configs/n_g_dtcg.py:demo
#
# Which part that is, the metadata of the machine say. run.pid, beside the code, holds the process to stop.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly PORT=8476

attribute() {
    curl --silent --fail --header 'Metadata-Flavor: Google' \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

endpoints=$(attribute worker-network-endpoints) # HOST,HOST,... or NAME:ID:ADDRESS,NAME:ID:ADDRESS,...
JAX_PROCESS_ID=$(attribute agent-worker-number)
IFS=, read -ra workers <<<"$endpoints"
export JAX_COORDINATOR_ADDRESS="${workers[0]##*:}:$PORT" JAX_NUM_PROCESSES=${#workers[@]} JAX_PROCESS_ID
# shellcheck disable=SC1091 # tpu_pod.sh made it here
[[ ! -d .venv ]] || source .venv/bin/activate
echo $$ >run.pid
exec "$@"
