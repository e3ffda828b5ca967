# Sourced by dist_train.sh and dist_test.sh.

# torchrun_on PROCESSES SCRIPT ARGUMENTS... starts the script in PROCESSES processes on this machine.
torchrun_on() {
    local processes=$1
    shift
    # One machine finds a free port by itself; several meet at MASTER_ADDR:PORT.
    local meeting=(--standalone)
    if [ "${NNODES:-1}" != 1 ]; then
        meeting=(
            --nnodes "$NNODES" --node_rank "$NODE_RANK"
            --master_addr "$MASTER_ADDR" --master_port "${PORT:-29500}"
        )
    fi
    PYTHONPATH="$(dirname "${BASH_SOURCE[0]}")/..${PYTHONPATH:+:$PYTHONPATH}" \
        exec "${PYTHON:-python}" -m torch.distributed.run \
        "${meeting[@]}" --nproc_per_node "$processes" "$@"
}
