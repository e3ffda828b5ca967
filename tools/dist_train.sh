#!/usr/bin/env bash
# Train in several processes: one a GPU, or, without GPUs, any number on the CPU.
usage="usage: $0 CONFIG PROCESSES [options of tools/train.py]
example: $0 configs/maskprop/maskprop_r50_ytvis19.py 8 --amp
Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each."
set -euo pipefail
if [ $# -lt 2 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
config=$1 processes=$2
shift 2

tools=$(dirname "$0")
source "$tools/torchrun.sh"
torchrun_on "$processes" "$tools/train.py" "$config" --launcher pytorch "$@"
