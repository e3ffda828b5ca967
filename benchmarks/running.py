"""How several benchmarks run what they measure."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from mmvis_plugin.config import load_config, remove_pretrained


def in_own_process(function: Callable, *args: Any) -> Any:
    """Call a function in a new process, since the peak of a process's memory never goes down.

    What the new process prints goes to the error stream: the standard output has the table.
    """
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        # Not a Pool, which waits for ever if the process is killed.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args).result()
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def untrained_model(config: str, **changes: Any) -> nn.Module:
    """The model of a config with random weights, always the same ones.

    Args:
        config: A file, or the name of a config that comes with the package.
        **changes: Settings of the model that differ from the config's.
    """
    cfg = load_config(config)
    remove_pretrained(cfg)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(dict(cfg.model, **changes))


def random_frames(num_frames: int, size: Sequence[int], device: str) -> torch.Tensor:
    """(num_frames, 3, H, W) noise, ``size`` padded to multiples of 32 as for a model."""
    padded = [-(-side // 32) * 32 for side in size]
    return torch.randn(num_frames, 3, *padded, device=device)


def synchronize(device: torch.device | str) -> None:
    """Wait for what a GPU has been given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
