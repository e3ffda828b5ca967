#!/usr/bin/env bash
# Test in several processes, each with its share of the videos: one a GPU, or any number on the CPU.
usage="usage: $0 CONFIG [CHECKPOINT] PROCESSES [options of tools/test.py]
examples:
  $0 configs/maskprop/maskprop_r50_ytvis19.py CHECKPOINT 8 --out results.json
  $0 masktrack_rcnn_r50_ytvis19 8 --out results.json
Without CHECKPOINT, the weights released for the config are used.
Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each."
set -euo pipefail
if [ $# -lt 2 ] || [ "${1#-}" != "$1" ]; then
    echo "$usage" >&2
    exit 2
fi
model=("$1")
shift
if ! [[ $1 =~ ^[0-9]+$ ]]; then
    model+=("$1")
    shift
fi
processes=${1-}
if ! [[ $processes =~ ^[0-9]+$ ]]; then
    echo "$usage" >&2
    exit 2
fi
shift

tools=$(dirname "$0")
source "$tools/torchrun.sh"
torchrun_on "$processes" "$tools/test.py" "${model[@]}" --launcher pytorch "$@"
