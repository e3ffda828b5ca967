from .iteration_seed_hook import IterationSeedHook, iteration_seed, seed_generators

__all__ = ["IterationSeedHook", "iteration_seed", "seed_generators"]
