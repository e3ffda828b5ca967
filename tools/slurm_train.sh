#!/usr/bin/env bash
# Train under Slurm, one process a GPU.
usage="usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
example: GPUS=16 $0 gpu maskprop configs/maskprop/maskprop_r50_ytvis19.py work_dirs/maskprop --amp
Set GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) and SRUN_ARGS to change what is asked for."
set -euo pipefail
if [ $# -lt 4 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
partition=$1 job_name=$2 config=$3 work_dir=$4
shift 4

tools=$(dirname "$0")
source "$tools/srun.sh"
srun_on "$partition" "$job_name" "$tools/train.py" "$config" --work-dir "$work_dir" "$@"
