"""Several processes, and the threads of each."""

import os
from functools import cache

from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed, get_num_threads, set_num_threads

from .config import ConfigError
from .processes import end_with_parent, idle_cores, usable_cores

# Rank, number of processes and rank on this machine, as each launcher tells them.
_LAUNCHER_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}


def set_launcher(cfg: Config, launcher: str) -> None:
    """Prepare a config for ``--launcher``; call it before the Runner is built.

    With GPUs MMEngine does all of it. Without, its launchers look for one, so the process group is
    made here, with the gloo backend, and the model wrapper is told that there is no device.

    Args:
        cfg: Config, changed in place.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        ConfigError: The launcher did not start this process.
    """
    cfg.launcher = launcher
    if launcher == "none":
        return
    if launcher == "pytorch":
        end_with_parent(os.getppid())
    missing = [name for name in _LAUNCHER_VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} is for processes that it started, but {', '.join(missing)} is "
            "not set. Start them with tools/dist_train.sh or tools/dist_test.sh, srun or mpirun."
        )
    if get_device() != "cpu":
        return
    rank, world_size, local_rank = (os.environ[name] for name in _LAUNCHER_VARIABLES[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=local_rank)
    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        raise ConfigError(
            "Set MASTER_ADDR and MASTER_PORT to where the process of rank 0 can be reached."
        )
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    wrapper = dict(
        type="MMDistributedDataParallel",
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    cfg.model_wrapper_cfg = dict(cfg.get("model_wrapper_cfg") or wrapper, device_ids=None)


def is_first_process(launcher: str) -> bool:
    """Whether this process has rank 0, by what its launcher says, before the group is made.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
    """
    variables = _LAUNCHER_VARIABLES.get(launcher)
    return variables is None or os.environ.get(variables[0]) == "0"


@cache
def use_idle_cores() -> str:
    """Let PyTorch use no more threads than there are idle cores, unless the user chose a number.

    PyTorch's threads wait for each other by spinning: on a core that another process uses, they
    make all of them several times slower. Done once in a process.

    Returns:
        str: What was done, for the log.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return f"PyTorch threads: {get_num_threads()}, set by OMP_NUM_THREADS"
    idle, cores = idle_cores(), len(usable_cores())
    set_num_threads(max(1, min(get_num_threads(), round(idle))))
    return (
        f"PyTorch threads: {get_num_threads()}, since {idle:.1f} of {cores} cores are idle "
        "(set OMP_NUM_THREADS to choose the number)"
    )


def keep_threads(number: int | None) -> None:
    """Go on with the threads of a training that is resumed, unless the user chose a number.

    Another number adds in another order, so that the losses would differ in the last digits.

    Args:
        number: Threads of the training; None if they are not known.
    """
    if isinstance(number, int) and number > 0 and "OMP_NUM_THREADS" not in os.environ:
        set_num_threads(number)
