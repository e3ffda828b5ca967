"""Randomness of the training process as a function of the iteration."""

import random

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook


def iteration_seed(seed: int, iteration: int, rank: int = 0) -> int:
    """Seed of one training iteration in one process.

    Args:
        seed: Seed of the run, not negative.
        iteration: Number of the iteration, from 0.
        rank: Rank of the process.

    Returns:
        int: In [0, 2**32); unrelated for neighbouring arguments.
    """
    return int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, those of all accelerators included."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed the random generators of each process anew before each training iteration.

    What is drawn while a model trains (RoI sampling, dropout, point sampling) is then a function of
    (seed of the run, iteration, rank) and of nothing else: not of validation in between, of the
    data loader's own draws, or of a stop. A resumed run therefore repeats the uninterrupted one,
    from any checkpoint, and nothing has to be stored. The seed of the run is in every checkpoint of
    MMEngine, and ``tools/train.py --resume`` takes it from there.

    Samples drawn in the workers of a data loader are the dataset's affair: see ``YTVISDataset``.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed this process for the iteration that begins."""
        seed_generators(iteration_seed(runner.seed, runner.iter, runner.rank))
