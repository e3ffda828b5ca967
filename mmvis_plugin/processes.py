"""Processes of this machine: children that end with their parent, and cores that are idle.

Only the standard library is used.
"""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)
_kept: list = []


def end_with_parent(parent: int) -> None:
    """Let this process be killed when its parent ends, even if the parent is killed (Linux).

    To be called in the child, which a parent that is killed cannot end by itself.

    Args:
        parent: The parent's process number, which the parent should pass: it may be gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def start_worker(parent: int, start: Callable | None, worker: int) -> None:
    """``worker_init_fn`` of a data loader whose workers end with the process that made it.

    Ctrl-C reaches them too, but the process that made them ends them.

    Args:
        parent: Number of that process.
        start: The data loader's own ``worker_init_fn``.
        worker: Number of the worker.
    """
    end_with_parent(parent)
    # The parent's handlers stay alive: what they own may have threads, which a forked process has
    # not and would wait for, as PyAV's pictures do.
    _kept.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGHUP)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.excepthook = _except_broken_connections
    if start is not None:
        start(worker)


def _except_broken_connections(kind: type, error: BaseException, traceback) -> None:
    """Report an error, but not that the parent left while a thread was sending it a batch."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, traceback)


def is_running(number: int) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def this_process() -> str:
    """This process as another user of a shared folder would look for it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def idle_cores(seconds: float = 0.2) -> float:
    """How many cores other processes leave idle, of those that this process may use.

    Args:
        seconds: How long the cores are watched.

    Returns:
        float: At least 0; all cores where the system has no ``/proc/stat``.
    """
    cores = usable_cores()
    before = _idle_ticks(cores)
    time.sleep(seconds)
    passed = [(a - b, c - d) for (a, c), (b, d) in zip(_idle_ticks(cores), before, strict=True)]
    idle = sum(idle / total if total else 1 for idle, total in passed)
    return min(idle, _quota()) if before else float(min(len(cores), _quota()))


def usable_cores() -> set[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _idle_ticks(cores: set[int]) -> list[tuple[int, int]]:
    """Ticks that each core was idle, and all its ticks; none if the system does not count them."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return []
    fields = (line.split() for line in lines if line.startswith("cpu"))
    ticks = {name[3:]: [int(value) for value in values[:8]] for name, *values in fields}
    # user, nice, system, idle, waiting for the disk, ...
    return [(t[3] + t[4], sum(t)) for core, t in ticks.items() if core and int(core) in cores]


def _quota() -> float:
    """Cores' worth of time that a container may use."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return float("inf")
