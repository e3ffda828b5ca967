from .hooks import IterationSeedHook, iteration_seed, seed_generators
from .loops import ResumableIterBasedTrainLoop

__all__ = [
    "IterationSeedHook",
    "ResumableIterBasedTrainLoop",
    "iteration_seed",
    "seed_generators",
]
