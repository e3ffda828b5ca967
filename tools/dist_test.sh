#!/usr/bin/env bash
# Test in several processes, each with its share of the videos: one a GPU, or any number on the CPU.
usage="usage: $0 CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
example: $0 configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT 8 --out results.json
Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each."
set -euo pipefail
if [ $# -lt 3 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3

tools=$(dirname "$0")
source "$tools/torchrun.sh"
torchrun_on "$processes" "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
