from .iteration_seed_hook import IterationSeedHook, iteration_seed, seed_generators
from .lowest_score_hook import LowestScoreHook
from .track_vis_hook import TrackVisHook

__all__ = [
    "IterationSeedHook",
    "LowestScoreHook",
    "TrackVisHook",
    "iteration_seed",
    "seed_generators",
]
