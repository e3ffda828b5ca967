from .iteration_seed_hook import IterationSeedHook, iteration_seed, seed_generators
from .track_vis_hook import TrackVisHook

__all__ = ["IterationSeedHook", "TrackVisHook", "iteration_seed", "seed_generators"]
