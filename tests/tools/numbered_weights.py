"""Weights that tell in which place each of them ends."""

import torch


def numbered(layout):
    """Weights of a layout, key -> shape: all values of the n-th are n; they take no memory."""
    return {
        key: torch.tensor(float(n)).expand(shape) for n, (key, shape) in enumerate(layout.items())
    }
