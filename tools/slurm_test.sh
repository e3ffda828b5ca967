#!/usr/bin/env bash
# Test under Slurm, one process a GPU, each with its share of the videos.
usage="usage: $0 PARTITION JOB_NAME CONFIG [CHECKPOINT] [options of tools/test.py]
examples:
  $0 gpu maskprop configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT --out results.json
  $0 gpu masktrack masktrack_rcnn_r50_ytvis19 --out results.json
Without CHECKPOINT, the weights released for the config are used.
Set GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS to change what is asked for."
set -euo pipefail
if [ $# -lt 3 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
partition=$1 job_name=$2
shift 2

tools=$(dirname "$0")
source "$tools/srun.sh"
srun_on "$partition" "$job_name" "$tools/test.py" "$@"
