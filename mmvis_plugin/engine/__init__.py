"""Training loops and hooks."""

from .hooks import IterationSeedHook, TrackVisHook, iteration_seed, seed_generators
from .loops import ResumableIterBasedTrainLoop

__all__ = [
    "IterationSeedHook",
    "ResumableIterBasedTrainLoop",
    "TrackVisHook",
    "iteration_seed",
    "seed_generators",
]
