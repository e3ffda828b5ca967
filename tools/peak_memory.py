"""The most memory that this process or its GPU had in use at once, for measurements."""

import contextlib
import resource
import sys
from pathlib import Path

import torch

MEGABYTE = 2**20  # bytes


def reset_peak_memory(device: torch.device | str = "cpu") -> None:
    """Let the peak begin anew; that of the process only where the system can (Linux).

    Args:
        device: A GPU for that of PyTorch's tensors on it, otherwise that of the process.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device | str = "cpu") -> int:
    """The peak since the last reset, or since the process began.

    Args:
        device: A GPU for the sum of PyTorch's tensors on it, otherwise the resident memory of the
            process.

    Returns:
        int: Bytes.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
