# Sourced by slurm_train.sh and slurm_test.sh.

# srun_on PARTITION JOB_NAME SCRIPT ARGUMENTS... starts the script under Slurm, one process a GPU.
srun_on() {
    local partition=$1 job_name=$2 gpus=${GPUS:-8} gpus_per_node
    shift 2
    gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # SRUN_ARGS holds several options: it is split at its spaces.
    # shellcheck disable=SC2086
    PYTHONPATH="$(dirname "${BASH_SOURCE[0]}")/..${PYTHONPATH:+:$PYTHONPATH}" \
        exec srun --partition "$partition" --job-name "$job_name" \
        --gres "gpu:$gpus_per_node" --ntasks "$gpus" --ntasks-per-node "$gpus_per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$@" --launcher slurm
}
