#!/usr/bin/env bash
# Gets a TPU pod, runs one command on every worker of it as one run, and starts that again whenever it asks to.
#
#   launch/tpu_pod.sh --name=clip --zone=us-west4-a --type=v5litepod-16 --runtime=v2-alpha-tpuv5-lite [--spot] \
#       -- python -m clinicclip.train --config=configs/n_g_dtcg.py --data_dir=/mnt/data/mimic_cxr --workdir=/mnt/runs/1
#
#   --project=P    the Google Cloud project, if not gcloud's default
#   --restarts=N   how often it may be started again (100)
#   --stop         asks a run on that pod to save and to end; its launcher does not start it again
#   --dry_run      prints the commands and runs none
#
# The pod is a queued resource of one slice; where it is there already, it is used. The workers get HEAD of this
# checkout, so that all have the same code. Leave this running on a machine that stays: it holds the connections.
# When the command ends with 75 on the workers (stopped as asked, all saved), it is started again, as it is when a worker
# was lost (76, or 255 of ssh); when the machines were taken away, new ones are asked for; any other code is a failure and
# this script's own. 0 means that the run's folder holds DONE. The pod is not deleted, and costs money until it is: the
# last line printed says how.
#
# Data and run folder must be seen by all workers under one path, such as an NFS mount (Filestore), which was not tried;
# --data_dir=gs://... is copied to the disk of each worker (tested with one process and a stand-in for the store,
# bench/stores.py); a run folder there is refused.
# Secrets: none is needed here. The workers act as the service account of the pod; what else a command wants, let it read
# from Secret Manager: neither this command line nor the metadata of the machines is a place for it.
# TESTED: what it would run (--dry_run), and its decisions against stand-ins for gcloud. It has never met a TPU.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/common.sh

name="" zone="" type="" runtime="" project="" spot="" stop="" restarts=100 dry_run=""
while (($#)); do
    case $1 in
        --name=* | --zone=* | --type=* | --runtime=* | --project=* | --restarts=*)
            variable=${1%%=*}
            printf -v "${variable#--}" '%s' "${1#*=}"
            ;;
        --spot | --stop | --dry_run) printf -v "${1#--}" yes ;;
        --help) usage && exit ;;
        --) shift && break ;;
        *) die "unknown flag $1 (see --help)" ;;
    esac
    shift
done
[[ $name && $zone ]] || die "--name and --zone are needed"
tpus=(gcloud compute tpus)
where=("--zone=$zone" ${project:+"--project=$project"})

everywhere() { # a line of shell, on all workers at once; the code is that of the first worker that failed
    run "${tpus[@]}" tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

state() { # of the queued resource; nothing where there is none
    "${tpus[@]}" queued-resources describe "$name" "${where[@]}" '--format=value(state.state)' 2>/dev/null || true
}

get_pod() {
    if [[ $dry_run || -z $(state) ]]; then
        run "${tpus[@]}" queued-resources create "$name" "${where[@]}" "--node-id=$name" "--accelerator-type=$type" \
            "--runtime-version=$runtime" ${spot:+--spot}
    fi
    if [[ $dry_run ]]; then
        echo "$(quoted "${tpus[@]}" queued-resources describe "$name" "${where[@]}" '--format=value(state.state)')" \
            "# until ACTIVE"
        return
    fi
    local now
    until now=$(state) && [[ $now == ACTIVE ]]; do
        [[ $now != FAILED && $now != SUSPENDED ]] || die "the pod cannot be had: ${tpus[*]} queued-resources describe $name ${where[*]}"
        echo "waiting for $name: ${now:-asked for}"
        sleep "${POLL_SECONDS:-30}"
    done
}

# A run that went on when the connection to it broke is asked to save and to end.
# shellcheck disable=SC2016 # it is for the workers to expand
readonly END='{ kill -TERM "$(cat clinicclip/run.pid)" && timeout 300 tail --pid="$(cat clinicclip/run.pid)" -f /dev/null; } 2>/dev/null'

install() {
    run git archive --prefix=clinicclip/ --output=clinicclip.tar.gz HEAD &&
        run "${tpus[@]}" tpu-vm scp clinicclip.tar.gz "$name:" "${where[@]}" --worker=all &&
        run rm -f clinicclip.tar.gz &&
        everywhere "$END; rm -rf clinicclip && tar xzf clinicclip.tar.gz && python3 -m pip install -q uv \
&& python3 -m uv venv -q --clear --python=3.12 clinicclip/.venv && source clinicclip/.venv/bin/activate \
&& python3 -m uv pip install -q -c clinicclip/.ci/constraints.txt -e 'clinicclip[tpu,gs,dicom]'"
}

if [[ $stop ]]; then
    # shellcheck disable=SC2016 # it is for the workers to expand
    everywhere 'touch clinicclip/stopped; kill -TERM "$(cat clinicclip/run.pid)"'
    exit
fi
[[ $type && $runtime ]] || die "--type and --runtime are needed"
(($#)) || die "name the command behind --"
[[ $dry_run ]] || git diff --quiet HEAD || die "commit your changes first: the workers get HEAD"

for ((start = 0, code = LOST; start <= restarts; start++)); do
    get_pod
    if ((code != AGAIN)) && ! install; then # a worker may yet come back
        ((start)) || die "the code could not be brought to all workers of $name"
        sleep "${POLL_SECONDS:-30}"
        continue
    fi
    code=0
    everywhere "clinicclip/launch/tpu_worker.sh $(quoted "$@")" || code=$?
    ((code)) || break
    if ((code == AGAIN)); then
        ! everywhere 'test -e clinicclip/stopped' || break
        continue
    fi
    now=$(state)
    if [[ $now && $now != ACTIVE ]]; then
        echo "the machines of $name were taken away ($now); asking for others"
        run "${tpus[@]}" queued-resources delete "$name" "${where[@]}" --force --quiet
    elif ((code != LOST && code != 255)); then
        break
    fi
done
echo "ended with $code; delete the pod:" \
    "$(quoted "${tpus[@]}" queued-resources delete "$name" "${where[@]}" --force)"
exit "$code"
