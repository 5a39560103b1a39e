# shellcheck shell=bash
# What the launch scripts share: source it. They set dry_run; then `run` prints a command instead of running it.

# The exit codes of a run that goes on when it is started again: it was asked to stop and saved; a process of it was
# lost. Any other but 0 is a failure.
# shellcheck disable=SC2034
readonly AGAIN=75 LOST=76

die() {
    echo "error: $*" >&2
    exit 2
}

# How a shell would have to be told these words; plain ones stay as they are.
quoted() {
    local word line=""
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]_./:=,@%+-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    echo "${line:1}"
}

run() {
    if [[ -n ${dry_run:-} ]]; then
        quoted "$@"
    else
        "$@"
    fi
}

# The comment at the top of a script.
usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}
