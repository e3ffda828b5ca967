"""Overlap of boxes whose last pixel is inside, as MMDetection 1.x counted it."""

import torch
from torch import Tensor


def legacy_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that are one pixel wider than their coordinates differ.

    MMDetection 3 has no such function: its boxes end where their last pixel does.

    Args:
        a: (..., 4) xyxy in pixels.
        b: (..., 4) likewise; both broadcast, so that ``a[:, None]`` and ``b`` give all pairs.

    Returns:
        (...) in [0, 1] where the sides are not negative.
    """
    lower, upper = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    overlap = (upper - lower + 1).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2] + 1).prod(-1) for boxes in (a, b)]
    return overlap / (areas[0] + areas[1] - overlap)
