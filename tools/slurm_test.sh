#!/usr/bin/env bash
# Test under Slurm, one process a GPU, each with its share of the videos.
usage="usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
example: $0 gpu maskprop configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT --out results.json
Set GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS to change what is asked for."
set -euo pipefail
if [ $# -lt 4 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3 checkpoint=$4
shift 4

tools=$(dirname "$0")
source "$tools/srun.sh"
srun_on "$partition" "$job_name" "$tools/test.py" "$config" "$checkpoint" "$@"
