import random
from types import SimpleNamespace

import numpy as np
import torch

from mmvis_plugin.engine import IterationSeedHook, iteration_seed, seed_generators


def draw():
    return random.random(), np.random.rand(), float(torch.rand(1))


def test_seeds_of_neighbours_differ():
    seeds = {iteration_seed(s, i, r) for s in range(4) for i in range(100) for r in range(4)}
    assert len(seeds) == 1600
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_hook_seeds_each_iteration_of_each_process():
    def drawn(**runner):
        runner = SimpleNamespace(**{**dict(seed=3, iter=5, rank=0), **runner})
        IterationSeedHook().before_train_iter(runner, batch_idx=0)
        return draw()

    first = drawn()
    draw()  # what is drawn in between, in validation for instance, changes nothing
    assert drawn() == first
    for other in (drawn(seed=4), drawn(iter=6), drawn(rank=1)):
        assert all(a != b for a, b in zip(first, other, strict=True))


def test_all_generators_are_seeded():
    seed_generators(1)
    first = draw()
    seed_generators(1)
    assert draw() == first
