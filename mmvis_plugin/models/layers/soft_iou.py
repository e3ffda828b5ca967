"""Soft intersection over union of masks with values in [0, 1]."""

import torch
from torch import Tensor

from .precision import at_least_float32


def soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """Soft IoU of pairs of masks: ``sum(a * b) / sum(a + b - a * b)``.

    Source: MaskProp (Bertasius & Torresani, CVPR 2020), the sIoU of its loss. Two empty masks,
    where the quotient is 0/0, give 0.

    Args:
        a: (..., P) in [0, 1], P pixels.
        b: (..., P) in [0, 1], broadcastable to ``a``.

    Returns:
        (...) in [0, 1].
    """
    product = a * b
    union = (a + b - product).sum(-1)
    return product.sum(-1) / union.clamp(min=torch.finfo(union.dtype).eps)


def pairwise_soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """Soft IoU of all pairs of two sets of masks, as one matrix product.

    It is computed in float32 (float64 if given) also under autocast: in float16 the intersection
    of large masks would be infinite, in bfloat16 larger than their union.

    Args:
        a: (..., N, P) in [0, 1].
        b: (..., M, P) in [0, 1].

    Returns:
        (..., N, M) in [0, 1].
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = at_least_float32(a), at_least_float32(b)
        intersection = a @ b.transpose(-1, -2)
        union = a.sum(-1)[..., :, None] + b.sum(-1)[..., None, :] - intersection
        return intersection / union.clamp(min=torch.finfo(union.dtype).eps)
