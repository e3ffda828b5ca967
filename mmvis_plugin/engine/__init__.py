from .adversarial import (
    AdversarialDistributedDataParallel,
    AdversarialOptimWrapperConstructor,
    adversarial_step,
)
from .hooks import IterationSeedHook, iteration_seed, seed_generators
from .loops import ResumableIterBasedTrainLoop

__all__ = [
    "AdversarialDistributedDataParallel",
    "AdversarialOptimWrapperConstructor",
    "IterationSeedHook",
    "ResumableIterBasedTrainLoop",
    "adversarial_step",
    "iteration_seed",
    "seed_generators",
]
