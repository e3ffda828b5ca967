"""Training loops and hooks."""

from .hooks import IterationSeedHook, TrackVisHook, iteration_seed, seed_generators
from .loops import ResumableIterBasedTrainLoop
from .optim_wrappers import FiniteOptimWrapper

__all__ = [
    "FiniteOptimWrapper",
    "IterationSeedHook",
    "ResumableIterBasedTrainLoop",
    "TrackVisHook",
    "iteration_seed",
    "seed_generators",
]
